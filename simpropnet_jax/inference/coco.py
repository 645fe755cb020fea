"""Masks in COCO's JSON: read for supports, and runs of pixels (RLE) for the answers.

https://cocodataset.org/#format-data: `segmentation` is a list of polygons, or runs of pixels as numbers or compressed.
"""

import json
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from simpropnet_jax import images


class Annotations:
    """A COCO JSON file.

    Raises:
      FileNotFoundError, ValueError: there is no such file, it is not COCO's, or names an image outside its folder.
    """

    def __init__(self, path: Path):
        if not path.exists():
            raise FileNotFoundError(f'there is no file {path}')
        self.path = path
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
            self._images = [(_parts(one['file_name']), one) for one in content['images']]
            self._of_image: dict[Any, list[dict]] = {}
            for one in content['annotations']:
                self._of_image.setdefault(one['image_id'], []).append(one)
            self._names = {one['id']: str(one['name']) for one in content.get('categories', [])}
        except _Outside as error:
            raise ValueError(f'{path} names an image outside its folder, {error}: give it by its name alone') from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f'{path} is no COCO annotation file: it must be JSON with images (id, file_name) and annotations '
                '(image_id, category_id, segmentation)'
            ) from error

    def label(self, image: Path, category: str | None, size: tuple[int, int]) -> UInt8[np.ndarray, 'H W']:
        """The annotations of an image as a label: 1 foreground, 0 background, 255 void (those that are `iscrowd`).

        Args:
          image: whose last name, and as much of its folders as it needs, is the `file_name`.
          category: name of the annotations' category; None: all of them.
          size: height and width of the image.
        Raises:
          ValueError: image or category are not annotated, the size is another, or an annotation cannot be read.
        """
        entry = self._entry(image)
        given = entry.get('height', size[0]), entry.get('width', size[1])
        if given != size:
            there = f'{given[1]} x {given[0]}'
            raise ValueError(f'{self.path} has {image} as {there} pixels, but it is {size[1]} x {size[0]}')
        found = self._of_image.get(entry.get('id'), [])
        names = [self._names.get(one.get('category_id')) for one in found]
        wanted = [one for one, name in zip(found, names, strict=True) if category in (None, name)]
        if not wanted:
            others = ', '.join(sorted({name for name in names if name})) or 'none at all'
            what = 'annotation' if category is None else f'annotation of {category!r}'
            raise ValueError(f'{self.path} has no {what} for {image} (those it has: {others})')
        label = np.zeros(size, np.uint8)
        for one in sorted(wanted, key=lambda one: not one.get('iscrowd')):  # objects over crowds
            label[self._mask(one, image, size)] = images.VOID if one.get('iscrowd') else images.FOREGROUND
        if not (label == images.FOREGROUND).any():
            raise ValueError(f'{self.path} has only empty annotations, or crowds, for {image}: mark the object')
        return label

    def _entry(self, image):
        own = image.absolute().parts
        named = [(_shared_end(own, parts), entry) for parts, entry in self._images if parts[-1] == image.name]
        best = [entry for shared, entry in named if shared == max(shared for shared, _ in named)]
        if len(best) != 1:
            what = f'{len(best)} images' if best else 'no image'
            raise ValueError(f'{self.path} has {what} called {image.name}: just one file_name must fit {image}')
        return best[0]

    def _mask(self, annotation, image, size):
        try:
            return _decoded(annotation['segmentation'], *size)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            name = annotation.get('id', '?')
            raise ValueError(f'annotation {name} of {image} in {self.path} cannot be read: {error}') from error


def run_lengths(mask: Bool[np.ndarray, 'H W']) -> dict[str, Any]:
    """Area, bounding box (x, y, width, height) and compressed runs of a mask, as an annotation has them."""
    from pycocotools import mask as library

    runs = library.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        'area': int(library.area(runs)), 'bbox': [float(x) for x in library.toBbox(runs)],
        'segmentation': {'size': list(mask.shape), 'counts': runs['counts'].decode('ascii')},
    }  # fmt: skip


class _Outside(Exception):
    """A file_name that leads out of the folder of the images."""


def _parts(file_name):
    path = PurePosixPath(str(file_name).replace('\\', '/'))
    if path.is_absolute() or '..' in path.parts or ':' in path.parts[0]:
        raise _Outside(file_name)
    return path.parts


def _shared_end(one, other):
    """How many of their last parts are the same."""
    shared = 0
    while shared < min(len(one), len(other)) and one[-1 - shared] == other[-1 - shared]:
        shared += 1
    return shared


def _decoded(segmentation, height, width):
    """The mask of an annotation. The library trusts what it is given, so that all is looked at before."""
    from pycocotools import mask as library

    if isinstance(segmentation, dict):
        if list(segmentation['size']) != [height, width]:
            raise ValueError(f'its size is {segmentation["size"]}, not {[height, width]}')
        counts = segmentation['counts']
        counts = _numbers(counts) if isinstance(counts, str) else counts
        if any(type(count) is not int or count < 0 for count in counts) or sum(counts) != height * width:
            raise ValueError(f'its runs are not whole numbers that sum to {height * width}')
        return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
    for polygon in segmentation:
        far = [x for x in polygon if not math.isfinite(x) or abs(x) > 2 * max(height, width)]
        if len(polygon) < 6 or len(polygon) % 2 or far:
            raise ValueError('a polygon must have three or more points x, y in the image')
    if not segmentation:
        return np.zeros((height, width), bool)
    runs = library.frPyObjects([[float(x) for x in polygon] for polygon in segmentation], height, width)
    return library.decode(library.merge(runs)).astype(bool)


def _numbers(text):
    """Compressed runs as numbers. pycocotools would leave pixels unset where they are too few for the image."""
    counts, value, shift = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 40:
            raise ValueError('its compressed runs are damaged')
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last five bits of this number
            value -= (bits & 16) << shift - 4  # its sign
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))  # from the third on: differences
            value, shift = 0, 0
    return counts
