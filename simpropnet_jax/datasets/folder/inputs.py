"""Which image has which masks, by the names in a folder. Nothing is decoded here. See `annotated` for annotations."""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folder.lists import FOLDS
from simpropnet_jax.io import images
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import DEFAULT, MaskOptions

EMPTY = 'empty mask (not used)'
IMAGES, MASKS = 'images', 'masks'
MOST_CLASSES = 254  # a label has a byte a pixel; 0 is the background, 255 void


class Regions(dict[str | None, np.ndarray]):
    """Where each class is in an image, bool [H, W]; under None where the label is void.

    Args:
      size: height and width of the image.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__()
        self.size = size

    def __missing__(self, name: str | None) -> np.ndarray:
        """Return a new empty region."""
        return self.setdefault(name, np.zeros(self.size, bool))


class WrongSizeError(ValueError):
    """A mask of another size than its image.

    Attributes:
      size: height and width of the mask.
    """

    def __init__(self, size: tuple[int, int]):
        super().__init__(f'{size[1]} x {size[0]}')
        self.size = size


class Mask(NamedTuple):
    """One mask of an image, of one class or of several.

    Attributes:
      name: for messages.
      classes: names of the classes that it may show.
      draw: takes regions, of the image's size, and findings, and adds to both. ValueError if the mask cannot be read,
        `WrongSizeError` if its size is another.
    """

    name: str
    classes: tuple[str, ...]
    draw: Callable[[Regions, Findings], None]


class Entry(NamedTuple):
    """An image that has masks.

    Attributes:
      id: unique.
      splits: lists that its annotations belong to, `lists.TRAIN` or `lists.VAL`; usually unknown.
    """

    id: str
    image: Path
    masks: tuple[Mask, ...]
    splits: frozenset[str] = frozenset()

    @property
    def classes(self) -> set[str]:
        """The names of the classes that the masks are of."""
        return {name for mask in self.masks for name in mask.classes}


def find_masks(folder: Path, findings: Findings, options: MaskOptions = DEFAULT) -> list[Entry]:
    """The entries of a folder with images/NAME.* and masks/CLASS/NAME.*, by id.

    Args:
      folder: with both folders.
      findings: what is odd is added.
      options: how to read every mask.
    Raises:
      ValueError: it has not both folders, or no images, or no classes.
    """
    pictures = by_stem(pictures_in(folder / IMAGES, findings), findings)
    if not (folder / MASKS).is_dir():
        raise ValueError(
            f'{folder} has no folder masks/, with a folder of masks for each class; or give --coco FILE{_hint(folder)}'
        )
    classes = sorted(path for path in (folder / MASKS).iterdir() if not path.name.startswith('.'))
    if not any(path.is_dir() for path in classes):
        raise ValueError(
            f'{folder / MASKS} has no folders: the masks of class cat belong into masks/cat/. For index masks of all '
            'classes, name the classes: --classes cat,dog'
        )
    found: dict[str, list[Mask]] = {}
    folded = {name.casefold(): name for name in pictures}
    for path in classes:
        if not path.is_dir():
            findings.odd('file in masks/ that is in no folder of a class (not used)', path.name)
            continue
        masks = by_stem(pictures_in(path, findings, required=False), findings)
        if not masks:
            findings.odd('class without a mask (left out)', path.name)
        for name, mask in masks.items():
            shown = f'{path.name}/{mask.name}'
            if name in pictures:
                draw = functools.partial(_draw, mask, path.name, shown, options)
                found.setdefault(name, []).append(Mask(shown, (path.name,), draw))
            elif name.casefold() in folded:
                findings.odd(
                    'mask whose name differs from that of an image in upper and lower case only (not used)',
                    f'{shown} and {pictures[folded[name.casefold()]].name}',
                )
            else:
                findings.odd('mask without an image (not used)', shown)
    return entries(pictures, found, findings)


def _draw(path, class_name, shown, options, regions, findings) -> None:
    label = images.read_mask(path, options)
    if label.shape != regions.size:
        raise WrongSizeError(label.shape)
    if not (label == FOREGROUND).any():
        findings.odd(EMPTY, shown)
    regions[class_name] |= label == FOREGROUND
    regions[None] |= label == VOID


def _hint(folder: Path) -> str:
    """Return which file that could be."""
    files = [path for path in sorted(folder.glob('**/*.json')) if path.name != FOLDS]
    return f' (perhaps {files[0]})' if files else ''


def class_names(found: Iterable[Entry], findings: Findings) -> tuple[str, ...]:
    """The background and every class, by name: the position is the class id."""
    names = sorted(set().union(*(entry.classes for entry in found)))
    if len(names) > MOST_CLASSES:
        findings.mistake(
            f'class too many: a label has room for {MOST_CLASSES}', f'{len(names)} classes'
        )
    for name in names:
        if name.casefold() == 'background':
            findings.mistake(
                'class called background, which is what no mask shows: leave it out', name
            )
    findings.odd('class that differs from another in upper and lower case only', *_alike(names))
    return ('background', *names)


def pictures_in(
    folder: Path, findings: Findings, required: bool = True, deep: bool = False
) -> list[Path]:
    """Return the pictures in a folder, by path; other files are odd, except JSON if `deep`.

    Args:
      folder: to look in.
      findings: what is odd is added.
      required: whether there must be one.
      deep: whether subfolders count.
    Raises:
      ValueError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f'{folder.parent} has no folder {folder.name}/')
    seen = sorted(
        path
        for path in (folder.rglob if deep else folder.glob)('*')
        if not any(part.startswith('.') for part in path.relative_to(folder).parts)
        and not (deep and (path.is_dir() or path.suffix == '.json'))
    )
    pictures = [path for path in seen if path.suffix.lower() in images.ENDINGS and path.is_file()]
    there = set(pictures)
    findings.odd(
        'file or folder that is no picture (not used)',
        *(str(path) for path in seen if path not in there),
    )
    if required and not pictures:
        raise ValueError(
            f'{folder} has no pictures: no file there ends in {", ".join(images.ENDINGS)}'
        )
    return pictures


def by_stem(paths: Iterable[Path], findings: Findings) -> dict[str, Path]:
    """Return files by their name without the ending; two of one name are a mistake."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            findings.mistake(
                'name that two files have, but for the ending',
                f'{found[path.stem]} and {path.name}',
            )
        found[path.stem] = path
    return found


def entries(
    pictures: Mapping[str, Path],
    masks: Mapping[str, list[Mask]],
    findings: Findings,
    splits: Mapping[str, Iterable[str]] | None = None,
) -> list[Entry]:
    """Return the images that have masks, by id; others are odd."""
    findings.odd('image without a mask (left out)', *sorted(pictures.keys() - masks.keys()))
    findings.odd(
        'image that differs from another in upper and lower case only', *_alike(sorted(pictures))
    )
    splits = splits or {}
    return [
        Entry(name, pictures[name], tuple(masks[name]), frozenset(splits.get(name, ())))
        for name in sorted(masks)
    ]


def _alike(names: list[str]) -> list[str]:
    folded = [name.casefold() for name in names]
    return [name for name, one in zip(names, folded, strict=True) if folded.count(one) > 1]
