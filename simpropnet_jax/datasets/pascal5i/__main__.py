"""Prepares PASCAL-5i: python -m simpropnet_jax.datasets.pascal5i --voc VOC --sbd SBD --data_dir OUT."""

import argparse
import sys
from pathlib import Path

from simpropnet_jax.datasets.index import TINY_RULES, Index, counts
from simpropnet_jax.datasets.pascal5i import INDEX_FILE, Pascal5i


def main(argv: list[str] | None = None) -> None:
    """Prepares the data set that the flags describe and prints what it found."""
    flags = _parser().parse_args(argv)
    config = 'subset' if flags.subset else ('sbd' if flags.sbd else 'aug')
    builder = Pascal5i(config=config, data_dir=flags.data_dir, voc=flags.voc, sbd=flags.sbd, aug=flags.aug)
    index_path = Path(builder.data_dir) / INDEX_FILE
    if index_path.is_file():
        print(f'{builder.data_dir} is already prepared and was left as it is; delete it to prepare it anew.')
    else:
        try:
            builder.download_and_prepare()
        except (ValueError, OSError) as error:
            sys.exit(f'Error: {error}')
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
        lines.append('A declared subset: counts are not checked; results on it are not PASCAL-5i results.')
    return '\n'.join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m simpropnet_jax.datasets.pascal5i', description=__doc__)
    parser.add_argument(
        '--voc', required=True, help='VOCtrainval_11-May-2012.tar, or the folder VOCdevkit or VOC2012'
    )
    labels = parser.add_mutually_exclusive_group(required=True)
    labels.add_argument('--sbd', help='the folder benchmark_RELEASE (SBD, unpacked)')
    labels.add_argument('--aug', help='the folder SegmentationClassAug')
    parser.add_argument('--subset', action='store_true', help='a part of the input: do not check counts')
    parser.add_argument('--data_dir', required=True, help='the TFDS folder to prepare it in')
    return parser


if __name__ == '__main__':
    main()
