"""A prepared folder: images as JPEG or PNG, labels as PNG, the label index, and the names of the classes and folds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.stored_files import IMAGES, StoredFiles, checksums
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.paths import AnyPath

FORMAT = 1
INDEX, CLASSES = 'index.npz', 'classes.json'
AGAIN = 'Prepare it again with `simpropnet prepare folder`'


class Classes(TypedDict):
    """Content of CLASSES."""

    format: int
    classes: list[str]
    folds: list[list[str]]
    crc32: NotRequired[dict[str, int]]


def load(folder: AnyPath) -> tuple[Index, dict[str, StoredFiles], tuple[str, ...], HeldOut]:
    """The index, the records of each list, the names of the classes, and the classes that each fold holds out.

    Raises:
      FileNotFoundError, ValueError: it was not prepared, or by another version.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f'{folder} is not a prepared folder ({folder / INDEX} is not there): set config.data.dir to what '
            '`simpropnet prepare folder FOLDER --out PREPARED` wrote'
        )
    stored = records.read(folder / CLASSES, Classes, AGAIN, FORMAT)
    names = tuple(stored['classes'])
    strange = {name for fold in stored['folds'] for name in fold} - set(names)
    if strange:
        raise ValueError(
            f'{folder / CLASSES} is damaged: {min(strange)!r} is in a fold, but no class. {AGAIN}'
        )
    held_out = tuple(tuple(names.index(name) for name in fold) for fold in stored['folds'])
    index = Index.load(folder / INDEX, AGAIN, len(names))
    file_of = {path.name[:-4]: path.name for path in (folder / IMAGES).iterdir()}
    missing = sorted(set(index.ids) - set(file_of))
    if missing:
        raise FileNotFoundError(f'{folder / IMAGES} has no image {missing[0]}. {AGAIN}')
    listed = {
        name: StoredFiles(
            folder,
            [file_of[index.ids[i]] for i in member.nonzero()[0]],
            stored.get('crc32', {}),
            AGAIN,
        )
        for name, member in index.lists.items()
    }
    return index, listed, names, held_out


def write(folder: Path, index: Index, names: Sequence[str], held_out: HeldOut) -> None:
    """Everything but the images and labels."""
    index.save(folder / INDEX)
    folds = [[names[class_id] for class_id in fold] for fold in held_out]
    content = {'format': FORMAT, 'classes': list(names), 'folds': folds}
    content['crc32'] = checksums(folder)
    records.write(folder / CLASSES, content)
