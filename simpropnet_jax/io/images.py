"""Pictures and masks from files of any format, as arrays.

A picture is read as it is shown: turned as its EXIF data say, its first frame, transparent parts on white.

What a mask may be:
  - one channel (gray, black and white, 16 bits): every value but 0 is foreground. 255 is foreground too, but beside
    other values (class ids, or 1) it is void: neither foreground nor background. Shades of gray up to 255 are refused;
  - a palette, as PASCAL VOC's: every index but 0 is foreground, 255 is void. Where another index than 0 is shown black,
    the mask is refused: to the eye, black would be the background;
  - with transparency: what is not fully transparent is foreground; where alpha is the same everywhere, the colours say;
  - colour: every pixel that is not black is foreground.
"""

import os
import threading
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from simpropnet_jax.io.labels import VOID

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
# Class ids end far below, shades of gray (soft edges, JPEG) do not: beside 255 such a value cannot mean a class.
LOWEST_SHADE = 200


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


def read_mask(path: str | os.PathLike) -> UInt8[np.ndarray, 'H W']:
    """The mask in a file as a label: 1 foreground, 0 background, 255 void. What it may be: see the module.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it cannot be read as a mask; names it.
    """
    image = _open(path)
    if 'A' in image.getbands():
        alpha = np.asarray(image.getchannel('A'))
        if alpha.min() != alpha.max():
            return (alpha > 0).astype(np.uint8)
        image = image.getchannel('L') if image.mode == 'LA' else image.convert('RGB')
    elif len(image.getbands()) > 1:
        image = image.convert('RGB')  # in CMYK and YCbCr black is not zero
    values = np.asarray(image)
    if image.mode == 'P':
        _check_palette(image, values, path)
        return np.where(values == VOID, np.uint8(VOID), (values > 0).astype(np.uint8))
    if values.ndim == 3:
        return values.any(-1).astype(np.uint8)
    return mask_label(values, str(path))


def mask_label(
    values: Shaped[np.ndarray, 'H W'], name: str = 'the mask'
) -> UInt8[np.ndarray, 'H W']:
    """A mask of one channel as a label: 1 where it is not 0, but 255 (void) where it is 255 beside other values.

    Args:
      values: bool or numbers.
      name: of the mask, for the error.
    Raises:
      ValueError: shades of gray up to 255, which may be soft edges or class ids.
    """
    others = np.setdiff1d(values, (0, VOID))
    label = (values != 0).astype(np.uint8)
    full = values == VOID
    if others.size and full.any():
        shades = others[(others >= LOWEST_SHADE) & (others < VOID)]
        if shades.size:
            raise ValueError(
                f'{name} has shades of gray ({shades[-1]} beside 255), so that it is not clear what is foreground; '
                'save it with two values, 0 and 255, without soft edges and not as JPEG'
            )
        label[full] = VOID
    return label


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
            return Image.open(path)
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
