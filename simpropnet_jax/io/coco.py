"""Annotations in COCO's JSON as masks.

    annotated = coco.parse(json.loads(text), 'instances.json')
    for annotation in annotated.annotations:
        mask = coco.mask(annotation, annotated.images[annotation.image])

`annotation_files.read` reads the file. What tools write that is no mask (boxes, two points) is told by `outline`.
https://cocodataset.org/#format-data
"""

import json
import math
import os
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as library

from simpropnet_jax.io import run_lengths

Id = int | str
MOST_SIDE = 1_000_000  # pixels
MOST_PIXELS = 200_000_000  # of a mask; as of a picture
NO_MASK = 'annotation without a mask, but perhaps with a box (not used)'
TOO_SHORT = 'polygon of fewer than three points (not used)'
CROWD_AS_VOID = 'crowd (iscrowd 1), read as void: --crowds object reads it as an object'
CROWD_AS_OBJECT = 'crowd (iscrowd 1), read as an object'
FLAT = 'flat list of numbers (read as one polygon)'
FORM = (
    'It has images (id, file_name, height, width), categories (id, name) and annotations (image_id, category_id, '
    'segmentation)'
)


class AnnotatedPicture(NamedTuple):
    """An entry of "images": a file, as a path below the folder of pictures or a URL, and its size.

    Attributes:
      file: see `file_names` for what tools write.
      height, width: in pixels; None: not said.
    """

    file: str
    height: int | None = None
    width: int | None = None


class Annotation(NamedTuple):
    """An entry of "annotations".

    Attributes:
      id, image, category: ids, as the file has them.
      crowd: iscrowd: a region with several objects, not told apart.
      segmentation: polygons [[x, y, x, y, ...], ...] or {'size': [height, width], 'counts': run lengths}.
    """

    id: Id
    image: Id
    category: Id
    crowd: bool
    segmentation: Any


class Annotated(NamedTuple):
    """What a file holds; images and categories (their names) by id."""

    images: dict[Id, AnnotatedPicture]
    categories: dict[Id, str]
    annotations: list[Annotation]


def parse(content: Any, path: str | os.PathLike) -> Annotated:
    """Return the images, categories and annotations of a file's content; masks are decoded by `mask`.

    Args:
      content: what the JSON holds.
      path: of the file, for messages.
    Raises:
      ValueError: it is not COCO's JSON (names the entry), an id occurs twice, or an annotation names a missing image
        or category.
    """
    try:
        rows = {part: _rows(content, part) for part in ('images', 'categories', 'annotations')}
        images = [_image(row, f'images[{place}]') for place, row in enumerate(rows['images'])]
        categories = [
            _category(row, f'categories[{place}]') for place, row in enumerate(rows['categories'])
        ]
        annotations = [_annotation(row, place) for place, row in enumerate(rows['annotations'])]
    except _WrongError as error:
        raise ValueError(
            f"{path} cannot be read as COCO's JSON: {error}. {FORM}; export the file again"
        ) from error
    result = Annotated(dict(images), dict(categories), annotations)
    _check_ids(result, path, len(images), len(categories))
    return result


def _check_ids(result, path, images, categories):
    for kind, count, unique in (
        ('image', images, result.images),
        ('category', categories, result.categories),
    ):
        if len(unique) < count:
            raise ValueError(
                f'{path} has {count} entries of {kind} ids, but only {len(unique)} different ids'
            )
    for one in result.annotations:
        for kind, key, known in (
            ('image', one.image, result.images),
            ('category', one.category, result.categories),
        ):
            if key not in known:
                raise ValueError(
                    f'{path}: annotation {one.id} names the {kind} {key!r}, which the file lacks'
                )


class _WrongError(Exception):
    """What is wrong with an entry, and where."""


def _rows(content: Any, part: str) -> list[dict]:
    if not isinstance(content, dict):
        raise _WrongError(f'it must be an object, got {_short(content)}')
    if part not in content:
        raise _WrongError(f'it lacks {part!r}')
    rows = content[part]
    if not isinstance(rows, list):
        raise _WrongError(f'{part} must be a list, got {_short(rows)}')
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise _WrongError(f'{part}[{place}] must be an object, got {_short(row)}')
    return rows


def _image(row: dict, where: str) -> tuple[Id, AnnotatedPicture]:
    file = _field(row, 'file_name', where, str, 'text')
    if not file.strip() or '\0' in file:
        raise _WrongError(f'{where}.file_name must be the name of a file, got {_short(file)}')
    return _id(row, 'id', where), AnnotatedPicture(
        file, _side(row, 'height', where), _side(row, 'width', where)
    )


def _category(row: dict, where: str) -> tuple[Id, str]:
    name = _field(row, 'name', where, str | int, 'text')
    return _id(row, 'id', where), str(name)


def _annotation(row: dict, place: int) -> Annotation:
    where = f'annotations[{place}]'
    crowd = row.get('iscrowd')
    if crowd not in (None, 0, 1):
        raise _WrongError(f'{where}.iscrowd must be 0 or 1, got {_short(crowd)}')
    return Annotation(
        _id(row, 'id', where) if row.get('id') is not None else place,
        _id(row, 'image_id', where),
        _id(row, 'category_id', where),
        bool(crowd),
        row.get('segmentation'),
    )


def _id(row: dict, name: str, where: str) -> Id:
    return _field(row, name, where, int | str, 'a whole number or text')


