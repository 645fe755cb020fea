"""Pillow images as RGB of 8 bits: more bits are stretched, transparent parts are shown on white.

Large pictures are turned into arrays in bands of rows, so that reading one takes 7 bytes a pixel at most, and 4 where a
smaller picture is asked for.
"""

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from simpropnet_jax.io import opening

BAND = 1 << 22  # pixels that are converted at a time
SAMPLED = 1 << 20  # pixels from which the used range is measured
TAILS = (0.1, 99.9)  # percentiles of the used range: a hot pixel or two do not count
SCALES = {'F': (1, 255, 65535), 'I': (255, 65535)}  # full scales by mode; 16 bits otherwise
NEARLY_CLEAR, NEARLY_SOLID = 8, 247  # of alpha
MOST_LEVELS = 64  # of an alpha channel that may be another band
SWAPPED = {'16B': '16L', '16L': '16B', '16N': '16B'}  # Pillow's raw modes that give the low byte


def to_rgb(
    image: Image.Image, side: int | None = None
) -> tuple[UInt8[np.ndarray, 'H W 3'], list[str]]:
    """Return an image as RGB, and notes on what was stretched or left out.

    Args:
      image: Pillow's, of any mode.
      side: reduce by a whole factor, such that the shorter side has at least this many pixels.
    Raises:
      ValueError, OSError: it is damaged.
    """
    notes = []
    if image.mode[0] in 'IF':  # I, F, and I;16 in either order of bytes
        values, notes = eight_bits(np.asarray(image), image.mode)
        image = Image.fromarray(values)
    elif (deep := _sixteen_bits(image)) is not None:
        values, notes = eight_bits(deep[..., :3], 'I;16')
        alpha = (deep[..., 3:] * (255 / max(1, deep[..., 3:].max(initial=1)))).astype(np.uint8)
        image = Image.fromarray(np.concatenate([values, alpha], -1))
    clear = image.has_transparency_data
    if clear and _is_band(image):
        notes.append('has a fourth band that does not look like transparency: it is left out')
        clear = False
    return _in_bands(image, side, clear), notes


def eight_bits(
    values: Shaped[np.ndarray, '...'], mode: str
) -> tuple[UInt8[np.ndarray, '...'], list[str]]:
    """Return values of more than 8 bits as uint8, and a note if they were stretched.

    Values that use at least half of 0 to 1 (fractions), 0 to 255 or 0 to 65535 keep that scale: 16 bits are divided by
    257. Others are stretched by the range that they use.

    Args:
      values: numbers; NaN becomes 0.
      mode: Pillow's.
    """
    finite = np.isfinite(values)
    values = np.where(finite, values, values[finite].min() if finite.any() else 0)
    low, high = float(values.min()), float(values.max())
    fitting = [scale for scale in SCALES.get(mode, (65535,)) if scale / 2 <= high <= scale]
    if (low >= 0 and fitting) or low == high:
        start, end, notes = 0.0, float(fitting[0] if fitting else max(high, 65535)), []
    else:
        start, end = _used_range(values)
        notes = [f'has values from {low:.6g} to {high:.6g}: its used range is stretched to 8 bits']
    result = np.empty(values.shape, np.uint8)
    step = max(1, BAND // max(1, values[0].size))
    for row in range(0, len(values), step):
        scaled = (values[row : row + step].astype(np.float64) - start) * (255 / (end - start))
        result[row : row + step] = np.clip(scaled + 0.5, 0, 255)
    return result, notes


def _used_range(values) -> tuple[float, float]:
    sample = values.ravel()[:: max(1, values.size // SAMPLED)]
    low, high = np.percentile(sample, TAILS)
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def _sixteen_bits(image) -> np.ndarray | None:
    """Return 16-bit values in several bands, of which Pillow itself gives the high bytes; None for other files.

    The file is read twice, once as Pillow would and once in the other order of bytes.
    """
    tiles = getattr(image, 'tile', None)
    raw = [tile.args if isinstance(tile.args, str) else tile.args[0] for tile in tiles or ()]
    deep = [mode for mode in raw if isinstance(mode, str) and mode[:3].upper() == 'RGB']
    if (
        not deep
        or not image.filename
        or len(deep) < len(raw)
        or not all(mode[-3:] in SWAPPED for mode in deep)
    ):
        return None
    high = np.asarray(image)
    if high[..., :3].max() >= 128:  # the scale is used: 8 bits are enough
        return None
    with opening.opened(image.filename) as again:
        again.tile = [tile._replace(args=_swapped(tile.args)) for tile in again.tile]
        return (high.astype(np.uint16) << 8) | np.asarray(again)


def _swapped(args):
    if isinstance(args, str):
        return args[:-3] + SWAPPED[args[-3:]]
    return (_swapped(args[0]), *args[1:])


def _is_band(image) -> bool:
    """Whether what is tagged as alpha looks like a picture, such as near infrared: of many levels, mostly between."""
    if 'A' not in image.getbands():
        return False
    alpha = image.getchannel('A')
    histogram = np.array(alpha.histogram())
    between = histogram[NEARLY_CLEAR:NEARLY_SOLID].sum()
    return bool((histogram > 0).sum() > MOST_LEVELS and between > histogram.sum() / 2)


def _in_bands(image, side, clear) -> np.ndarray:
    """Return RGB pixels, reduced while they are converted; transparent parts on white where some are clear."""
    width, height = image.size
    factor = max(1, min(width, height) // side) if side else 1
    step = max(1, BAND // width // factor) * factor
    result = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    for row in range(0, height, step):
        band = image.crop((0, row, width, min(row + step, height)))
        band = _on_white(band) if clear else band.convert('RGB')
        pixels = np.asarray(band.reduce(factor))
        result[row // factor :][: len(pixels)] = pixels
    return result


def _on_white(image) -> Image.Image:
    image = image.convert('RGBA')
    white = Image.new('RGBA', image.size, 'white')
    return Image.alpha_composite(white, image).convert('RGB')
