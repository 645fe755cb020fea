"""How the network sees a picture: at which size, stretched or padded, as a whole or also in tiles.

The network takes squares of one size, so that it compiles once for pictures of any size.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped
from PIL import Image

from simpropnet_jax.ops.grid import Grid

FITS = ('stretch', 'pad')
"""What happens to a picture that is not square: it is distorted, or keeps its shape between bars."""
SMALLEST, LARGEST = 33, 2049  # of the network's input
MOST_TILES = 32  # along the longer side
OVERLAP = 0.25  # of neighbouring tiles, as a share of their side
GRAY = (124, 116, 104)  # of the bars; the mean of ImageNet, which the networks see as zero


class View(NamedTuple):
    """A part of a picture, and its place in the network's square.

    Attributes:
      box: left, top, right, bottom in the picture, in pixels from its corner.
      place: left, top, width, height in the square; around it are bars.
    """

    box: tuple[float, float, float, float]
    place: tuple[int, int, int, int]


class Geometry(NamedTuple):
    """How pictures are given to the network.

    Attributes:
      size: side in pixels of the network's square: 8n + 1, or another that fits the grid.
      fit: one of `FITS`.
      tiles: number of tiles along the longer side; 1 means the whole picture only.
      grid: of the network's features and answer.
    """

    size: int
    fit: str = 'stretch'
    tiles: int = 1
    grid: Grid = Grid()

    def check(self) -> 'Geometry':
        """Return itself.

        Raises:
          ValueError: a value is not allowed.
        """
        if not (self.grid.fits(self.size) and self._in_range(self.size)):
            near = self.grid.nearest(min(max(self.size, SMALLEST), LARGEST))
            raise ValueError(
                f'--size must be {self.grid.sizes}, from {SMALLEST} to {LARGEST}, got {self.size}: try {near}'
            )
        if self.fit not in FITS:
            raise ValueError(f'--fit must be one of {", ".join(FITS)}, got {self.fit!r}')
        if not 1 <= self.tiles <= MOST_TILES:
            raise ValueError(f'--tiles must be from 1 to {MOST_TILES}, got {self.tiles}')
        return self

    @staticmethod
    def _in_range(size) -> bool:
        return SMALLEST <= size <= LARGEST

    def whole(self, height: int, width: int) -> View:
        """Return the view of a whole picture."""
        box = (0.0, 0.0, float(width), float(height))
        return self.framed(box) if self.fit == 'pad' else View(box, (0, 0, self.size, self.size))

    def framed(self, box: tuple[float, float, float, float]) -> View:
        """Return the view of a part of a picture that keeps its shape, in the middle of the square."""
        width, height = box[2] - box[0], box[3] - box[1]
        scale = self.size / max(width, height)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        return View(box, ((self.size - inner[0]) // 2, (self.size - inner[1]) // 2, *inner))


def cut(
    array: Shaped[np.ndarray, 'H W *c'], view: View, size: int, method: int, fill
) -> Shaped[np.ndarray, 'S S *c']:
    """Return what the network sees of an image or a label.

    Args:
      method: of Pillow's `resize`.
      fill: value of the bars.
    """
    (left, top, right, bottom), (x, y, width, height) = view
    # Of a large picture only the part is converted, with the pixels around it that the filter reaches.
    margin = int(max((right - left) / width, (bottom - top) / height)) + 2
    x0, y0 = max(int(left) - margin, 0), max(int(top) - margin, 0)
    part = array[y0 : int(bottom) + margin, x0 : int(right) + margin]
    box = (left - x0, top - y0, right - x0, bottom - y0)
    seen = np.asarray(Image.fromarray(part).resize((width, height), method, box=box))
    if (width, height) == (size, size):
        return seen
    square = np.full((size, size, *array.shape[2:]), fill, array.dtype)
    square[y : y + height, x : x + width] = seen
    return square


def interpolation(
    positions: Float32[np.ndarray, ' n'],
    ends: tuple[float, float],
    place: tuple[int, int],
    grid: tuple[int, int],
    half_pixel: bool = False,
) -> Float32[np.ndarray, 'n g']:
    """Return the weights that read a view's answer at positions of the picture, along one axis.

    Args:
      positions: in pixels from the corner of the picture; the middle of its first pixel is 0.5.
      ends: of the view in the picture.
      place: start and length of the view in the square.
      grid: (size of the square, points of the answer); the first and the last point lie in the middle of the square's
        first and last pixel.
      half_pixel: they lie in the middles of equal parts of the square instead.
    """
    size, points = grid
    pixel = place[0] + (positions - ends[0]) * (place[1] / (ends[1] - ends[0])) - 0.5
    if half_pixel:
        at = (pixel + 0.5) * (points / size) - 0.5
    else:
        at = pixel * ((points - 1) / max(size - 1, 1))
    at = np.clip(at, 0, points - 1)
    weights = 1 - np.abs(at[:, None] - np.arange(points))
    return np.maximum(weights, 0).astype(np.float32)


def read(
    values: Float32[np.ndarray, 'N g g'],
    view: View,
    shape: Geometry,
    rows: Float32[np.ndarray, ' h'],
    columns: Float32[np.ndarray, ' w'],
) -> Float32[np.ndarray, 'N h w']:
    """Return a view's answer at the crossings of rows and columns of the picture; outside, its edge is repeated."""
    (left, top, right, bottom), (x, y, width, height) = view
    size, half_pixel = shape.size, shape.grid.half_pixel
    down = interpolation(rows, (top, bottom), (y, height), (size, values.shape[1]), half_pixel)
    across = interpolation(columns, (left, right), (x, width), (size, values.shape[2]), half_pixel)
    return down @ values @ across.T


def points(picture: int, spacing: float) -> Float32[np.ndarray, ' n']:
    """Return the positions along a side at which an answer is kept: from the middle of the first pixel to the last's.

    Args:
      picture: length of the side in pixels.
      spacing: of the network's answer in pixels; the points are twice as dense, so that no detail is lost.
    """
    count = min(picture, max(2, round(2 * picture / spacing) + 1))
    return np.linspace(0.5, picture - 0.5, count, dtype=np.float32)
