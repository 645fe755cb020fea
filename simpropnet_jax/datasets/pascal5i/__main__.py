"""Prepares PASCAL-5i (VOC 2012 with the labels of SBD), from nothing or from what is there already.

    python -m simpropnet_jax.datasets.pascal5i --download --data_dir ~/tensorflow_datasets

or, with the archives at hand, from either set of labels:

    python -m simpropnet_jax.datasets.pascal5i --voc VOCtrainval_11-May-2012.tar --sbd benchmark_RELEASE \\
        --data_dir ~/tensorflow_datasets
    python -m simpropnet_jax.datasets.pascal5i --voc VOCdevkit --aug SegmentationClassAug \\
        --data_dir ~/tensorflow_datasets           # then train with --config.data.name=pascal5i/aug

It checks every image and label, and that there are as many as there should be. A part of the data is taken with
--subset; then train with --config.data.name=pascal5i/subset. ~/tensorflow_datasets is where the configs look; for
another folder, train with --config.data.dir=FOLDER. After an interruption the same command goes on.
"""

import argparse
import sys
from pathlib import Path

from simpropnet_jax.datasets.index import TINY_RULES, Index, counts
from simpropnet_jax.datasets.pascal5i import INDEX_FILE, Pascal5i, archives
from simpropnet_jax.runtime import errors


def main(argv: list[str] | None = None) -> None:
    """Prepares the data set that the flags describe and prints what it found."""
    flags = _parse(argv)
    config = 'subset' if flags.subset else ('sbd' if flags.sbd else 'aug')
    builder = Pascal5i(
        config=config, data_dir=flags.data_dir, voc=flags.voc, sbd=flags.sbd, aug=flags.aug
    )
    index_path = Path(builder.data_dir) / INDEX_FILE
    if index_path.is_file():
        print(
            f'{builder.data_dir} is already prepared and was left as it is; delete it to prepare it anew.'
        )
    else:
        with errors.plain_errors():
            if flags.download:
                _download(flags.download_dir, Path(flags.data_dir).expanduser())
            builder.download_and_prepare()
            if flags.download:
                print(f'The downloads in {flags.download_dir} are not needed any more.')
    print(f'pascal5i/{config} in {builder.data_dir}')
    print(describe(Index.load(index_path), complete=not flags.subset))


def describe(index: Index, complete: bool) -> str:
    """Counts as text: images of each list, then pairs (images) for each fold held out."""
    found = counts(index)
    lines = [
        'images: ' + ', '.join(f'{name} {n:,}' for name, n in found['images'].items()),
        f'{"pairs (images)":<32}' + ''.join(f'{f"fold {fold}":>16}' for fold in range(4)),
    ]
    for rule in TINY_RULES:
        for name, numbers in found[rule].items():
            for suffix in [s for s in ('', '_drop_novel') if f'pairs{s}' in numbers]:
                cells = zip(numbers[f'pairs{suffix}'], numbers[f'images{suffix}'], strict=True)
                row = ''.join(f'{f"{pairs:,} ({images:,})":>16}' for pairs, images in cells)
                lines.append(f'{f"{name} {rule} {suffix[1:]}":<32}{row}')
    if complete:
        lines.append('All counts are those of complete PASCAL-5i.')
    else:
        lines.append(
            'A declared subset: counts are not checked; results on it are not PASCAL-5i results.'
        )
    return '\n'.join(lines)


def _download(folder: Path, data_dir: Path) -> None:
    """Says what disk it takes, then downloads and unpacks; an interruption ends in one sentence."""
    print(archives.disk_needed(folder, data_dir), flush=True)
    try:
        archives.download(folder)
    except KeyboardInterrupt:
        sys.exit('Stopped; the same command goes on from here.')


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags, checked; with --download also those that say where the input is."""
    parser = _parser()
    flags = parser.parse_args(argv)
    if flags.download:
        if flags.voc or flags.sbd or flags.aug:
            parser.error(
                '--download fetches VOC 2012 and SBD itself: leave out --voc, --sbd and --aug'
            )
        flags.download_dir = Path(
            flags.download_dir or Path(flags.data_dir, 'downloads')
        ).expanduser()
        flags.voc, flags.sbd = archives.places(flags.download_dir)
    elif flags.download_dir:
        parser.error('--download_dir is only for --download')
    elif not flags.voc or not (flags.sbd or flags.aug):
        parser.error('give --download, or --voc and one of --sbd and --aug')
    return flags


def _parser() -> argparse.ArgumentParser:
    parser = errors.Parser(__doc__, prog='python -m simpropnet_jax.datasets.pascal5i')
    parser.add_argument(
        '--download', action='store_true', help='fetch VOC 2012 and SBD (3.4 GB) from their servers'
    )
    parser.add_argument(
        '--download_dir', help='the folder to download to (default: downloads in data_dir)'
    )
    parser.add_argument(
        '--voc', help='VOCtrainval_11-May-2012.tar, or the folder VOCdevkit or VOC2012'
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument('--sbd', help='the folder benchmark_RELEASE (SBD, unpacked)')
    labels.add_argument('--aug', help='the folder SegmentationClassAug')
    parser.add_argument(
        '--subset', action='store_true', help='take a part of the data, without checking counts'
    )
    parser.add_argument(
        '--data_dir', required=True, help='the folder to prepare it in, made if it is not there'
    )
    return parser


if __name__ == '__main__':
    main()
