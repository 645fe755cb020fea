"""Which image has which masks: by the names in a folder, or by annotations in COCO's JSON. Nothing is decoded here."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.io import coco, images
from simpropnet_jax.io.masks import DEFAULT, MaskOptions

IMAGES, MASKS = 'images', 'masks'
MOST_CLASSES = 254  # a label has a byte a pixel; 0 is the background, 255 void


class Mask(NamedTuple):
    """One mask of an image.

    Attributes:
      class_name: None: where it is foreground, the label is void.
      name: for messages.
      read: the mask as a label: 1 foreground, 0 background, 255 void; ValueError where it cannot be read.
    """

    class_name: str | None
    name: str
    read: Callable[[], np.ndarray]


class Entry(NamedTuple):
    """An image that has masks; its id is unique."""

    id: str
    image: Path
    masks: tuple[Mask, ...]

    @property
    def classes(self) -> set[str]:
        """The names of the classes that the masks are of."""
        return {mask.class_name for mask in self.masks if mask.class_name is not None}


def find_masks(folder: Path, findings: Findings, options: MaskOptions = DEFAULT) -> list[Entry]:
    """The entries of a folder with images/NAME.* and masks/CLASS/NAME.*, by id.

    Args:
      folder: with both folders.
      findings: what is odd is added.
      options: how to read every mask.
    Raises:
      ValueError: it has not both folders, or no images, or no classes.
    """
    pictures = _by_stem(_pictures(folder / IMAGES, findings), findings)
    if not (folder / MASKS).is_dir():
        raise ValueError(
            f'{folder} has no folder masks/, with a folder of masks for each class; or give --coco FILE'
        )
    classes = sorted(path for path in (folder / MASKS).iterdir() if not path.name.startswith('.'))
    if not any(path.is_dir() for path in classes):
        raise ValueError(
            f'{folder / MASKS} has no folders: the masks of class cat belong into masks/cat/'
        )
    found: dict[str, list[Mask]] = {}
    folded = {name.casefold(): name for name in pictures}
    for path in classes:
        if not path.is_dir():
            findings.odd('file in masks/ that is in no folder of a class (not used)', path.name)
            continue
        masks = _by_stem(_pictures(path, findings, required=False), findings)
        if not masks:
            findings.odd('class without a mask (left out)', path.name)
        for name, mask in masks.items():
            shown = f'{path.name}/{mask.name}'
            if name in pictures:
                found.setdefault(name, []).append(
                    Mask(path.name, shown, lambda mask=mask: images.read_mask(mask, options))
                )
            elif name.casefold() in folded:
                findings.odd(
                    'mask whose name differs from that of an image in upper and lower case only (not used)',
                    f'{shown} and {pictures[folded[name.casefold()]].name}',
                )
            else:
                findings.odd('mask without an image (not used)', shown)
    return _entries(pictures, found, findings)


def find_annotated(folder: Path, file: Path, findings: Findings) -> list[Entry]:
    """The entries of a folder with images/, annotated in COCO's JSON, by id.

    Raises:
      FileNotFoundError, ValueError: the JSON cannot be read, see `coco.read`, or there are no images.
    """
    annotated = coco.read(file)
    names = list(annotated.categories.values())
    for name in sorted({name for name in names if names.count(name) > 1}):
        findings.mistake('category name that several ids have', name)
    there = {
        path.relative_to(folder / IMAGES).as_posix()
        for path in _pictures(folder / IMAGES, findings, deep=True)
    }
    pictures: dict[str, Path] = {}
    ids: dict[coco.Id, str] = {}
    for key, picture in annotated.images.items():
        name = picture.file.removeprefix(f'{IMAGES}/')
        if name not in there:
            findings.odd('image of the JSON that is not in images/ (not used)', picture.file)
            continue
        there.discard(name)
        ids[key] = str(Path(name).with_suffix('')).replace('/', '__')
        if ids[key] in pictures:
            findings.mistake('image that differs from another by its ending only', name)
        pictures[ids[key]] = folder / IMAGES / name
    findings.odd('image that the JSON does not name (left out)', *sorted(there))
    found: dict[str, list[Mask]] = {}
    for one in annotated.annotations:
        if one.image in ids:
            name, picture = annotated.categories[one.category], annotated.images[one.image]

            def read(one=one, picture=picture):
                return coco.mask(one, picture).astype(np.uint8)

            mask = Mask(None if one.crowd else name, f'annotation {one.id} of {picture.file}', read)
            found.setdefault(ids[one.image], []).append(mask)
    entries = _entries(pictures, found, findings)
    used = set().union(*(entry.classes for entry in entries))
    findings.odd('category without an annotation (left out)', *sorted(set(names) - used))
    return entries


def class_names(entries: Iterable[Entry], findings: Findings) -> tuple[str, ...]:
    """The background and every class, by name: the position is the class id."""
    names = sorted(set().union(*(entry.classes for entry in entries)))
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


def _pictures(
    folder: Path, findings: Findings, required: bool = True, deep: bool = False
) -> list[Path]:
    """The pictures in a folder, by path."""
    if not folder.is_dir():
        raise ValueError(f'{folder.parent} has no folder {folder.name}/')
    files = (folder.rglob if deep else folder.glob)('*')
    seen = sorted(
        path for path in files if not path.name.startswith('.') and not (deep and path.is_dir())
    )
    pictures = [path for path in seen if path.suffix.lower() in images.ENDINGS and path.is_file()]
    findings.odd(
        'file or folder that is no picture (not used)',
        *(str(path) for path in seen if path not in pictures),
    )
    if required and not pictures:
        raise ValueError(
            f'{folder} has no pictures: no file there ends in {", ".join(images.ENDINGS)}'
        )
    return pictures


def _by_stem(paths: Iterable[Path], findings: Findings) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            findings.mistake(
                'name that two files have, but for the ending',
                f'{found[path.stem]} and {path.name}',
            )
        found[path.stem] = path
    return found


def _entries(
    pictures: dict[str, Path], masks: dict[str, list[Mask]], findings: Findings
) -> list[Entry]:
    findings.odd('image without a mask (left out)', *sorted(pictures.keys() - masks.keys()))
    findings.odd(
        'image that differs from another in upper and lower case only', *_alike(sorted(pictures))
    )
    return [Entry(name, pictures[name], tuple(masks[name])) for name in sorted(masks)]


def _alike(names: list[str]) -> list[str]:
    folded = [name.casefold() for name in names]
    return [name for name, one in zip(names, folded, strict=True) if folded.count(one) > 1]
