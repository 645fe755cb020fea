"""Files and drawings of a visitor, as pictures and examples. All errors are a ValueError of one sentence."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from simpropnet_jax.inference import read_support
from simpropnet_jax.io import annotation_files, images, masks, opening
from simpropnet_jax.io import overlay as visualize
from simpropnet_jax.io.labels import FOREGROUND, VOID

SIDE = 800  # pixels: the longer side of what is kept, shown and given to the network, whose own input is smaller
MOST_PIXELS = 120_000_000  # of a picture


class UploadedPicture(NamedTuple):
    """A picture that was given, reduced to `SIDE`.

    Attributes:
      name: of the file, without its folder.
      image: its pixels.
      size: height and width in the file, as it is shown.
      notes: what reading it stretched or left out.
    """

    name: str
    image: UInt8[np.ndarray, 'h w 3']
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


class PageSupport(NamedTuple):
    """An example: a picture and its label, both at the smaller size."""

    name: str
    image: UInt8[np.ndarray, 'h w 3']
    label: UInt8[np.ndarray, 'h w']  # 1 foreground, 0 background, 255 void


def read_picture(path: str | os.PathLike) -> UploadedPicture:
    """Read a file that a visitor gave; its content says what it is, not its ending.

    Raises:
      ValueError: it is no picture, is damaged, or has more than `MOST_PIXELS`; names the file without its folder.
    """
    with _plain_names(path):
        _check(path)
        found = images.read_picture(path, SIDE)
    pixels = _smaller(found.pixels, Image.BILINEAR)
    return UploadedPicture(Path(path).name, pixels, found.size, tuple(found.notes))


def read_support_files(image: str | os.PathLike, mask: str | os.PathLike) -> PageSupport:
    """Read an example from two files: `images` says what a mask may be; or annotations that name the image.

    Raises:
      ValueError: one cannot be read, they differ in size, or nothing is foreground.
    """
    with _plain_names(image, mask):
        _check(image)
        if not annotation_files.is_meant(mask):
            _check(mask)
        pixels, label = read_support(image, mask)
    return PageSupport(
        Path(image).name, _smaller(pixels, Image.BILINEAR), _smaller(label, Image.NEAREST)
    )


def painted_mask(
    picture: UploadedPicture, layers: Sequence[UInt8[np.ndarray, '_ _ 4']]
) -> Bool[np.ndarray, 'h w']:
    """Return where a layer of paint is at least half as opaque as it is at most.

    Args:
      picture: what is painted on.
      layers: RGBA, of the picture's smaller size, or near to it.
    """
    mask = np.zeros(picture.image.shape[:2], bool)
    for layer in layers:
        alpha = np.asarray(Image.fromarray(layer[..., 3]).resize(mask.shape[::-1], Image.NEAREST))
        mask |= alpha > alpha.max() // 2  # strokes have soft edges
    return mask


def drawn_support(picture: UploadedPicture, mask: Bool[np.ndarray, 'h w']) -> PageSupport:
    """Return an example from a mask that was painted or cut out.

    Raises:
      ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError(
            'nothing is painted yet: paint over the object, or give a mask of it, then add the example'
        )
    return PageSupport(picture.name, picture.image, mask.astype(np.uint8))


def support_overlay(support: PageSupport) -> UInt8[np.ndarray, 'h w 3']:
    """Return an example as it is shown: its foreground tinted, void in gray."""
    return visualize.overlay(
        support.image,
        support.label == FOREGROUND,
        visualize.TRUTH,
        support.label == VOID,
    )


def described(support: PageSupport) -> str:
    """Return an example's name and how its mask is understood: `cat.jpg: object 14.7 %`."""
    return masks.describe_mask(support.label, support.name).removesuffix(', void 0.0 %')


def oddities(support: PageSupport) -> list[str]:
    """Return what looks like a misread mask, a sentence for each oddity; usually none."""
    found = [phrase.removesuffix(' --invert') for phrase in masks.oddities(support.label)]
    return [f'{support.name}: {phrase}' for phrase in found]


@contextlib.contextmanager
def _plain_names(*paths):
    """Name files in errors as the visitor knows them, without their folder here."""
    try:
        yield
    except (ValueError, OSError) as error:
        sentence = str(error)
        for path in paths:
            sentence = sentence.replace(str(path), Path(path).name)
        raise ValueError(sentence) from error
    except MemoryError as error:
        raise ValueError(
            f'there is not enough memory for {Path(paths[0]).name}: make it smaller'
        ) from error


def _check(path):
    """Refuse what is no picture, and by the file's first bytes alone what is too large."""
    with opening.checked(path) as image:
        width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(
            f'{path} has {width} x {height} pixels: {MOST_PIXELS // 10**6} million are the most'
        )


def _smaller(array, method):
    """Return the array with its longer side at most `SIDE` pixels."""
    height, width = array.shape[:2]
    shrink = SIDE / max(height, width)
    if shrink >= 1:
        return array
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(Image.fromarray(array).resize(size, method))
