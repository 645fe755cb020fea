"""The disk space that preparing a data set takes."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

GB = 1e9


def prepared(image_bytes: int) -> dict[str, int]:
    """Return estimates of bytes: records of images with their labels, and the same once more while they are written."""
    records = round(1.05 * image_bytes) + 10_000_000
    return {'the prepared data set': records, 'temporary, while it is written': records}


def needed(folder: Path, parts: Mapping[str, int]) -> str:
    """Describe the disk space that is needed in a folder.

    Raises:
      OSError: too little is free.
    """
    place = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    total, free = sum(parts.values()), shutil.disk_usage(place).free
    if free < total:
        raise OSError(
            f'{total / GB:.1f} GB are needed in {folder}, but only {free / GB:.1f} GB are free there. Free some, or '
            'give another --data_dir'
        )
    lines = [f'{size / GB:6.1f} GB  {what}' for what, size in parts.items()]
    return '\n'.join(['Disk needed:', *lines, f'{free / GB:6.1f} GB  free in {folder}'])


def used(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(
        os.path.getsize(os.path.join(root, name))
        for root, _, names in os.walk(folder)
        for name in names
    )
