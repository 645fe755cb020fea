"""Pictures and masks from files of any format, as arrays.

A picture is read as it is shown: turned as its EXIF data say, its first frame, transparent parts on white. What is
stretched or left out (more than 8 bits, planes, bands) is logged, each kind once.

What a mask may be (`masks` has the rule, and refuses what is not clear):
  - one channel (gray, black and white, 16 bits, floats): two values, or ids; each id is foreground. Next to ids
    below 64, 255 is void: neither foreground nor background. Shades and fractions need a threshold;
  - a palette, as PASCAL VOC's: every index but 0 is foreground, 255 is void. Where another index than 0 is shown black,
    the mask is refused: to the eye, black would be the background. A palette of grays follows the rule of gray;
  - with transparency: what is more opaque than not is foreground; where alpha is the same everywhere, the colours say;
  - colour: every pixel that is not black is foreground. Photographs and soft edges need a threshold.

FILE#8 means the pixels of value 8 in FILE.
"""

import logging
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from simpropnet_jax.io import masks, opening, rgb
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.io.masks import DEFAULT, MaskOptions
from simpropnet_jax.io.opening import opened

__all__ = ['opened']  # and what is defined here
logger = logging.getLogger(__name__)

ENDINGS = (
    '.avif',
    '.bmp',
    '.gif',
    '.heic',
    '.heif',
    '.hif',
    '.jfif',
    '.jp2',
    '.jpeg',
    '.jpg',
    '.pbm',
    '.pgm',
    '.png',
    '.ppm',
    '.tif',
    '.tiff',
    '.webp',
)
"""Of the files that count as pictures in a folder."""

BLACK = (0, 0, 0)
_said: set[str] = set()  # kinds of notes that were logged


class Reading(NamedTuple):
    """A picture as it was read.

    Attributes:
      pixels: RGB, perhaps reduced.
      size: height and width in the file, as it is shown.
      notes: what was stretched or left out, phrases that begin with a verb.
    """

    pixels: UInt8[np.ndarray, 'H W 3']
    size: tuple[int, int]
    notes: list[str]


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, 'H W 3']:
    """The picture in a file, RGB.

    More than 8 bits: values that use at least half of 0 to 1, 0 to 255 or 0 to 65535 keep that scale; others are
    stretched by the range that they use, and the log says so, once.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it cannot be read as a picture; names it.
    """
    return read_picture(path).pixels


def read_picture(path: str | os.PathLike, side: int | None = None) -> Reading:
    """The picture in a file with its size and notes; logs each kind of note once.

    Args:
      path: the file.
      side: reduce a large picture while it is read, such that its shorter side still has this many pixels.
    Raises:
      FileNotFoundError, ValueError: as `read_image`.
    """
    with opening.checked(path) as image:
        try:
            notes, (width, height) = opening.planes(image), image.size
            if side:
                image.draft(image.mode, (side, side))
            pixels, more = rgb.to_rgb(image, side)
            if image.format == 'TIFF':  # Pillow has turned it
                width, height = image.size
            orientation, damage = opening.orientation(image)
            notes += more + damage
        except Exception as error:  # damaged: Pillow raises as many types as there are formats
            raise ValueError(f'{path} cannot be read as a picture: {error}') from error
    pixels = opening.turned(pixels, orientation)
    _say(path, notes)
    return Reading(pixels, (height, width) if orientation < 5 else (width, height), notes)


def _say(path, notes) -> None:
    """Log notes on a file, each kind once."""
    for note in notes:
        kind = note.partition(' from ')[0]  # without the range of values
        if kind not in _said:
            _said.add(kind)
            logger.warning('%s %s (said once)', path, note)


def image_pixels(image: Image.Image) -> UInt8[np.ndarray, 'H W 3']:
    """A Pillow image as RGB pixels, turned as its EXIF data say; see `read_image`."""
    return opening.turned(rgb.to_rgb(image)[0], opening.orientation(image)[0])


def read_mask(
    path: str | os.PathLike, options: MaskOptions = DEFAULT, binary: bool = False
) -> UInt8[np.ndarray, 'H W']:
    """The mask in a file as a label: 1 foreground, 0 background, 255 void. What it may be: see the module.

    Args:
      path: FILE, or FILE#8 for the pixels of value 8.
      options: how to read it.
      binary: refuse ids as well; for masks of just one object.
    Raises:
      FileNotFoundError, ValueError: there is no such file, it cannot be read as a mask, or its meaning is not clear;
        names it.
    """
    file, value = split_value(path)
    if value is not None:
        if options.explicit:
            raise ValueError(f'{path} names a value; leave out --mask_value and --mask_threshold')
        options = options._replace(mask_value=float(value))
    image, orientation = _loaded(file)
    return opening.turned(image_label(image, str(path), options, binary), orientation)


def read_index(path: str | os.PathLike) -> Shaped[np.ndarray, 'H W']:
    """Return the numbers in an index mask of all classes: indices of a palette, or whole numbers in gray.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it has no such numbers; names it.
    """
    image, orientation = _loaded(path)
    if image.mode not in ('1', 'L', 'P', 'I', 'I;16', 'I;16B'):
        raise ValueError(
            f'{path} is of mode {image.mode}: an index mask has class numbers, in gray or with a palette'
        )
    return opening.turned(np.asarray(image), orientation)


