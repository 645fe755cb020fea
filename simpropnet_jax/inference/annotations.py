"""The masks of supports in COCO's JSON: which annotations belong to an image and a class."""

from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from simpropnet_jax.io import coco
from simpropnet_jax.io.labels import FOREGROUND, VOID


class Annotations:
    """A file in COCO's JSON.

    Raises:
      FileNotFoundError, ValueError: it cannot be read, see `coco.read`, or names an image outside its folder.
    """

    def __init__(self, path: Path):
        self.path, self._content = path, coco.read(path)
        self._places = {
            key: _place(picture.file, path) for key, picture in self._content.images.items()
        }

    def label(
        self, image: Path, category: str | None, size: tuple[int, int]
    ) -> UInt8[np.ndarray, 'H W']:
        """The annotations of an image as a label: 1 foreground, 0 background, 255 void (those that are `iscrowd`).

        Args:
          image: whose last name, and as much of its folders as it needs, is the `file_name`.
          category: name of the annotations' category; None: all of them.
          size: height and width of the image.
        Raises:
          ValueError: image or category are not annotated, the size is another, or an annotation cannot be read.
        """
        key = self._find(image)
        picture = self._content.images[key]
        if (picture.height, picture.width) != size:
            there = f'{picture.width} x {picture.height}'
            raise ValueError(
                f'{self.path} has {image} as {there} pixels, but it is {size[1]} x {size[0]}'
            )
        found = [one for one in self._content.annotations if one.image == key]
        names = [self._content.categories[one.category] for one in found]
        wanted = [one for one, name in zip(found, names, strict=True) if category in (None, name)]
        if not wanted:
            others = ', '.join(sorted(set(names))) or 'none at all'
            what = 'annotation' if category is None else f'annotation of {category!r}'
            raise ValueError(f'{self.path} has no {what} for {image} (those it has: {others})')
        label = np.zeros(size, np.uint8)
        for one in sorted(wanted, key=lambda one: not one.crowd):  # objects over crowds
            label[self._mask(one, picture)] = VOID if one.crowd else FOREGROUND
        if not (label == FOREGROUND).any():
            raise ValueError(
                f'{self.path} has only empty annotations, or crowds, for {image}: mark the object'
            )
        return label

    def _find(self, image):
        own = image.absolute().parts
        named = [
            (_shared_end(own, parts), key)
            for key, parts in self._places.items()
            if parts[-1] == image.name
        ]
        best = [key for shared, key in named if shared == max(shared for shared, _ in named)]
        if len(best) != 1:
            what = f'{len(best)} images' if best else 'no image'
            raise ValueError(
                f'{self.path} has {what} called {image.name}: just one file_name must fit {image}'
            )
        return best[0]

    def _mask(self, annotation, picture):
        try:
            return coco.mask(annotation, picture)
        except ValueError as error:
            raise ValueError(f'{self.path}: {error}') from error


def _place(file_name, path):
    """The parts of an image's path below its folder."""
    place = PurePosixPath(file_name.replace('\\', '/'))
    if not place.parts or place.is_absolute() or '..' in place.parts or ':' in place.parts[0]:
        raise ValueError(
            f'{path} names an image outside its folder, {file_name}: give it by its name alone'
        )
    return place.parts


def _shared_end(one, other):
    """How many of their last parts are the same."""
    shared = 0
    while shared < min(len(one), len(other)) and one[-1 - shared] == other[-1 - shared]:
        shared += 1
    return shared
