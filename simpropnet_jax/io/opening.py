"""Files as Pillow images: only known formats, of bounded size; how a picture is turned, what of a stack is left out."""

import os
import re
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from PIL import ExifTags, Image, UnidentifiedImageError

from simpropnet_jax.io import formats

MOST_PIXELS = 200_000_000  # of a picture: larger ones would need gigabytes of memory
DESCRIPTION, SAMPLES = 270, 277  # tags of TIFF
NAMES_SHOWN = 8  # of OME channels, in a message


class TooLargeError(ValueError):
    """More pixels than are read."""


_opening = threading.Lock()


def opened(path: str | os.PathLike) -> Image.Image:
    """Open a file without reading pixels, and without Pillow's own limit on their number, which is smaller."""
    with _opening:  # the limit is one for all threads
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=formats.pictures())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def checked(path: str | os.PathLike) -> Image.Image:
    """Open a file as `opened` does; no pixel is read yet.

    Raises:
      FileNotFoundError, ValueError: no such file, of no known format, or too large; names it.
    """
    _check_file(Path(path))
    try:
        image = opened(path)
    except UnidentifiedImageError as error:
        raise ValueError(f'{path} {_unknown(path)}') from error
    except Exception as error:  # damaged: Pillow raises as many types as there are formats
        raise ValueError(f'{path} cannot be read as a picture: {error}') from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        image.close()
        raise TooLargeError(
            f'{path} is {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million: make it smaller'
        )
    return image


def _check_file(path: Path) -> None:
    if path.is_symlink() and not path.exists():
        target = os.readlink(path)
        raise FileNotFoundError(f'{path} is a link to {target}, which does not exist')
    if not path.exists():
        raise FileNotFoundError(f'there is no file {path}')
    if path.is_dir():
        raise ValueError(f'{path} is a folder, not a picture')
    if not path.is_file():  # a pipe or a device, which may never end
        raise ValueError(f'{path} is not a file')


def orientation(image: Image.Image) -> tuple[int, list[str]]:
    """Return the EXIF orientation, 1 to 8, and notes: damaged EXIF data turn nothing."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many types for damaged EXIF data
        return 1, ['has damaged EXIF data, which are ignored']
    return (found if found in range(1, 9) else 1), []


def turned(pixels: Shaped[np.ndarray, '...'], orientation: int) -> Shaped[np.ndarray, '...']:
    """Return pixels [H, W] or [H, W, C] as they are shown, by an EXIF orientation."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def planes(image: Image.Image) -> list[str]:
    """Return notes on what of a TIFF is left out: other planes of a stack, other bands."""
    if image.format != 'TIFF':
        return []
    notes, named = [], _ome(image)
    count = _equal_planes(image)
    if count > 1:
        notes.append(f'has {count} planes{named}: the first is read; save another as its own file')
    samples = image.tag_v2.get(SAMPLES, 1)
    if samples > max(len(image.getbands()), 3):
        notes.append(f'has {samples} bands: the first three are read as red, green and blue')
    return notes


def _equal_planes(image) -> int:
    """Count the planes of the first one's size: others are thumbnails or lower levels of a pyramid."""
    size, count = image.size, 0
    try:
        for number in range(image.n_frames):
            image.seek(number)
            count += image.size == size
        image.seek(0)
    except Exception:  # damaged after the first plane
        image.seek(0)
    return count


def _ome(image) -> str:
    """Return the sizes and channels that OME's description names, as ' (C=2 Z=3; DAPI, GFP)'; else ''."""
    text = str(image.tag_v2.get(DESCRIPTION, ''))
    if '<OME' not in text:
        return ''
    pixels = re.search(r'<(?:\w+:)?Pixels\b[^>]*>', text)
    sizes = dict(re.findall(r'\bSize([CZT])="(\d+)"', pixels[0])) if pixels else {}
    said = ' '.join(f'{axis}={count}' for axis, count in sizes.items() if count != '1')
    names = re.findall(r'<(?:\w+:)?Channel\b[^>]*?\bName="([^"]*)"', text)[:NAMES_SHOWN]
    parts = [part for part in (said, ', '.join(names)) if part]
    return f' ({"; ".join(parts)})' if parts else ''


def _unknown(path) -> str:
    """Return why a file of no known format is refused, where its first bytes say more."""
    with open(path, 'rb') as file:
        start = file.read(16)
    if start[4:8] == b'ftyp' and start[8:12].startswith((b'he', b'mif1', b'msf1')):
        return "is HEIC, which needs pillow-heif: pip install 'simpropnet-jax[heic]'"
    if start[:4] in (b'II*\0', b'MM\0*'):
        return (
            'is a TIFF of a kind that is not read: save it with one or three bands of 8 or 16 bits'
        )
    return 'is not a picture of any known format'
