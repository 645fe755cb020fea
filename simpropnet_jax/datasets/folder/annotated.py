"""Which image has which annotations: of files in COCO's JSON or labelme's, found by the names that tools write."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from simpropnet_jax.datasets.folder import inputs
from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folder.inputs import Entry, Mask, WrongSizeError
from simpropnet_jax.datasets.folder.lists import FOLDS, TRAIN, VAL
from simpropnet_jax.io import annotation_files, coco
from simpropnet_jax.io.file_names import FileNames, Match

WORDS = {
    TRAIN: {'train', 'training', 'trainaug'},
    VAL: {'val', 'valid', 'validation', 'test', 'testing'},
}


class _File(NamedTuple):
    path: Path
    content: coco.Annotated
    split: str | None


class _Key(NamedTuple):
    """An entry of "images": the number of its file, and its id there."""

    file: int
    image: coco.Id


def find(
    folder: Path, given: Sequence[Path], findings: Findings, crowds: str = 'void'
) -> list[Entry]:
    """Return the annotated images of a folder, by id.

    Args:
      folder: with images/, or else with the images in it and its subfolders.
      given: files of annotations, or folders of them.
      findings: how images were found, mistakes and what is odd are added.
      crowds: what annotations with iscrowd 1 are, 'void' or 'object'.
    Raises:
      FileNotFoundError, ValueError: a file cannot be read, see `annotation_files.read`, or there are no images.
    """
    files = _read(folder, given, findings)
    root = folder / inputs.IMAGES
    root = root if root.is_dir() else folder
    pictures = inputs.pictures_in(root, findings, deep=True)
    images = _matched(files, root, pictures, findings)
    ids: dict[_Key, str] = {}
    paths: dict[str, Path] = {}
    splits: dict[str, set[str]] = {}
    for key, path in images.items():
        place = path.relative_to(root)
        name = str(place.with_suffix('')).replace('/', '__')
        if paths.setdefault(name, path) != path:
            findings.mistake('image that differs from another by its ending only', str(place))
        ids[key] = name
        splits.setdefault(name, set()).update({files[key.file].split} - {None})
    found: dict[str, list[Mask]] = {}
    for number, file in enumerate(files):
        for one in file.content.annotations:
            name = ids.get(_Key(number, one.image))
            mask = name and _mask(one, file.content, crowds, findings)
            if mask:
                found.setdefault(name, []).append(mask)
    entries = inputs.entries(paths, found, findings, splits)
    used = set().union(*(entry.classes for entry in entries))
    every = {name for file in files for name in file.content.categories.values()}
    findings.odd('category without a mask (left out)', *sorted(every - used))
    return entries


def _read(folder, given, findings) -> list[_File]:
    """Return the files of annotations; in a folder, JSON that is about something else is left out."""
    files = []
    for one in given:
        for path in annotation_files.find(one):
            if one.is_dir() and path.name == FOLDS:
                continue
            read = annotation_files.read_if_meant if one.is_dir() else annotation_files.read
            content = read(path)
            if content is None:
                findings.odd('JSON that has no annotations (not used)', str(path))
                continue
            files.append(_File(path, content, _split(path, folder)))
            names = list(content.categories.values())
            twice = sorted({name for name in names if names.count(name) > 1})
            findings.odd('category name that several ids have (read as one class)', *twice)
    return files


def _split(path: Path, folder: Path) -> str | None:
    """Return the list that a file of annotations belongs to by its name, or by its folder's (Roboflow)."""
    names = [path.stem]
    if folder.absolute() in path.absolute().parent.parents:
        names.append(path.absolute().parent.name)
    words = {word for name in names for word in re.split('[^a-z]+', name.lower())}
    meant = [split for split, listed in WORDS.items() if words & listed]
    return meant[0] if len(meant) == 1 else None


def _matched(
    files: Sequence[_File], root: Path, pictures: Iterable[Path], findings: Findings
) -> dict[_Key, Path]:
    """Return the picture of each entry of "images" that has one."""
    names: dict[_Key, str] = {
        _Key(number, image): picture.file
        for number, file in enumerate(files)
        for image, picture in file.content.images.items()
    }
    folders = [file.path.absolute().parent for file in files]
    index = FileNames(names, {key: folders[key.file] for key in names})
    claims: dict[_Key, list[tuple[Match, Path]]] = {}
    unnamed = []
    for path in pictures:
        matches = index.find(path)
        if len({names[match.key] for match in matches}) > 1:
            several = ', '.join(sorted({names[match.key] for match in matches}))
            findings.mistake('image that several names in the JSON fit', f'{path.name}: {several}')
        elif not matches:
            unnamed.append(str(path.relative_to(root)))
        for match in matches:
            claims.setdefault(match.key, []).append((match, path))
    findings.odd('image that the JSON does not name (left out)', *unnamed)
    missing = sorted(names[key] for key in names.keys() - claims.keys())
    findings.odd(f'image of the JSON that is not in {root.name}/ (not used)', *missing)
    return _best(claims, names, root, findings)


def _best(
    claims: Mapping[_Key, list[tuple[Match, Path]]],
    names: Mapping[_Key, str],
    root: Path,
    findings: Findings,
) -> dict[_Key, Path]:
    """Return the picture that fits each entry best; several that fit equally are a mistake."""
    images = {}
    for key, claimed in claims.items():
        rank = min(match.rank for match, _ in claimed)
        best = [(match, path) for match, path in claimed if match.rank == rank]
        places = [str(path.relative_to(root)) for _, path in best]
        if len(best) > 1:
            findings.mistake(
                'name in the JSON that several images fit', f'{names[key]}: {", ".join(places)}'
            )
        match, images[key] = best[0]
        same = places[0] == names[key]
        findings.note(
            f'image found {match.how}', places[0] if same else f'{places[0]} is {names[key]}'
        )
    return images


def _mask(
    annotation: coco.Annotation, content: coco.Annotated, crowds: str, findings: Findings
) -> Mask | None:
    """Return the mask of an annotation, None if it has none."""
    picture = content.images[annotation.image]
    name = f'annotation {annotation.id} of {picture.file}'
    outline, phrases = coco.outline(annotation)
    for phrase in phrases:
        findings.odd(phrase, name)
    if outline is None:
        return None
    class_name = content.categories[annotation.category]
    if annotation.crowd:
        void = crowds == 'void'
        findings.odd(coco.CROWD_AS_VOID if void else coco.CROWD_AS_OBJECT, f'{name} ({class_name})')
        class_name = None if void else class_name
    draw = functools.partial(_draw, annotation, picture, class_name)
    return Mask(name, () if class_name is None else (class_name,), draw)


def _draw(annotation, picture, class_name, regions, findings) -> None:
    """Add where an annotation is. Sizes are compared before anything is drawn."""
    declared = picture.height or regions.size[0], picture.width or regions.size[1]
    if declared != regions.size:
        raise WrongSizeError(declared)
    if not coco.draw(annotation, coco.sized(picture, declared), regions[class_name]):
        findings.odd(inputs.EMPTY, f'annotation {annotation.id} of {picture.file}')
