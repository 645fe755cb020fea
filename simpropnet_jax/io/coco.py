"""Annotations in COCO's JSON: polygons and run lengths (RLE), as masks, and masks as run lengths.

    annotated = coco.read('instances.json')
    for annotation in annotated.annotations:
        mask = coco.mask(annotation, annotated.images[annotation.image])

https://cocodataset.org/#format-data
"""

import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from pycocotools import mask as library

Id = int | str
MOST_SIDE = 1_000_000  # pixels
MOST_PIXELS = 200_000_000  # of a mask; as of a picture
FORM = (
    'It has images (id, file_name, height, width), categories (id, name) and annotations (image_id, category_id, '
    'segmentation)'
)


class AnnotatedPicture(NamedTuple):
    """An entry of "images": a file, as a path below the folder of pictures, and its size in pixels."""

    file: str
    height: int
    width: int


class Annotation(NamedTuple):
    """An entry of "annotations".

    Attributes:
      id, image, category: ids, as the file has them.
      crowd: iscrowd: a region with several objects that nobody told apart.
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


def read(path: str | os.PathLike) -> Annotated:
    """The images, categories and annotations of a file; masks are decoded by `mask`.

    Raises:
      FileNotFoundError, ValueError: there is no such file, it is not COCO's JSON (names the entry), an id is there
        twice, or an annotation names an image or a category that is not there.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no file {path}')
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as COCO's JSON ({error})") from error
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
    for kind, found, unique in (
        ('image', images, result.images),
        ('category', categories, result.categories),
    ):
        if len(unique) < len(found):
            raise ValueError(
                f'{path} has {len(found)} entries of {kind} ids, but only {len(unique)} different ids'
            )
    for one in annotations:
        for kind, key, known in (
            ('image', one.image, result.images),
            ('category', one.category, result.categories),
        ):
            if key not in known:
                raise ValueError(
                    f'{path}: annotation {one.id} names the {kind} {key!r}, which the file lacks'
                )
    return result


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


def _side(row: dict, name: str, where: str) -> int:
    """Return a height or width; some programs write 480.0."""
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


def mask(annotation: Annotation, picture: AnnotatedPicture) -> Bool[np.ndarray, 'H W']:
    """Where the annotated object is, as COCO's own tools draw it; several polygons are one object.

    Args:
      picture: the annotation's; polygons have no size of their own.
    Raises:
      ValueError: names the annotation, which has no outline (but a box, perhaps), or a broken one, or run lengths of
        another size than the picture's.
    """
    height, width, outline = picture.height, picture.width, annotation.segmentation
    name = f'annotation {annotation.id} of {picture.file}'
    if height * width > MOST_PIXELS:
        raise ValueError(
            f'{name} has a picture of {width} x {height} pixels; at most {MOST_PIXELS // 10**6} million are read'
        )
    if not outline:
        raise ValueError(
            f'{name} has no segmentation; a box is not enough, give polygons or run lengths'
        )
    try:
        if isinstance(outline, dict):
            return _from_runs(outline, height, width)
        if not isinstance(outline, list):
            raise TypeError('it must be a list of polygons or an object with size and counts')
        polygons = _polygons(outline, 10 * max(height, width))
        return library.decode(library.merge(library.frPyObjects(polygons, height, width))).astype(
            bool
        )
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise ValueError(f'{name} has a segmentation that cannot be decoded: {error}') from error


def run_lengths(mask: Bool[np.ndarray, 'H W']) -> dict[str, Any]:
    """Area, bounding box (x, y, width, height) and compressed runs of a mask, as an annotation has them."""
    runs = library.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'area': int(library.area(runs)),
        'bbox': [float(x) for x in library.toBbox(runs)],
        'segmentation': {'size': list(mask.shape), 'counts': runs['counts'].decode('ascii')},
    }


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


def _from_runs(outline, height, width) -> Bool[np.ndarray, 'H W']:
    """The mask of runs. Not by the library, which leaves pixels unset where the runs are too few for the picture."""
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
    """Compressed runs as numbers."""
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
