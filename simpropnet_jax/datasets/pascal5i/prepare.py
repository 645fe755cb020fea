"""Prepare PASCAL-5i from downloads or existing files, and describe the result."""

import sys
from pathlib import Path

from simpropnet_jax.datasets.index import TINY_RULES, Index, counts
from simpropnet_jax.datasets.pascal5i import INDEX_FILE, Pascal5i, archives
from simpropnet_jax.runtime import paths


def prepare(
    data_dir: str,
    *,
    voc: str | Path | None = None,
    sbd: str | Path | None = None,
    aug: str | Path | None = None,
    subset: bool = False,
    download_dir: Path | None = None,
) -> None:
    """Prepare PASCAL-5i and print its counts; an existing prepared data set is not changed.

    Args:
      data_dir: folder for the prepared data.
      voc, sbd, aug: the input, see `inputs.find_inputs`.
      subset: accept a part of the data, without checking counts.
      download_dir: folder to download VOC 2012 and SBD to; None: nothing is downloaded.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    if download_dir is not None:
        voc, sbd = archives.places(download_dir)
    config = 'subset' if subset else ('sbd' if sbd else 'aug')
    builder = Pascal5i(config=config, data_dir=data_dir, voc=voc, sbd=sbd, aug=aug)
    index_path = Path(builder.data_dir) / INDEX_FILE
    if index_path.is_file():
        print(
            f'{builder.data_dir} is already prepared and is left as it is. Delete it to prepare it again.'
        )
    else:
        if download_dir is not None:
            _download(download_dir, paths.expanded(data_dir))
        builder.download_and_prepare()
        if download_dir is not None:
            print(f'The downloads in {download_dir} are not needed any more.')
    print(f'pascal5i/{config} in {builder.data_dir}')
    print(describe(Index.load(index_path), complete=not subset))


def describe(index: Index, complete: bool) -> str:
    """Return counts as text: images of each list, then pairs (images) for each fold held out."""
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
    """Print the disk space needed, then download and unpack; an interruption ends in one sentence."""
    print(archives.disk_needed(folder, data_dir), flush=True)
    try:
        archives.download(folder)
    except KeyboardInterrupt:
        sys.exit('Stopped. Re-run the same command to resume.')
