"""Find the images and annotations of COCO-20i, draw and check them, and refuse damaged ones."""

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from simpropnet_jax.datasets.coco20i import files, label_map
from simpropnet_jax.datasets.coco20i.check import PARTS
from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES
from simpropnet_jax.datasets.coco20i.files import Images
from simpropnet_jax.io import coco, encoding

_CHECKED_AT_ONCE = 256  # images decoded ahead: bounds memory


class Listed(NamedTuple):
    """An annotated image with its place, size and annotations."""

    images: Images
    picture: coco.AnnotatedPicture
    annotations: Sequence[coco.Annotation]


@dataclass(frozen=True)
class CocoInputs:
    """Images and annotations to prepare.

    Attributes:
      listed: list name ('trainaug', 'val') -> image id -> image. The id is the file's name without its ending.
      class_ids: list name -> category id -> class id.
      left_out: list name -> (images without an object, images that are not there).
    """

    listed: dict[str, dict[str, Listed]]
    class_ids: dict[str, dict[coco.Id, int]]
    left_out: dict[str, tuple[int, int]]

    def ids(self, name: str) -> list[str]:
        """Return the image ids of a list, sorted."""
        return sorted(self.listed[name])

    def jpeg(self, name: str, image_id: str) -> bytes:
        """Return the unchanged bytes of an image."""
        one = self.listed[name][image_id]
        return one.images.read(one.picture.file)

    def total_bytes(self) -> int:
        """Return the size of all listed images."""
        return sum(
            one.images.size(one.picture.file)
            for listed in self.listed.values()
            for one in listed.values()
        )

    def labelled(self, pngs: dict[str, bytes]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (image id, label) of every image after checking both; the label as PNG is added to `pngs`, by id.

        Raises:
          ValueError: names an image that is damaged or has another size than its annotations say.
        """
        for name, part in PARTS.items():
            ids, class_ids = self.ids(name), self.class_ids[name]

            def example(image_id, listed=self.listed[name], class_ids=class_ids):
                label = _checked_label(listed[image_id], class_ids)
                return label, encoding.png(label)

            with (
                ThreadPoolExecutor() as pool,
                tqdm(total=len(ids), desc=f'draw {part}', disable=None) as bar,
            ):
                for start in range(0, len(ids), _CHECKED_AT_ONCE):
                    some = ids[start : start + _CHECKED_AT_ONCE]
                    for image_id, (label, png) in zip(some, pool.map(example, some), strict=True):
                        pngs[image_id] = png
                        bar.update()
                        yield image_id, label


def find_inputs(images: str | Path, annotations: str | Path, *, subset: bool) -> CocoInputs:
    """Read the annotations and find the images; no image is read yet.

    Args:
      images: folder with train2014 and val2014, as folders or archives.
      annotations: annotations_trainval2014.zip, or the folder with the JSON files.
      subset: leave out annotated images that are not there, instead of refusing the input.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or has other classes than COCO.
    """
    images, annotations = Path(images).expanduser(), Path(annotations).expanduser()
    opened = {name: files.open_images(images, part) for name, part in PARTS.items()}
    listed, class_ids, left_out = {}, {}, {}
    for name, part in PARTS.items():
        content, place = files.read_annotations(annotations, part)
        annotated = coco.parse(content, place)
        del content  # of train2014: gigabytes
        class_ids[name] = _class_ids(annotated.categories, place)
        shown = _shown(annotated, opened[name])
        missing = [one for one in shown.values() if not opened[name].has(one.picture.file)]
        if missing and not subset:
            raise FileNotFoundError(
                f'{len(missing):,} of {len(shown):,} annotated images are not in {opened[name].where()}; the first is '
                f'{missing[0].picture.file}. Complete them, or declare a part of the data with --subset'
            )
        found = {i: one for i, one in shown.items() if opened[name].has(one.picture.file)}
        if not found:
            raise ValueError(
                f'none of the {len(shown):,} images annotated in {place} is in {opened[name].where()}'
            )
        listed[name] = found
        left_out[name] = len(annotated.images) - len(shown), len(missing)
    both = sorted(listed['trainaug'].keys() & listed['val'].keys())
    if both:
        raise ValueError(
            f'{len(both)} images are annotated in train2014 and in val2014, the first is {both[0]}: images of val must '
            'not be trained on'
        )
    return CocoInputs(listed, class_ids, left_out)


def _class_ids(categories: Mapping[coco.Id, str], place: str) -> dict[coco.Id, int]:
    """Return the class id of each category, by its name."""
    strange = [name for name in categories.values() if name not in CLASS_NAMES[1:]]
    if strange or not categories:
        found = f'the category {strange[0]!r}' if strange else 'no categories'
        raise ValueError(
            f'{place} has {found}, but COCO-20i is made of the 80 classes of COCO. For other annotations use '
            '`simpropnet prepare folder --coco`'
        )
    return {number: CLASS_NAMES.index(name) for number, name in categories.items()}


def _shown(annotated: coco.Annotated, images: Images) -> dict[str, Listed]:
    """Return the images that show an object; crowds alone are none."""
    by_image: dict[coco.Id, list[coco.Annotation]] = {}
    for one in annotated.annotations:
        by_image.setdefault(one.image, []).append(one)
    shown = {}
    for number, of_image in by_image.items():
        if any(not one.crowd and coco.outline(one)[0] for one in of_image):
            picture = annotated.images[number]
            shown[Path(picture.file).stem] = Listed(
                images, picture._replace(file=Path(picture.file).name), of_image
            )
    return shown


def _checked_label(one: Listed, class_ids) -> np.ndarray:
    """Return the label map after decoding the whole image: a truncated file has a valid header."""
    place = one.images.where(one.picture.file)
    try:
        with Image.open(io.BytesIO(one.images.read(one.picture.file)), formats=['JPEG']) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{place} cannot be read as a JPEG: {error}') from error
    try:
        picture = coco.sized(one.picture, image.size[::-1])
    except ValueError as error:
        raise ValueError(f'{place} does not fit its annotations: {error}') from error
    return label_map.draw(one.annotations, picture, class_ids)