def _loaded(path) -> tuple[Image.Image, int]:
    """Return the first frame of a mask, and how it is turned."""
    with opening.checked(path) as image:
        try:
            image.load()
            orientation, notes = opening.orientation(image)
        except Exception as error:  # damaged: Pillow raises as many types as there are formats
            raise ValueError(f'{path} cannot be read as a picture: {error}') from error
        _say(path, notes)
        return image, orientation


def split_value(path: str | os.PathLike) -> tuple[Path, str | None]:
    """Return the file of FILE#VALUE and its value; an existing file FILE#VALUE is taken whole."""
    named = re.fullmatch(r'(.+)#(\d+)', os.fspath(path))
    if not named or Path(path).exists():
        return Path(path), None
    return Path(named[1]), named[2]


def image_label(
    image: Image.Image, name: str = 'the mask', options: MaskOptions = DEFAULT, binary: bool = False
) -> UInt8[np.ndarray, 'H W']:
    """The label of a mask that is a Pillow image; see `read_mask`."""
    if 'A' in image.getbands():
        alpha = np.asarray(image.getchannel('A'))
        if alpha.min() != alpha.max():
            return masks.label_of_alpha(alpha, name, options)
        image = image.getchannel('L') if image.mode == 'LA' else image.convert('RGB')
    elif len(image.getbands()) > 1:
        image = image.convert('RGB')  # in CMYK and YCbCr black is not zero
    values = np.asarray(image)
    if image.mode == 'P':
        return _palette_label(image, values, name, options, binary)
    if values.ndim == 3:
        return masks.label_of_colours(values, name, options, binary)
    return masks.label_of_values(values, name, options, binary)


def mask_label(
    values: Shaped[np.ndarray, '...'], name: str = 'the mask', options: MaskOptions = DEFAULT
) -> UInt8[np.ndarray, 'H W']:
    """A mask in an array as a label: 1 foreground, 0 background, 255 void.

    Args:
      values: bool or numbers [H, W] or [H, W, 1]; or colours u8 [H, W, 3], with alpha [H, W, 4].
      name: of the mask, for the error.
      options: how to read it.
    Raises:
      ValueError: another shape, or the meaning is not clear.
    """
    values = np.asarray(values)
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[-1] in (3, 4) and values.dtype == np.uint8:
        return image_label(Image.fromarray(values), name, options)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f'{name} must have the shape [H, W] or [H, W, 1], got {list(values.shape)}'
        )
    if values.dtype.kind == 'V' or values.dtype.name in ('bfloat16', 'float16'):
        values = values.astype(np.float32)
    return masks.label_of_values(values, name, options)


def _palette_label(image, values, name, options, binary):
    """Return the label of a palette image by its indices, or by its colours if all are grays."""
    if options.explicit:
        return masks.label_of_values(values, name, options)
    colours = np.reshape(image.getpalette('RGB'), (-1, 3)).astype(np.uint8)
    used = np.unique(values)
    used = used[used < len(colours)]
    grays = colours[used]
    if used.size > 2 and (grays == grays[:, :1]).all():
        return masks.label_of_values(colours[values][..., 0], name, options, binary)
    if binary and np.setdiff1d(used, (0, VOID)).size > 1:
        return masks.label_of_values(values, name, binary=True)
    if used.size > masks.MANY:
        masks.label_of_colours(colours[np.minimum(values, len(colours) - 1)], name)
    if not options.invert:
        _check_palette(image, values, name)
    objects = values[values != VOID]
    if objects.size and objects.min() > 0 and used.size > 1 and VOID not in used:
        return masks.label_of_values(values, name)  # which refuses: nothing is background
    label = np.where(values == VOID, np.uint8(VOID), (values > 0).astype(np.uint8))
    return np.where(label == VOID, label, 1 - label).astype(np.uint8) if options.invert else label


def _check_palette(image, values, path):
    """Refuses a mask that reads, by its indices, the other way round than it looks, by its colours."""
    shown = [
        tuple(image.getpalette('RGB')[3 * i : 3 * i + 3]) for i in (0, *np.unique(values).tolist())
    ]
    if shown[0] != BLACK and BLACK in shown:
        raise ValueError(
            f'{path} has a palette in which 0, the background, is shown as the colour {shown[0]}, and another index as '
            'black, so that it is not clear what is foreground; save it in black and white, without a palette'
        )


def is_picture(path: Path) -> bool:
    """Whether it is a file that by its name is a picture, and not hidden; reading a dangling link then names it."""
    named = path.suffix.lower() in ENDINGS and not path.name.startswith('.')
    return named and (path.is_file() or (path.is_symlink() and not path.exists()))


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder by name, without subfolders and hidden files.

    Raises:
      ValueError: there is none.
    """
    pictures = sorted(path for path in folder.iterdir() if is_picture(path))
    if not pictures:
        raise ValueError(
            f'there are no pictures in {folder}: no file there ends in {", ".join(ENDINGS)}'
        )
    return pictures
