"""Find the classes, images and masks of FSS-1000, and refuse damaged ones."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from simpropnet_jax.datasets import list_files
from simpropnet_jax.io.labels import FOREGROUND

LISTS = {'trn': 520, 'val': 240, 'test': 240}
"""HSNet's lists of classes, in the order of the class ids, and how many classes each has."""

IMAGES = 10  # of each class
HALF = 128  # grey values from here on are the object


class Example(NamedTuple):
    """An image of one class."""

    image_id: str
    class_id: int
    image: Path
    mask: Path


@dataclass(frozen=True)
class FssInputs:
    """Images and masks to prepare.

    Attributes:
      classes: name of the list ('trn', 'val', 'test') -> its classes, sorted.
      examples: by list of the index: 'trainaug' has the images of 'trn', 'val' the images of 'val' and 'test'.
    """

    classes: dict[str, tuple[str, ...]]
    examples: dict[str, list[Example]]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name of each class id, from 0."""
        return ('background', *(name for listed in self.classes.values() for name in listed))

    def total_bytes(self) -> int:
        """Return the size of all images."""
        return sum(one.image.stat().st_size for listed in self.examples.values() for one in listed)

    def labelled(self) -> Iterator[tuple[Example, np.ndarray]]:
        """Yield every image with its label, uint8 [H, W] of 0 and 1, after checking both.

        Raises:
          ValueError: names a file that is damaged, or of another size than its image.
        """
        every = [one for listed in self.examples.values() for one in listed]
        for one in tqdm(every, desc='check', disable=None):
            yield one, read_label(one)


def find_inputs(folder: str | Path, lists: str | Path, *, subset: bool) -> FssInputs:
    """Find the images of every listed class; no image is read yet.

    Args:
      folder: the released folder, with a folder of 1.jpg, 1.png, 2.jpg, ... for each class.
      lists: folder with trn.txt, val.txt and test.txt, a class in each line.
      subset: leave out listed classes that are not there, instead of refusing the input.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the lists are not complete, or a class is on two of them.
    """
    folder, lists = Path(folder).expanduser(), Path(lists).expanduser()
    root = _root(folder)
    listed = read_lists(lists)
    missing = [one for classes in listed.values() for one in classes if not (root / one).is_dir()]
    if subset:
        listed = {
            name: tuple(one for one in classes if one not in missing)
            for name, classes in listed.items()
        }
        empty = next((name for name, classes in listed.items() if not classes), None)
        if empty:
            raise ValueError(f'no class of {lists / f"{empty}.txt"} has a folder in {root}')
    else:
        check_lengths(lists, listed)
        _check_folders(root, missing)
    number = {
        one: place
        for place, one in enumerate((c for of_list in listed.values() for c in of_list), 1)
    }
    examples = {'trainaug': [], 'val': []}
    for name, of_list in listed.items():
        for one in of_list:
            examples['trainaug' if name == 'trn' else 'val'] += _of_class(
                root / one, number[one], subset
            )
    return FssInputs(listed, {name: sorted(found) for name, found in examples.items()})


def read_lists(lists: Path) -> dict[str, tuple[str, ...]]:
    """Return the classes of 'trn', 'val' and 'test', sorted.

    Args:
      lists: folder with trn.txt, val.txt and test.txt.
    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a class is on two lists, or twice on one.
    """
    listed = {name: tuple(sorted(_read_list(lists / f'{name}.txt'))) for name in LISTS}
    seen: dict[str, str] = {}
    for name, classes in listed.items():
        for one in classes:
            if one in seen:
                where = (
                    f'{seen[one]}.txt and {name}.txt' if seen[one] != name else f'{name}.txt twice'
                )
                raise ValueError(f'the class {one!r} is in {where}: a class must be on one list')
            seen[one] = name
    return listed


def check_lengths(lists: Path, listed: dict[str, tuple[str, ...]]) -> None:
    """Refuse lists that do not have 520, 240 and 240 classes.

    Raises:
      ValueError: names the list.
    """
    for name, expected in LISTS.items():
        if len(listed[name]) != expected:
            raise ValueError(
                f'{lists / f"{name}.txt"} has {len(listed[name])} classes, expected {expected}. Complete it, or '
                'declare a part of the data with --subset'
            )


def image_id(class_name: str, number: int) -> str:
    """Return the id of image 1 to 10 of a class."""
    return f'{class_name}-{number:02d}'


def read_label(one: Example) -> np.ndarray:
    """Return the label uint8 [H, W], 1 for the object, after decoding image and mask.

    Raises:
      ValueError: names the file that is damaged, or of another size than its image.
    """
    size = _open(one.image, 'JPEG').size
    mask = _open(one.mask, 'PNG')
    if mask.size != size:
        raise ValueError(
            f'{one.mask} is {mask.width} x {mask.height} pixels, but its image is {size[0]} x {size[1]}'
        )
    return np.where(np.asarray(mask.convert('L')) >= HALF, np.uint8(FOREGROUND), np.uint8(0))


def _open(path: Path, kind: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(path.read_bytes()), formats=[kind]) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as a {kind}: {error}') from error
    return image


def _root(folder: Path) -> Path:
    """Return the folder of classes: the given folder, or fewshot_data inside it."""
    for root in (folder / 'fewshot_data' / 'fewshot_data', folder / 'fewshot_data', folder):
        if root.is_dir() and any((one / '1.jpg').is_file() for one in root.iterdir()):
            return root
    raise FileNotFoundError(
        f'there is no CLASS/1.jpg in {folder}: give the released folder of FSS-1000, fewshot_data'
    )


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {path}: give --lists the folder with trn.txt, val.txt and test.txt, a class in each line, as '
            "HSNet's data/splits/fss has them"
        )
    return list_files.lines(path.read_bytes(), str(path))


def _check_folders(root, missing) -> None:
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of 1,000 listed classes have no folder in {root}; the first is {missing[0]}. Complete '
            'them, or declare a part of the data with --subset'
        )


def _of_class(folder: Path, class_id: int, subset: bool) -> list[Example]:
    images = sorted(folder.glob('[0-9]*.jpg'), key=lambda path: int(path.stem))
    if len(images) != IMAGES and not subset:
        raise FileNotFoundError(
            f'{folder} has {len(images)} images, expected {IMAGES}: 1.jpg to 10.jpg'
        )
    unmasked = next((path for path in images if not path.with_suffix('.png').is_file()), None)
    if unmasked:
        raise FileNotFoundError(f'{unmasked} has no mask {unmasked.stem}.png next to it')
    return [
        Example(image_id(folder.name, int(path.stem)), class_id, path, path.with_suffix('.png'))
        for path in images
    ]
