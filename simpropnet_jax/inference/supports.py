"""What --support means: images with masks of one thing, or of several that have names."""

import hashlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simpropnet_jax.inference.annotations import Annotations
from simpropnet_jax.inference.combine import MOST_CLASSES
from simpropnet_jax.inference.segmenter import stretched_support
from simpropnet_jax.io import images

Square = tuple[np.ndarray, np.ndarray]
"""Image u8 [S, S, 3] and label u8 [S, S] (0, 1, 255) at the size that the network sees."""


class Support(NamedTuple):
    """An image and its mask; the mask may be a COCO JSON file, which holds those of many images."""

    category: str | None  # None: there is one class, without a name
    image: Path
    mask: Path


def parse(given: Sequence[Sequence[str | PathLike]]) -> list[Support]:
    """Supports from the values of each --support: IMAGE MASK, or CLASS IMAGE MASK.

    Raises:
      ValueError: none, another number of values, both kinds, or more classes than a mask of 8 bits can tell apart.
    """
    if not given:
        raise ValueError('there is no support: give at least one image with its mask')
    supports = []
    for values in given:
        if len(values) not in (2, 3):
            said = ' '.join(map(str, values))
            raise ValueError(
                f'--support takes IMAGE MASK, or CLASS IMAGE MASK, got {len(values)} values: {said}'
            )
        category = str(values[0]).strip() if len(values) == 3 else None
        if category == '':
            raise ValueError('a class of --support has no name')
        image, mask = (Path(value).expanduser() for value in values[-2:])
        supports.append(Support(category, image, mask))
    if len({one.category is None for one in supports}) > 1:
        unnamed = next(one for one in supports if one.category is None)
        raise ValueError(
            f'--support {unnamed.image} {unnamed.mask} has no class, but others have: name one for each'
        )
    if len(categories(supports)) > MOST_CLASSES:
        raise ValueError(f'there are {len(categories(supports))} classes, more than {MOST_CLASSES}')
    return supports


def categories(supports: Sequence[Support]) -> list[str | None]:
    """The classes, in the order in which they were named first."""
    return list(dict.fromkeys(one.category for one in supports))


def read_all(supports: Sequence[Support], size: int) -> dict[str | None, list[Square]]:
    """The supports of each class, in the order of `categories`, as the network sees them.

    Raises:
      FileNotFoundError, ValueError: one cannot be read, image and mask differ in size, or nothing is foreground.
    """
    files: dict[Path, Annotations] = {}  # a large one takes seconds to read
    squares = {category: [] for category in categories(supports)}
    for one in supports:
        if one.mask.suffix.lower() == '.json':
            if one.mask not in files:
                files[one.mask] = Annotations(one.mask)
            pair = _annotated(files[one.mask], one, size)
        else:
            pair = stretched_support(one.image, one.mask, size)
        squares[one.category].append(pair)
    return squares


def _annotated(file, support, size):
    pixels = images.read_image(support.image)
    label = file.label(support.image, support.category, pixels.shape[:2])
    try:
        return stretched_support(pixels, label, size)
    except ValueError as error:
        raise ValueError(f'{support.image} in {support.mask}: {error}') from error


def fingerprint(squares: Sequence[Square]) -> str:
    """SHA-256 of what the network sees of a class, in hexadecimal."""
    result = hashlib.sha256()
    for image, label in squares:
        result.update(image.tobytes() + label.tobytes())
    return result.hexdigest()
