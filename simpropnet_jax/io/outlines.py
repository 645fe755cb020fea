"""Masks as polygons, as COCO's JSON has them, and the connected parts of a mask."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64

HALF = 0.5  # the outline runs halfway between pixels of the object and others


def polygons(mask: Bool[np.ndarray, 'H W']) -> list[list[float]]:
    """Return the outlines of a mask, from which COCO's tools draw the same pixels.

    A hole is joined to the outline around it, along a line that is walked there and back: polygons in COCO's JSON have
    no holes.

    Returns:
      [[x, y, x, y, ...], ...]; pixel (row, column) covers y from row to row + 1.
    """
    from contourpy import FillType, contour_generator

    top, left, found = _cropped(mask)
    padded = np.pad(found, 1).astype(np.float32)
    generator = contour_generator(z=padded, fill_type=FillType.OuterOffset)
    result = []
    for points, offsets in zip(*generator.filled(HALF, 2), strict=True):
        rings = [
            _corners(points[start : stop - 1] + (left - HALF, top - HALF))  # the last is the first
            for start, stop in zip(offsets[:-1], offsets[1:], strict=True)
        ]
        outer, *holes = rings
        walked = [outer]
        for hole in holes:
            walked += [outer[:1], hole, hole[:1], outer[:1]]
        result.append(np.concatenate(walked).ravel().tolist())
    return result


def components(mask: Bool[np.ndarray, 'H W']) -> Iterator[Bool[np.ndarray, 'H W']]:
    """Yield the connected parts of a mask, each at the size of the mask; corners connect."""
    from scipy import ndimage

    numbers, _ = ndimage.label(mask, np.ones((3, 3)))
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        part = np.zeros_like(mask)
        part[box] = numbers[box] == number
        yield part


def _cropped(mask) -> tuple[int, int, Bool[np.ndarray, 'h w']]:
    """Return the first row and column that the object has, and the mask around it."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        return 0, 0, mask[:1, :1]
    return int(rows[0]), int(columns[0]), mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _corners(points: Float64[np.ndarray, 'N 2']) -> Float64[np.ndarray, 'M 2']:
    """Return the points of a ring at which it turns."""
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
