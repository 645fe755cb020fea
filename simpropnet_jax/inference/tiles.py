"""Large pictures in overlapping tiles: where they lie, how examples are magnified, and one answer from all of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from simpropnet_jax.inference import geometry
from simpropnet_jax.inference.geometry import OVERLAP, Geometry, View
from simpropnet_jax.io.labels import FOREGROUND

WHOLE = 0.5  # weight of the view of the whole picture; the tiles have the rest
ROOM = 1.5  # a magnified example shows at least so many times the side of its object
LEAST = 1e-3  # weight of a tile at its border; only where no other tile is does it count


def tile_side(height: int, width: int, tiles: int) -> float:
    """Return the side of the tiles, so that `tiles` of them span the longer side of the picture."""
    return max(height, width) / (tiles - (tiles - 1) * OVERLAP)


def tile_views(height: int, width: int, shape: Geometry) -> list[View]:
    """Return the tiles of a picture, evenly spaced, row by row; none if the picture is seen as a whole only."""
    if shape.tiles == 1:
        return []
    side = tile_side(height, width, shape.tiles)
    return [
        shape.framed((left, top, right, bottom))
        for top, bottom in _intervals(height, side)
        for left, right in _intervals(width, side)
    ]


def _intervals(length, side) -> list[tuple[float, float]]:
    """Return the ends of the tiles along an axis: as few as overlap by `OVERLAP`."""
    side = min(side, length)
    count = 1 + int(np.ceil((length - side) / (side * (1 - OVERLAP)) - 1e-6))
    return [(start, start + side) for start in np.linspace(0, length - side, count).tolist()]


def close_view(label: UInt8[np.ndarray, 'H W'], shape: Geometry) -> View:
    """Return the part of a support that is magnified like the tiles of a query: around its largest object."""
    height, width = label.shape
    rows, columns = _largest(label)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    side = max(tile_side(height, width, shape.tiles), ROOM * extent)
    top, bottom = _around(rows, side, height)
    left, right = _around(columns, side, width)
    return shape.framed((left, top, right, bottom))


def _largest(label) -> tuple[slice, slice]:
    """Return rows and columns of the largest connected part of the foreground."""
    from scipy import ndimage  # slow to import, and only tiles need it

    parts, _ = ndimage.label(label == FOREGROUND)
    sizes = np.bincount(parts.ravel())
    return ndimage.find_objects(parts)[int(sizes[1:].argmax())]


def _around(part: slice, side, length) -> tuple[float, float]:
    """Return the ends of a window around a part, inside the picture."""
    side = min(side, length)
    start = min(max((part.start + part.stop - side) / 2, 0), length - side)
    return float(start), float(start + side)


def merge(
    whole: tuple[Float32[np.ndarray, 'N g g'], View],
    tiles: Sequence[tuple[Float32[np.ndarray, 'N g g'], View]],
    shape: Geometry,
    picture: tuple[int, int],
) -> Float32[np.ndarray, 'N h w']:
    """Return one answer for a picture from the views of it, with aligned corners: see `geometry.points`.

    Tiles count less towards their border, so that no seam shows. Their mean and the view of the whole are averaged.

    Args:
      whole, tiles: answers with their views.
      picture: its height and width.
    """
    views = [view for _, view in (whole, *tiles)]
    rows, columns = (
        geometry.points(picture[axis], min(_spacing(view, axis, shape) for view in views))
        for axis in (0, 1)
    )
    result = geometry.read(*whole, shape, rows, columns)
    if not tiles:
        return result
    total, weights = np.zeros_like(result), np.zeros(result.shape[1:], np.float32)
    for values, view in tiles:
        left, top, right, bottom = view.box
        inside = np.ix_(
            np.flatnonzero((rows > top) & (rows < bottom)),
            np.flatnonzero((columns > left) & (columns < right)),
        )
        own_rows, own_columns = rows[inside[0].ravel()], columns[inside[1].ravel()]
        weight = np.outer(_ramp(own_rows, top, bottom), _ramp(own_columns, left, right))
        total[:, *inside] += weight * geometry.read(values, view, shape, own_rows, own_columns)
        weights[inside] += weight
    return WHOLE * result + (1 - WHOLE) * total / weights


def _spacing(view, axis, shape):
    """Return how many pixels of the picture lie between two points of a view's answer."""
    start, end = view.box[1 - axis], view.box[3 - axis]
    return shape.grid.stride * (end - start) / view.place[3 - axis]


def _ramp(positions, start, end) -> Float32[np.ndarray, ' n']:
    """Return the weights of a tile along an axis: they fall over the overlap to its border."""
    distance = np.minimum(positions - start, end - positions) / (OVERLAP * (end - start))
    return np.clip(distance, LEAST, 1).astype(np.float32)
