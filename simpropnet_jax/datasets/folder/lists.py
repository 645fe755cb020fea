"""Who is on which list: images to train on and to evaluate on, and classes that a fold holds out."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from simpropnet_jax.datasets import list_files
from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.runtime import records

TRAIN, VAL = 'trainaug', 'val'  # names that the lists have in every data set
FILES = {TRAIN: 'train.txt', VAL: 'val.txt'}
FOLDS = 'folds.json'
LEAST = 2  # images of a class on a list: a query and a support
UNEVEN = 10  # times as many images of one class as of another


def read_folds(folder: Path, names: Sequence[str], findings: Findings) -> HeldOut:
    """The class ids that each fold holds out: of folds.json, [["cat", "dog"], ["car"]]; without it one fold, of all.

    Raises:
      ValueError: the file is not that.
    """
    path = folder / FOLDS
    if not path.is_file():
        return (tuple(range(1, len(names))),)
    listed = records.parse(path, 'Write it again, or remove it')
    if (
        not isinstance(listed, list)
        or not listed
        or not all(isinstance(one, list) for one in listed)
    ):
        raise ValueError(
            f'{path} must be a list of lists of classes, such as [["cat", "dog"], ["car"]]'
        )
    for fold, one in enumerate(listed):
        for name in sorted(set(map(str, one)) - set(names[1:])):
            kind = f'class in {FOLDS} that has no masks; there are {", ".join(names[1:])}'
            findings.mistake(kind, f'fold {fold}: {name}')
        if not one or len(set(map(str, one))) < len(one):
            findings.mistake(
                f'fold in {FOLDS} that is empty or has a class twice', f'fold {fold}: {one}'
            )
    return tuple(
        tuple(sorted(names.index(name) for name in one if name in names)) for one in listed
    )


def read_lists(folder: Path, ids: Sequence[str], findings: Findings) -> dict[str, list[str]] | None:
    """Image ids by list, of train.txt and val.txt; with one file alone, the other list has the rest. None: no file."""
    given = {name: folder / file for name, file in FILES.items() if (folder / file).is_file()}
    if not given:
        return None
    known, lists = set(ids), {}
    for name, path in given.items():
        lines = list_files.lines(path.read_bytes(), str(path))
        lists[name] = [_known_as(line, known) for line in lines]
        for one in sorted(set(lists[name]) - known):
            findings.odd(f'name in {path.name} that has no image with a mask (not used)', one)
        lists[name] = [one for one in lists[name] if one in known]
    for name in FILES:
        if name not in lists:
            lists[name] = [one for one in ids if one not in {*lists[TRAIN if name == VAL else VAL]}]
    for one in sorted(set(lists[TRAIN]) & set(lists[VAL])):
        findings.mistake('image that is both in train.txt and in val.txt', one)
    left = known - set(lists[TRAIN]) - set(lists[VAL])
    findings.odd(
        'image with a mask that is neither in train.txt nor in val.txt (not used)', *sorted(left)
    )
    return lists


def of_splits(
    splits: Mapping[str, frozenset[str]], findings: Findings
) -> dict[str, list[str]] | None:
    """Return image ids by list, as the files of their annotations say; None if they do not say both lists.

    Args:
      splits: of each image, by id; see `inputs.Entry`.
      findings: mistakes are added.
    """
    lists = {name: [one for one, of in splits.items() if name in of] for name in FILES}
    if not all(lists.values()):
        return None
    for one in sorted(set(lists[TRAIN]) & set(lists[VAL])):
        findings.mistake('image that is annotated both to train and to evaluate on', one)
    left = set(splits) - set(lists[TRAIN]) - set(lists[VAL])
    findings.odd('image that is on none of the lists of the annotations (not used)', *sorted(left))
    findings.note(
        'list taken from the names of the annotation files',
        *(
            f'{FILES[name].removesuffix(".txt")}: {len(listed)} images'
            for name, listed in lists.items()
        ),
    )
    return lists


def _known_as(line: str, known: Collection[str]) -> str:
    """Return the id that a line of a list means: itself, a path, or the first of two paths."""
    first = line.split()[0]
    readings = (line, str(Path(line).with_suffix('')), *map(list_files.image_name, (line, first)))
    return next((one for one in readings if one in known), readings[1])


def split(
    ids: Sequence[str], shows: np.ndarray, content: Sequence[str], fraction: float
) -> dict[str, list[str]]:
    """Image ids by list: of each class about a fraction for val, at least two of four or more.

    The choice depends on their ids alone. Images with the same pixels are on the same list.

    Args:
      shows: bool [images, classes].
      content: hash of the pixels of each image.
    """
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(content):
        groups.setdefault(one, []).append(number)
    ordered = sorted(
        groups.values(), key=lambda group: hashlib.sha256(ids[group[0]].encode()).hexdigest()
    )
    seen = np.array([shows[group].any(0) for group in ordered]).reshape(len(ordered), -1)
    chosen = np.zeros(len(ordered), bool)
    for of_class in seen.T[np.argsort(seen.sum(0), kind='stable')]:  # the rarest class first
        count = of_class.sum()
        wanted = max(LEAST, round(fraction * count)) if count >= 2 * LEAST else 0
        for place in np.flatnonzero(of_class & ~chosen):
            left = seen[~chosen].sum(0)
            if (of_class & chosen).sum() < wanted and (left[seen[place]] > LEAST).all():
                chosen[place] = True
    val = {ids[number] for place in np.flatnonzero(chosen) for number in ordered[place]}
    return {TRAIN: [one for one in ids if one not in val], VAL: [one for one in ids if one in val]}


def check(
    lists: Mapping[str, Sequence[str]],
    ids: Sequence[str],
    shows: np.ndarray,
    content: Sequence[str],
    names: Sequence[str],
    findings: Findings,
) -> None:
    """Adds what is odd about the lists, or wrong.

    Args:
      shows, content: see `split`.
      names: of the classes, by column of `shows`.
    """
    rows = {name: np.isin(ids, list(listed)) for name, listed in lists.items()}
    for name, file in FILES.items():
        counts = shows[rows[name]].sum(0)
        word = file.removesuffix('.txt')
        use = 'train' if name == TRAIN else 'evaluate'
        kind = f'class with less than {LEAST} images to {use} on: no episodes of it'
        short = [
            f'{one} ({count} in {word})'
            for one, count in zip(names, counts, strict=True)
            if count < LEAST
        ]
        findings.odd(kind, *short)
        if short and len(short) == len(names):
            findings.mistake(
                f'list without a class that has {LEAST} images: a query and a support of one class are needed',
                f'{word}, which has {rows[name].sum()} images; add images, or give other lists',
            )
    counts = shows.sum(0)
    if counts.max() > UNEVEN * counts.min():
        most, least = names[counts.argmax()], names[counts.argmin()]
        findings.odd(
            "uneven classes (train with config.train.sampling 'classes')",
            f'{counts.max()} images of {most}, {counts.min()} of {least}',
        )
    place = {one: name for name, listed in lists.items() for one in listed}
    first: dict[str, str] = {}
    for one, same in zip(ids, content, strict=True):
        other = first.setdefault(same, one)
        if other != one:
            across = place.get(one) != place.get(other)
            kind = 'both to train and to evaluate on' if across else 'on one list'
            findings.odd(f'image that is there twice, {kind}', f'{other} and {one}')
