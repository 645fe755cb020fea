"""Masks from little drawing: outlines are filled, a box or a few clicks are cut out along the edges (GrabCut)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy import ndimage

SIDE = 256  # pixels of the longer side at which edges are followed: a second at most
ROUNDS = 3  # of GrabCut
OUTSIDE, OBJECT, MAYBE_OUTSIDE, MAYBE_OBJECT = range(4)  # OpenCV's numbers

Point = tuple[int, int]  # x, y


class Marks(NamedTuple):
    """What was marked in a picture, in its pixels.

    Attributes:
      corners: of the box, none, one or two.
      inside: points on the object.
      outside: points on the background.
    """

    corners: tuple[Point, ...] = ()
    inside: tuple[Point, ...] = ()
    outside: tuple[Point, ...] = ()

    @property
    def enough(self) -> bool:
        """Whether there is a box, or a point on the object."""
        return len(self.corners) == 2 or bool(self.inside)


def filled(mask: Bool[np.ndarray, 'H W']) -> Bool[np.ndarray, 'H W']:
    """Return a mask with all that its outlines enclose; the picture's border does not close an outline."""
    return ndimage.binary_fill_holes(mask)


def box_of(text: str, width: int, height: int) -> tuple[Point, Point]:
    """Return the corners of a box that is typed as 'left, top, right, bottom' in percent of the picture.

    Raises:
      ValueError: it is no such box.
    """
    try:
        left, top, right, bottom = (float(part) for part in text.replace(',', ' ').split())
    except ValueError:
        left = right = top = bottom = np.nan
    if not (0 <= left < right <= 100 and 0 <= top < bottom <= 100):
        raise ValueError(
            f'a box is left, top, right and bottom in percent, such as 20, 10, 80, 90; got {text or "nothing"}'
        )
    across, down = (width - 1) / 100, (height - 1) / 100
    return (round(left * across), round(top * down)), (round(right * across), round(bottom * down))


def cut_out(image: UInt8[np.ndarray, 'H W 3'], marks: Marks) -> Bool[np.ndarray, 'H W']:
    """Return the object in a box, or around points on it.

    Raises:
      ValueError: neither is marked, the box is empty, or no edge is found.
      ImportError: OpenCV is missing.
    """
    if not marks.enough:
        raise ValueError('mark two corners of a box, or a point on the object')
    height, width = image.shape[:2]
    trimap = np.full((height, width), MAYBE_OUTSIDE, np.uint8)
    if len(marks.corners) == 2:
        xs, ys = (sorted(axis) for axis in zip(*marks.corners, strict=True))
        if min(xs[1] - xs[0], ys[1] - ys[0]) < 3:
            raise ValueError('the box is too small: mark two opposite corners')
        trimap[:] = OUTSIDE
        trimap[ys[0] : ys[1] + 1, xs[0] : xs[1] + 1] = MAYBE_OBJECT
    else:
        trimap[_near(marks.inside, trimap.shape, min(height, width) / 4)] = MAYBE_OBJECT
        trimap[[0, -1]] = trimap[:, [0, -1]] = OUTSIDE
    dot = max(3, min(height, width) / 60)
    trimap[_near(marks.outside, trimap.shape, dot)] = OUTSIDE
    trimap[_near(marks.inside, trimap.shape, dot)] = OBJECT
    return _grab(image, trimap)


def snapped(
    image: UInt8[np.ndarray, 'H W 3'], painted: Bool[np.ndarray, 'H W']
) -> Bool[np.ndarray, 'H W']:
    """Return what was painted roughly, with its outline moved to the edges of the picture.

    Raises:
      ValueError: nothing is painted, or no edge is found.
      ImportError: OpenCV is missing.
    """
    if not painted.any():
        raise ValueError('nothing is painted yet: paint over the object, roughly')
    rough = filled(painted)
    reach = max(3, int(np.sqrt(rough.sum()) / 6))
    from_edge = ndimage.distance_transform_edt(rough)
    to_edge = ndimage.distance_transform_edt(~rough)
    trimap = np.full(rough.shape, OUTSIDE, np.uint8)
    trimap[to_edge <= reach] = MAYBE_OUTSIDE
    trimap[rough] = MAYBE_OBJECT
    trimap[from_edge > min(reach, from_edge.max() * 0.7)] = OBJECT
    return _grab(image, trimap)


def _near(points: Sequence[Point], shape, radius) -> Bool[np.ndarray, 'H W']:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    found = np.zeros(shape, bool)
    for x, y in points:
        found |= (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return found


def _grab(image, trimap) -> Bool[np.ndarray, 'H W']:
    """Return OpenCV's GrabCut, at `SIDE` pixels."""
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "boxes and clicks need OpenCV, which is not installed: pip install -e '.[app]'"
        ) from error
    shrink = min(1, SIDE / max(trimap.shape))
    size = [max(8, round(side * shrink)) for side in trimap.shape[::-1]]
    small = np.array(Image.fromarray(image).resize(size, Image.BOX))
    guess = np.array(Image.fromarray(trimap).resize(size, Image.NEAREST))
    likely = np.isin(guess, (OBJECT, MAYBE_OBJECT))
    if likely.all() or not likely.any():
        raise ValueError('leave some background around the box')
    cv2.setRNGSeed(0)
    cv2.grabCut(
        small, guess, None, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK
    )
    found = np.isin(guess, (OBJECT, MAYBE_OBJECT)).astype(np.uint8) * 255
    big = np.asarray(Image.fromarray(found).resize(trimap.shape[::-1], Image.BILINEAR)) > 127
    if not big.any():
        raise ValueError('no object stands out there: mark more of it, or paint it')
    return big
