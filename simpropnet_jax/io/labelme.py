"""Annotations in labelme's own JSON, a file for each picture, turned into COCO's.

Polygons, boxes, circles and brush masks are drawn; points and lines have no area. `__ignore__` is a crowd.
"""

import base64
import binascii
import io
import math
import os
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from simpropnet_jax.io import coco, run_lengths

CORNERS = 64  # of the polygon that stands for a circle
IGNORED = '__ignore__'


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None  # a PNG in base64, at the size of its box


class _File(msgspec.Struct):
    shapes: list[_Shape]
    file: str = msgspec.field(name='imagePath')
    height: int | None = msgspec.field(name='imageHeight', default=None)
    width: int | None = msgspec.field(name='imageWidth', default=None)


def is_meant(content: Any) -> bool:
    """Return whether the content of a JSON file is labelme's."""
    return isinstance(content, dict) and {'shapes', 'imagePath'} <= content.keys()


def parse(content: Any, path: str | os.PathLike) -> coco.Annotated:
    """Return the picture, labels and shapes of a file's content.

    Args:
      content: what the JSON holds.
      path: of the file, for messages.
    Raises:
      ValueError: an entry is missing or of another type (names it), or a brush mask is damaged.
    """
    try:
        file = msgspec.convert(content, _File)
        if not all(
            side is None or 1 <= side <= coco.MOST_SIDE for side in (file.height, file.width)
        ):
            raise ValueError(f'its picture is {file.width} x {file.height} pixels')
        annotations = [
            coco.Annotation(number, 0, one.label, one.label == IGNORED, _segmentation(one, file))
            for number, one in enumerate(file.shapes)
        ]
    except (ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} cannot be read as labelme's JSON: {error}") from error
    picture = coco.AnnotatedPicture(file.file, file.height, file.width)
    return coco.Annotated({0: picture}, {one.label: one.label for one in file.shapes}, annotations)


def _segmentation(shape, file) -> Any:
    """Return a shape as polygons or run lengths; None: it has no area."""
    points = shape.points
    match shape.shape_type:
        case 'mask' if shape.mask is not None and points:
            return _brush(shape, file)
        case 'rectangle' if len(points) == 2:
            (left, top), (right, bottom) = points
            return [[left, top, right, top, right, bottom, left, bottom]]
        case 'circle' if len(points) == 2:
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            angles = [2 * math.pi * i / CORNERS for i in range(CORNERS)]
            corners = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
            return [[value for corner in corners for value in corner]]
        case None | 'polygon' | 'oriented_rectangle' | 'rectangle':
            return [[value for point in points for value in point]]
    return None


def _brush(shape, file) -> dict[str, Any]:
    """Return a mask that was painted, at the size of the picture."""
    if file.height is None or file.width is None:
        raise ValueError('it has a mask, but neither imageHeight nor imageWidth')
    if file.height * file.width > coco.MOST_PIXELS:
        raise ValueError(f'its picture is {file.width} x {file.height} pixels')
    try:
        content = io.BytesIO(base64.b64decode(shape.mask, validate=True))
        with Image.open(content, formats=('PNG',)) as image:
            if image.width > file.width or image.height > file.height:
                raise ValueError(f'the mask of {shape.label!r} is larger than the picture')
            painted = np.asarray(image.convert('L')) > 0
    except (binascii.Error, OSError) as error:
        raise ValueError(f'the mask of {shape.label!r} is damaged ({error})') from error
    left, top = (int(value) for value in shape.points[0])
    height, width = painted.shape
    if left < 0 or top < 0 or left + width > file.width or top + height > file.height:
        raise ValueError(f'the mask of {shape.label!r} lies outside the picture')
    whole = np.zeros((file.height, file.width), bool)
    whole[top : top + height, left : left + width] = painted
    return run_lengths.encode(whole)['segmentation']
