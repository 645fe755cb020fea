"""Run lengths (RLE) of masks, as COCO's JSON has them: down the columns, background first, compressed or not."""

from typing import Any

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as library


def encode(mask: Bool[np.ndarray, 'H W']) -> dict[str, Any]:
    """Return area, bounding box (x, y, width, height) and compressed runs of a mask, as an annotation has them."""
    runs = library.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'area': int(library.area(runs)),
        'bbox': [float(x) for x in library.toBbox(runs)],
        'segmentation': {'size': list(mask.shape), 'counts': runs['counts'].decode('ascii')},
    }


def decode(outline: dict[str, Any], height: int, width: int) -> Bool[np.ndarray, 'H W']:
    """Return the mask of runs. The library would leave pixels unset if the runs are too few for the picture.

    Raises:
      ValueError, TypeError: they are damaged, or of another size.
    """
    if not {'size', 'counts'} <= outline.keys():
        raise ValueError('run lengths need size and counts')
    size, counts = outline['size'], outline['counts']
    if size != [height, width]:
        raise ValueError(f'its size is {size}, the picture has height {height} and width {width}')
    counts = _numbers(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list):
        raise TypeError('its counts must be text or a list of whole numbers')
    if (
        any(type(count) is not int or count < 0 for count in counts)
        or sum(counts) != height * width
    ):
        raise ValueError(f'its runs are not whole numbers that sum up to {height} * {width} pixels')
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _numbers(text: str) -> list[int]:
    """Return compressed runs as numbers."""
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            raise ValueError('its compressed runs are damaged')
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last five bits of this number
            value -= (bits & 16) << shift - 4  # its sign
            counts.append(
                value + (counts[-2] if len(counts) > 2 else 0)
            )  # from the third on: differences
            value, shift = 0, 0
    return counts