def _side(row: dict, name: str, where: str) -> int | None:
    """Return a height or width; some programs write 480.0, or null without the picture."""
    if row.get(name) is None:
        return None
    side = _field(row, name, where, int | float, 'a whole number')
    if not 1 <= side <= MOST_SIDE or side != int(side):
        raise _WrongError(
            f'{where}.{name} must be a whole number of pixels, from 1 to {MOST_SIDE}, got {_short(side)}'
        )
    return int(side)


def _field(row: dict, name: str, where: str, types: Any, words: str) -> Any:
    if name not in row:
        raise _WrongError(f'{where} lacks {name!r}')
    value = row[name]
    if not isinstance(value, types) or isinstance(value, bool):
        raise _WrongError(f'{where}.{name} must be {words}, got {_short(value)}')
    return value


def _short(value: Any) -> str:
    """Return a value as JSON, cut off."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def outline(annotation: Annotation) -> tuple[Any, list[str]]:
    """Return what can be drawn of a segmentation, and what is unusual about it.

    Returns:
      Polygons or run lengths, or None; and phrases: `NO_MASK`, `TOO_SHORT`, `FLAT`.
    """
    given = annotation.segmentation
    if not given:
        return None, [NO_MASK]
    if not isinstance(given, list):
        return given, []
    flat = all(type(x) in (int, float) for x in given)
    polygons = [given] if flat else given
    long = [one for one in polygons if not isinstance(one, list) or len(one) >= 6]
    if len(long) < len(polygons):
        return long or None, [TOO_SHORT]
    return long, [FLAT] if flat else []


def sized(picture: AnnotatedPicture, size: tuple[int, int]) -> AnnotatedPicture:
    """Return the annotated picture with the size of its file, which takes the place of one that is not said.

    Args:
      size: height and width.
    Raises:
      ValueError: the annotations are of another size.
    """
    result = AnnotatedPicture(picture.file, picture.height or size[0], picture.width or size[1])
    if result[1:] != size:
        raise ValueError(
            f'it is annotated as {result.width} x {result.height} pixels, but it is {size[1]} x {size[0]}'
        )
    return result


def mask(annotation: Annotation, picture: AnnotatedPicture) -> Bool[np.ndarray, 'H W']:
    """Return where the annotated object is, as COCO's own tools draw it; several polygons are one object.

    Args:
      picture: the annotation's, with its size: polygons have none; see `sized`.
    Raises:
      ValueError: as `draw`.
    """
    _check_pixels(annotation, picture)
    found = np.zeros((picture.height, picture.width), bool)
    draw(annotation, picture, found)
    return found


def draw(annotation: Annotation, picture: AnnotatedPicture, into: Bool[np.ndarray, 'H W']) -> bool:
    """Add an annotated object to a mask, and return whether it has any pixel; see `mask`.

    Raises:
      ValueError: names the annotation, which has no outline (but a box, perhaps), or a broken one, or run lengths of
        another size than the picture's.
    """
    _check_pixels(annotation, picture)
    drawn, _ = outline(annotation)
    if drawn is None:
        raise ValueError(
            f'{_name(annotation, picture)} has no segmentation; a box is not enough, give polygons or run lengths'
        )
    try:
        if isinstance(drawn, dict):
            found = run_lengths.decode(drawn, *into.shape)
            into |= found
            return bool(found.any())
        if not isinstance(drawn, list):
            raise TypeError('it must be a list of polygons or an object with size and counts')
        return _draw_polygons(_polygons(drawn, 10 * max(into.shape)), into)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(
            f'{_name(annotation, picture)} has a segmentation that cannot be decoded: {error}'
        ) from error


def _name(annotation, picture) -> str:
    return f'annotation {annotation.id} of {picture.file}'


def _check_pixels(annotation, picture) -> None:
    if picture.height * picture.width > MOST_PIXELS:
        raise ValueError(
            f'{_name(annotation, picture)} has a picture of {picture.width} x {picture.height} pixels; at most '
            f'{MOST_PIXELS // 10**6} million are read'
        )


def _draw_polygons(polygons, into) -> bool:
    """Draw polygons in the box around them alone, so that many small ones take little time."""
    xs = [x for one in polygons for x in one[::2]]
    ys = [y for one in polygons for y in one[1::2]]
    left, right = (min(max(int(x), 0), into.shape[1]) for x in (min(xs) - 2, max(xs) + 3))
    top, bottom = (min(max(int(y), 0), into.shape[0]) for y in (min(ys) - 2, max(ys) + 3))
    if left >= right or top >= bottom:
        return False
    moved = [
        [value - (top if place % 2 else left) for place, value in enumerate(one)]
        for one in polygons
    ]
    runs = library.merge(library.frPyObjects(moved, bottom - top, right - left))
    found = library.decode(runs).view(bool)
    into[top:bottom, left:right] |= found
    return bool(found.any())


def _polygons(outline, far) -> list[list[float]]:
    if not all(isinstance(one, list) for one in outline):
        raise TypeError('a polygon must be a list of numbers')
    if any(
        len(one) < 6 or len(one) % 2 for one in outline
    ):  # of four numbers, COCO's tools make a box
        raise ValueError('a polygon needs three points or more, x and y of each in turn')
    numbers = (x for one in outline for x in one)
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers):
        raise TypeError('a polygon must be a list of numbers')
    polygons = [[float(x) for x in one] for one in outline]
    if not all(
        math.isfinite(x) and abs(x) <= far for one in polygons for x in one
    ):  # memory grows with the length
        raise ValueError('a polygon lies far outside the picture')
    return polygons
