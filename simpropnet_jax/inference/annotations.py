"""The masks of supports in a file of annotations: which annotations belong to an image and a class."""

import collections
import functools
import logging
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from simpropnet_jax.io import annotation_files, coco
from simpropnet_jax.io.file_names import FileNames
from simpropnet_jax.io.labels import FOREGROUND, VOID

logger = logging.getLogger(__name__)

EMPTY = 'empty annotation (not used)'


def read(path: Path) -> 'Annotations':
    """Return the annotations of a file; the file that was read last stays in memory, as a large one takes seconds.

    Raises:
      FileNotFoundError, ValueError: it cannot be read, see `annotation_files.read`.
    """
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(path, changed)


@functools.lru_cache(maxsize=1)
def _read(path, changed):
    return Annotations(path)


class Annotations:
    """A file of annotations, in COCO's JSON or labelme's.

    Raises:
      FileNotFoundError, ValueError: it cannot be read, see `annotation_files.read`.
    """

    def __init__(self, path: Path):
        self.path, self._content = path, annotation_files.read(path)
        names = {key: picture.file for key, picture in self._content.images.items()}
        self._names = FileNames(names, dict.fromkeys(names, path.absolute().parent))
        self._of_image: dict[coco.Id, list[coco.Annotation]] = {}
        for one in self._content.annotations:
            self._of_image.setdefault(one.image, []).append(one)

    def label(
        self, image: Path, category: str | None, size: tuple[int, int], crowds: str = 'void'
    ) -> UInt8[np.ndarray, 'H W']:
        """Return the annotations of an image as a label: 1 foreground, 0 background, 255 void.

        Logs how the image was found, and warns of annotations that are not used.

        Args:
          image: found by its name, see `file_names`.
          category: name of the annotations' category; None: all of them.
          size: height and width of the image.
          crowds: what annotations with `iscrowd` are, 'void' or 'object'.
        Raises:
          ValueError: image or category are not annotated, the size is another, an annotation cannot be read, or no
            object is left.
        """
        keys, how = self._find(image)
        try:
            picture = coco.sized(self._content.images[keys[0]], size)
        except ValueError as error:
            raise ValueError(f'{self.path} does not fit {image}: {error}') from error
        wanted = self._of_category(keys, image, category)
        logger.info(
            '%s: %d annotation%s%s in %s, found %s',
            image.name,
            len(wanted),
            's' * (len(wanted) != 1),
            '' if category is None else f' of {category}',
            self.path.name,
            how,
        )
        label, counts = self._drawn(wanted, picture, crowds == 'void')
        left = [f'{count} x {what}' for what, count in counts.items()]
        if not (label == FOREGROUND).any():
            why = f'what is there: {"; ".join(left)}' if left else 'mark the object'
            raise ValueError(f'{self.path} has no object for {image} ({why})')
        for phrase in left:
            logger.warning('%s: %s', image.name, phrase)
        return label

    def _find(self, image) -> tuple[list[coco.Id], str]:
        """Return the entries of an image, and how they were found; one name may have several entries."""
        matches = self._names.find(image)
        names = {self._content.images[match.key].file for match in matches}
        if len(names) != 1:
            what = f'{len(matches)} images' if matches else 'no image'
            raise ValueError(
                f'{self.path} has {what} called {image.name}: just one file_name must fit {image}'
            )
        return [match.key for match in matches], matches[0].how

    def _of_category(self, keys, image, category) -> list[coco.Annotation]:
        found = [one for key in keys for one in self._of_image.get(key, [])]
        names = [self._content.categories[one.category] for one in found]
        wanted = [one for one, name in zip(found, names, strict=True) if category in (None, name)]
        if not wanted:
            others = ', '.join(sorted(set(names))) or 'none at all'
            what = 'annotation' if category is None else f'annotation of {category!r}'
            raise ValueError(f'{self.path} has no {what} for {image} (those it has: {others})')
        return wanted

    def _drawn(self, wanted, picture, void_crowds) -> tuple[np.ndarray, collections.Counter]:
        """Draw annotations, objects over void; and count by phrase what is unusual."""
        regions = {value: np.zeros(picture[1:], bool) for value in (FOREGROUND, VOID)}
        counts = collections.Counter()
        for one in wanted:
            outline, phrases = coco.outline(one)
            counts.update(phrases)
            if outline is None:
                continue
            void = one.crowd and void_crowds
            if not self._draw(one, picture, regions[VOID if void else FOREGROUND]):
                counts[EMPTY] += 1
            elif one.crowd:
                counts[coco.CROWD_AS_VOID if void else coco.CROWD_AS_OBJECT] += 1
        label = np.where(regions[VOID], np.uint8(VOID), np.uint8(0))
        label[regions[FOREGROUND]] = FOREGROUND
        return label, counts

    def _draw(self, annotation, picture, region) -> bool:
        try:
            return coco.draw(annotation, picture, region)
        except ValueError as error:
            raise ValueError(f'{self.path}: {error}') from error
