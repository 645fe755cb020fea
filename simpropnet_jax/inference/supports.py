"""What --support means: images with masks of one thing, or of several that have names."""

import hashlib
import itertools
import logging
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from simpropnet_jax.inference import annotations
from simpropnet_jax.inference.combine import MOST_CLASSES
from simpropnet_jax.inference.geometry import Geometry
from simpropnet_jax.inference.segmenter import Square, stretched_support
from simpropnet_jax.io import annotation_files, images
from simpropnet_jax.io.masks import DEFAULT, MaskOptions
from simpropnet_jax.runtime import paths

logger = logging.getLogger(__name__)


class Support(NamedTuple):
    """An image and its mask; the mask may be a COCO JSON file, which holds masks of many images."""

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
        image, mask = (paths.expanded(value) for value in values[-2:])
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


def read_all(
    supports: Sequence[Support], size: int | Geometry, options: MaskOptions = DEFAULT
) -> dict[str | None, list[Square]]:
    """The supports of each class, in the order of `categories`, as the network sees them.

    Logs how each mask was understood, and warns of what is odd.

    Args:
      supports: images with masks.
      size: how the network sees pictures; an integer is the side of the square that they are stretched to.
      options: how to read masks of pixels; annotations need none.
    Raises:
      FileNotFoundError, ValueError: one cannot be read, image and mask differ in size, or nothing is foreground.
    """
    squares = {category: [] for category in categories(supports)}
    for one in supports:
        if annotation_files.is_meant(one.mask):
            pair = _annotated(one, size, options)
        else:
            pair = stretched_support(one.image, one.mask, size, options)
        squares[one.category].append(pair)
    _warn_of_twins(squares)
    return squares


def _warn_of_twins(squares):
    """Warn where two classes have the same mask."""
    for (one, pairs), (other, others) in itertools.combinations(squares.items(), 2):
        labels = {pair.label.tobytes() for pair in pairs}
        if any(pair.label.tobytes() in labels for pair in others):
            logger.warning('%s and %s have the same mask', one, other)


def _annotated(support, size, options):
    options.check_annotations(support.mask)
    file, pixels = annotations.read(support.mask), images.read_image(support.image)
    label = file.label(support.image, support.category, pixels.shape[:2], options.crowds)
    try:
        return stretched_support(pixels, label, size, name=support.image.name)
    except ValueError as error:
        raise ValueError(f'{support.image} in {support.mask}: {error}') from error


def fingerprint(squares: Sequence[Square]) -> str:
    """SHA-256 of what the network sees of a class, in hexadecimal."""
    result = hashlib.sha256()
    for square in squares:
        result.update(square.image.tobytes() + square.label.tobytes())
    return result.hexdigest()
