"""A prepared folder: images as JPEG or PNG, labels as PNG, the label index, and the names of the classes and folds."""

import json
from collections.abc import Sequence
from pathlib import Path

from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.runtime.paths import AnyPath

FORMAT = 1
INDEX, CLASSES = 'index.npz', 'classes.json'
IMAGES, LABELS = 'images', 'labels'


class FolderRecords:
    """Encoded images and labels of one list, by place on it."""

    def __init__(self, folder: AnyPath, files: Sequence[str]):
        """Args: files: of the images, by place."""
        self._folder, self._files = folder, files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> dict[str, bytes]:
        """The 'image', a JPEG or a PNG, and the PNG 'label'."""
        file = self._files[place]
        return {
            'image': (self._folder / IMAGES / file).read_bytes(),
            'label': (self._folder / LABELS / f'{file[:-4]}.png').read_bytes(),
        }


def load(folder: AnyPath) -> tuple[Index, dict[str, FolderRecords], tuple[str, ...], HeldOut]:
    """The index, the records of each list, the names of the classes, and the classes that each fold holds out.

    Raises:
      FileNotFoundError, ValueError: it was not prepared, or by another version.
    """
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(
            f'{folder} is not a prepared folder ({folder / INDEX} is not there): set config.data.dir to what '
            '`simpropnet prepare folder FOLDER --out PREPARED` wrote'
        )
    stored = json.loads((folder / CLASSES).read_text())
    if stored['format'] != FORMAT:
        raise ValueError(f'{folder} has format {stored["format"]}, not {FORMAT}: prepare it again')
    names = tuple(stored['classes'])
    held_out = tuple(tuple(names.index(name) for name in fold) for fold in stored['folds'])
    index = Index.load(folder / INDEX)
    file_of = {path.name[:-4]: path.name for path in (folder / IMAGES).iterdir()}
    records = {
        name: FolderRecords(folder, [file_of[index.ids[i]] for i in member.nonzero()[0]])
        for name, member in index.lists.items()
    }
    return index, records, names, held_out


def write(folder: Path, index: Index, names: Sequence[str], held_out: HeldOut) -> None:
    """What there is beside the images and labels."""
    index.save(folder / INDEX)
    folds = [[names[class_id] for class_id in fold] for fold in held_out]
    content = {'format': FORMAT, 'classes': list(names), 'folds': folds}
    (folder / CLASSES).write_text(json.dumps(content, indent=1) + '\n')
