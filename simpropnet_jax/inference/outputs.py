"""The files of one picture's answer, and sheets of many: masks, overlays. Each appears whole or not at all."""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from simpropnet_jax.io import images, overlay

ENDINGS = {'mask': '_mask.png', 'overlay': '_overlay.jpg'}
"""Of the files that each picture gets, by kind."""
KINDS = ('mask', 'overlay', 'coco', 'sheet')
"""What may be written; of a picture the first two, of all pictures predictions.json and sheet_001.jpg, ..."""

BAND = 1 << 20  # pixels of an overlay that are made at a time
LONGEST_JPEG = 65_500  # pixels of a side
TILE, COLUMNS, ROWS = (240, 180), 6, 4  # of a sheet


def palette() -> UInt8[np.ndarray, '256 3']:
    """PASCAL VOC's colours: 0 black, 1 dark red, 2 dark green, ..."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colors


def check_kinds(given: Sequence[str]) -> tuple[str, ...]:
    """The kinds of output in one order, each once.

    Raises:
      ValueError: none or an unknown one, or sheets without overlays.
    """
    unknown = sorted(set(given) - set(KINDS))
    if unknown or not given:
        said = ','.join(given) or 'nothing'
        raise ValueError(f'--write must be of {", ".join(KINDS)}, with commas between, got {said}')
    if 'sheet' in given and 'overlay' not in given:
        raise ValueError('a sheet is made of overlays: --write overlay,sheet')
    return tuple(kind for kind in KINDS if kind in given)


def files_of(out: Path, name: str, kinds: Collection[str]) -> dict[str, Path]:
    """Where the files of a picture are, by kind."""
    return {kind: out / f'{name}{ending}' for kind, ending in ENDINGS.items() if kind in kinds}


def write_mask(label: UInt8[np.ndarray, 'H W'], path: Path, named: bool) -> None:
    """Writes a label: with named classes as their numbers in VOC's colours, else as 0 and 255."""
    if not named:
        return _save(Image.fromarray(label * np.uint8(255)), path)
    image = Image.fromarray(label).convert('P')
    image.putpalette(palette().tobytes())
    return _save(image, path)


def write_overlay(
    image: UInt8[np.ndarray, 'H W 3'], label: UInt8[np.ndarray, 'H W'], path: Path, named: bool
) -> None:
    """Writes the picture with each class tinted, at its own size where JPEG allows it."""
    colors = palette() if named else np.array([(0, 0, 0), overlay.PREDICTION], np.uint8)
    height, width = label.shape
    result, step = Image.new('RGB', (width, height)), max(1, BAND // width)
    for start in range(0, height, step):
        first = max(start - 1, 0)  # an outline hangs on the rows above and below
        rows = slice(first, start + step + 1)
        band = overlay.overlay_classes(image[rows], label[rows], colors)
        result.paste(Image.fromarray(band[start - first :][:step]), (0, start))
    if max(result.size) > LONGEST_JPEG:
        result = ImageOps.contain(result, (LONGEST_JPEG, LONGEST_JPEG))
    _save(result, path)


def write_sheets(overlays: Sequence[tuple[str, Path]], out: Path) -> int:
    """Writes OUT/sheet_001.jpg and so on, of the overlays with their names. Returns how many.

    Raises:
      ValueError: an overlay cannot be read.
    """
    a_page = COLUMNS * ROWS
    starts = range(0, len(overlays), a_page)
    for number, start in enumerate(starts, 1):
        tiles = [_tile(name, path) for name, path in overlays[start : start + a_page]]
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % COLUMNS)
        rows = [overlay.beside(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
        _save(Image.fromarray(overlay.below(rows)), out / f'sheet_{number:03d}.jpg')
    return len(starts)


def _tile(name, path):
    """An overlay on white, with the end of its name above it."""
    try:
        with images.opened(path) as image:
            image.draft('RGB', (2 * TILE[0], 2 * TILE[1]))  # read at a fraction of its size
            small = ImageOps.pad(image.convert('RGB'), TILE, color='white')
    except OSError as error:
        raise ValueError(
            f'{path} cannot be read: {error}; with --overwrite all is made anew'
        ) from error
    text = name if len(name) <= 32 else f'...{name[-29:]}'
    return overlay.captioned(np.asarray(small), text.encode('ascii', 'replace').decode())


def _save(image, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        image.save(unfinished, quality=90)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write in place of another: at the end it takes its name, in one step; after an error it goes away."""
    unfinished = path.with_name(f'.unfinished_{path.name}')
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
