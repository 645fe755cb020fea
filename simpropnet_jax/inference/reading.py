"""Supports as a user has them, files or arrays, made into what the network sees."""

import hashlib
import itertools
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from simpropnet_jax.inference import annotations, tiles
from simpropnet_jax.inference.geometry import GRAY, Geometry, View, cut
from simpropnet_jax.io import annotation_files, images, masks
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import MaskOptions

logger = logging.getLogger(__name__)

Picture = str | os.PathLike | np.ndarray | jax.Array | Image.Image
"""A file, a Pillow image, or an array: an image u8 RGB [H, W, 3], or a mask [H, W] or [H, W, 1]; see `images`.

A mask may also be FILE#8 (the pixels of value 8), and COCO's JSON, as FILE.json or FILE.json#CATEGORY."""


class Square(NamedTuple):
    """A support at the size that the network sees; its mask is described already.

    Attributes:
      image, label: the whole support; 0 background, 1 foreground, 255 void.
      close: image and label of its object, magnified like the tiles of a query; None without tiles.
    """

    image: UInt8[np.ndarray, 'S S 3']
    label: UInt8[np.ndarray, 'S S']
    close: tuple[UInt8[np.ndarray, 'S S 3'], UInt8[np.ndarray, 'S S']] | None = None


def hashes(squares: Iterable[Square]) -> frozenset[str]:
    """Return a hash of the mask of each support."""
    return frozenset(hashlib.sha256(one.label.tobytes()).hexdigest() for one in squares)


def warn_of_twins(classes: Sequence[frozenset[str]]) -> bool:
    """Warn if two classes were given the same mask, and return whether they were; see `hashes`."""
    twins = [
        (number, other)
        for (number, one), (other, another) in itertools.combinations(enumerate(classes, 1), 2)
        if one & another
    ]
    for one, other in twins:
        logger.warning('probes %d and %d have the same mask: is one of another class?', one, other)
    return bool(twins)


def read_support(
    image: Picture,
    mask: Picture,
    *,
    mask_value: float | int | None = None,
    mask_threshold: float | int | None = None,
    invert: bool = False,
    crowds: str = 'void',
) -> tuple[UInt8[np.ndarray, 'H W 3'], UInt8[np.ndarray, 'H W']]:
    """An image and its label: 1 foreground, 0 background, 255 void.

    Args:
      image: the picture.
      mask: of the same size.
      mask_value: pixels of this value are the object.
      mask_threshold: pixels of this value and above are the object.
      invert: object and background change places.
      crowds: what annotations with iscrowd 1 are, 'void' or 'object'.
    Raises:
      FileNotFoundError, ValueError: one cannot be read, they differ in size, nothing is foreground, or the meaning of
        the mask is not clear.
    """
    return _read_support(
        image, mask, MaskOptions(mask_value, mask_threshold, invert, crowds).check()
    )


def _read_support(image, mask, options):
    name = _name(mask, 'the mask')
    pixels = as_image(image)
    label = _mask(mask, image, pixels.shape[:2], name, options)
    if label.shape != pixels.shape[:2]:
        turned = label.shape == pixels.shape[1::-1]
        raise ValueError(
            f'{name} is {_size(label)} pixels, but {_name(image, "its image")} is {_size(pixels)}; '
            'a mask must have the size of its image as it is shown'
            + (', turned by its EXIF data: turn the mask too' if turned else '')
        )
    if not (label == FOREGROUND).any():
        found = '0 or void (255 in a palette)' if (label == VOID).any() else '0'
        raise ValueError(
            f'{name} has no foreground: every pixel is {found}; mark the object with another value'
        )
    return pixels, label


def stretched_support(
    image: Picture,
    mask: Picture,
    size: int | Geometry,
    options: MaskOptions = masks.DEFAULT,
    name: str = 'the support',
) -> Square:
    """Return an image and its label as the network sees them.

    Logs how the mask was understood, and warns of what is odd.

    Args:
      image: the picture.
      mask: of the same size.
      size: how the network sees pictures; an integer is the side of the square that they are stretched to.
      options: how to read the mask.
      name: for the log, if the image has no name.
    Raises:
      FileNotFoundError, ValueError: as `read_support`, or no foreground is left.
    """
    pixels, label = _read_support(image, mask, options)
    shape = size if isinstance(size, Geometry) else Geometry(size)
    close = None
    whole = _seen(pixels, label, shape.whole(*label.shape), shape)
    if shape.tiles > 1:
        close = _seen(pixels, label, tiles.close_view(label, shape), shape)
        if not (whole[1] == FOREGROUND).any():
            whole = close
    if not (whole[1] == FOREGROUND).any():
        raise ValueError(
            f'the foreground of {_name(mask, "the mask")} is too small: the network sees '
            f'{_size(whole[1])} of its {_size(label)} pixels, none of them foreground; crop around the object, or '
            'give --tiles'
        )
    name = Path(image).name if isinstance(image, str | os.PathLike) else name
    logger.info('%s', masks.describe_mask(label, name))
    for phrase in masks.oddities(label):
        logger.warning('%s: %s', name, phrase)
    return Square(*whole, close)


def _seen(pixels, label, view: View, shape: Geometry):
    """Return what the network sees of a support in a view: image and label. Bars are void."""
    return (
        cut(pixels, view, shape.size, Image.BILINEAR, GRAY),
        cut(label, view, shape.size, Image.NEAREST, VOID),
    )


def as_image(picture: Picture) -> UInt8[np.ndarray, 'H W 3']:
    """Return the pixels of a picture.

    Raises:
      FileNotFoundError, ValueError: it cannot be read.
    """
    if isinstance(picture, str | os.PathLike):
        return images.read_image(picture)
    if isinstance(picture, Image.Image):
        return images.image_pixels(picture)
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(
            f'an image must be uint8 RGB, [H, W, 3], got {picture.dtype} {list(picture.shape)}'
        )
    return picture


def _mask(mask, image, size, name, options):
    """Return the label of a mask: a file, a Pillow image, an array, or annotations that name the image's file."""
    if isinstance(mask, Image.Image):
        return images.image_label(ImageOps.exif_transpose(mask), name, options)
    if not isinstance(mask, str | os.PathLike):
        return images.mask_label(np.asarray(mask), name, options)
    file, _, category = os.fspath(mask).partition('.json#')
    if not annotation_files.is_meant(mask) and not category:
        return images.read_mask(mask, options)
    if not isinstance(image, str | os.PathLike):
        raise ValueError(f'{mask} finds its annotations by the name of the image: give its file')
    options.check_annotations(mask)
    path = Path(f'{file}.json') if category else Path(mask)
    return annotations.read(path).label(Path(image), category or None, size, options.crowds)


def _name(picture, otherwise):
    return str(picture) if isinstance(picture, str | os.PathLike) else otherwise


def _size(array):
    return f'{array.shape[1]} x {array.shape[0]}'
