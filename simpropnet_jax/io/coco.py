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
      FileNotFoundError, ValueError: there is no such file, it is not COCO's JSON, an id is there twice, or an
        annotation names an image or a category that is not there.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no file {path}')
    try:
        content = json.loads(Path(path).read_bytes())
        rows = {part: content[part] for part in ('images', 'categories', 'annotations')}
        images = [
            (one['id'], AnnotatedPicture(one['file_name'], int(one['height']), int(one['width'])))
            for one in rows['images']
        ]
        categories = [(one['id'], str(one['name'])) for one in rows['categories']]
        annotations = [
            Annotation(
                one.get('id', place),
                one['image_id'],
                one['category_id'],
                bool(one.get('iscrowd')),
                one.get('segmentation'),
            )
            for place, one in enumerate(rows['annotations'])
        ]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as COCO's JSON ({error})") from error
    except KeyError as error:
        raise ValueError(
            f"{path} lacks {error}: COCO's JSON has images (id, file_name, height, width), categories (id, name) and "
            'annotations (image_id, category_id, segmentation)'
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
    if not outline:
        raise ValueError(
            f'{name} has no segmentation; a box is not enough, give polygons or run lengths'
        )
    try:
        if isinstance(outline, dict):
            return _from_runs(outline, height, width)
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
    if any(
        len(one) < 6 or len(one) % 2 for one in outline
    ):  # of four numbers, COCO's tools make a box
        raise ValueError('a polygon needs three points or more, x and y of each in turn')
    polygons = [[float(x) for x in one] for one in outline]
    if not all(
        math.isfinite(x) and abs(x) <= far for one in polygons for x in one
    ):  # memory grows with the length
        raise ValueError('a polygon lies far outside the picture')
    return polygons


def _from_runs(outline, height, width) -> Bool[np.ndarray, 'H W']:
    """The mask of runs. Not by the library, which leaves pixels unset where the runs are too few for the picture."""
    size, counts = list(outline['size']), outline['counts']
    if size != [height, width]:
        raise ValueError(f'its size is {size}, the picture has height {height} and width {width}')
    counts = _numbers(counts) if isinstance(counts, str) else counts
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
