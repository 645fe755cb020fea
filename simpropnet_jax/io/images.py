"""Pictures and masks from files of any format, as arrays.

A picture is read as it is shown: turned as its EXIF data say, its first frame, transparent parts on white.

What a mask may be (`masks` has the rule, and refuses what is not clear):
  - one channel (gray, black and white, 16 bits, floats): two values, or ids, of which each is foreground. Beside ids
    below 64, 255 is void: neither foreground nor background. Shades and fractions need a threshold;
  - a palette, as PASCAL VOC's: every index but 0 is foreground, 255 is void. Where another index than 0 is shown black,
    the mask is refused: to the eye, black would be the background. A palette of grays follows the rule of gray;
  - with transparency: what is more opaque than not is foreground; where alpha is the same everywhere, the colours say;
  - colour: every pixel that is not black is foreground. Photographs and soft edges need a threshold.

FILE#8 means the pixels of value 8 in FILE.
"""

import os
import re
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from simpropnet_jax.io import formats, masks
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.io.masks import DEFAULT, MaskOptions

ENDINGS = (
    '.avif',
    '.bmp',
    '.gif',
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
MOST_PIXELS = 200_000_000  # of a picture: larger ones would need gigabytes of memory


def read_image(path: str | os.PathLike) -> UInt8[np.ndarray, 'H W 3']:
    """The picture in a file, RGB.

    16 bits are divided by 257. Whole numbers of 32 bits are taken as 8 bits up to a maximum of 255 and as 16 bits
    above; fractions the same, and as 0 to 1 where none is above 1.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it cannot be read as a picture; names it.
    """
    image = _open(path)
    try:
        return np.asarray(_to_rgb(image))
    except (ValueError, OSError) as error:
        raise ValueError(f'{path} cannot be read as a picture: {error}') from error


def image_pixels(image: Image.Image) -> UInt8[np.ndarray, 'H W 3']:
    """A Pillow image as RGB pixels, turned as its EXIF data say; see `read_image`."""
    return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))


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
    return image_label(_open(file), str(path), options, binary)


def split_value(path: str | os.PathLike) -> tuple[Path, str | None]:
    """Return the file of FILE#VALUE and its value; a file whose own name ends so is taken whole."""
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
    """The label of a palette image, by its indices; by its colours where they are grays."""
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
    """Whether it is a file that by its name is a picture, and not hidden."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith('.') and path.is_file()


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder, by name, without those of its subfolders and hidden ones.

    Raises:
      ValueError: there is none.
    """
    pictures = sorted(path for path in folder.iterdir() if is_picture(path))
    if not pictures:
        raise ValueError(
            f'there are no pictures in {folder}: no file there ends in {", ".join(ENDINGS)}'
        )
    return pictures


def _open(path) -> Image.Image:
    """The first frame of a file, turned as its EXIF data say."""
    if not Path(path).exists():
        raise FileNotFoundError(f'there is no file {path}')
    if Path(path).is_dir():
        raise ValueError(f'{path} is a folder, not a picture')
    if not Path(path).is_file():  # a pipe or a device, which may never end
        raise ValueError(f'{path} is not a file')
    try:
        with opened(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _TooLargeError(
                    f'{path} is {width} x {height} pixels, more than {MOST_PIXELS // 10**6} million: make it smaller'
                )
            image.load()
            return ImageOps.exif_transpose(image)
    except _TooLargeError:
        raise
    except UnidentifiedImageError as error:
        raise ValueError(f'{path} is not a picture of any known format') from error
    except Exception as error:  # damaged: Pillow raises as many types as there are formats
        raise ValueError(f'{path} cannot be read as a picture: {error}') from error


class _TooLargeError(ValueError):
    """More pixels than are read."""


_opening = threading.Lock()


def opened(path) -> Image.Image:
    """Opens a file, of which no pixel is read yet, without Pillow's own limit on their number, which is smaller."""
    with _opening:  # the limit is one for all threads
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=formats.pictures())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode[0] in 'IF':  # I, F, and I;16 in either order of bytes
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if not image.has_transparency_data:
        return image.convert('RGB')
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    return Image.alpha_composite(white, image).convert('RGB')


def _eight_bits(values, mode):
    """Gray values of more than 8 bits as uint8."""
    full_scales = {'F': (1, 255, 65535), 'I': (255, 65535)}.get(mode, (65535,))
    top = values.max()
    fitting = [scale for scale in full_scales if top <= scale]
    if not fitting:
        raise ValueError(f'its values go up to {top}; convert it to 8 or 16 bits')
    return (np.clip(values, 0, None) * (255 / fitting[0]) + 0.5).astype(np.uint8)
