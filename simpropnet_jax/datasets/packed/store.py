"""A packed data set: encoded bytes as uint8 arrays in a few files, the label index and the class names."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.runtime.paths import AnyPath

FORMAT = 1
FACTS, INDEX, PLACES = 'packed.json', 'index.npz', 'places.npy'
MEBIBYTE = 2**20


class PackedRecords:
    """Encoded images and labels of one list, by their position."""

    def __init__(self, parts: Sequence[np.ndarray], places: np.ndarray):
        """Args: parts: uint8 [bytes] each; places: int64 [N, 4], part, start of image, of label, and end."""
        self._parts, self._places = parts, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> dict[str, bytes]:
        """Return the 'image' and the PNG 'label'."""
        part, start, middle, end = self._places[place]
        held = self._parts[part]
        return {'image': held[start:middle].tobytes(), 'label': held[middle:end].tobytes()}


def is_packed(folder: AnyPath) -> bool:
    """Return whether `write` made this folder."""
    return (folder / FACTS).is_file()


def load(
    folder: Path, name: str
) -> tuple[Index, dict[str, PackedRecords], tuple[str, ...], HeldOut]:
    """Load the index, the records of each list, the class names, and the classes that each fold holds out.

    Args:
      name: name of the expected data set.
    Raises:
      ValueError: the folder has another data set or version, or a part is missing.
    """
    facts = json.loads((folder / FACTS).read_text())
    if facts['format'] != FORMAT:
        raise ValueError(f'{folder} has format {facts["format"]}, not {FORMAT}: pack it again')
    if facts['name'] != name:
        raise ValueError(
            f'config.data.name is {name!r}, but {folder} holds {facts["name"]!r}: give that name'
        )
    missing = [part for part in facts['parts'] if not (folder / part).is_file()]
    if missing:
        raise ValueError(
            f'{folder} has no {missing[0]} ({len(missing)} of {len(facts["parts"])} parts are missing)'
        )
    index, places = Index.load(folder / INDEX), np.load(folder / PLACES)
    parts = [np.load(folder / part, mmap_mode='r') for part in facts['parts']]
    records = {name: PackedRecords(parts, places[listed]) for name, listed in index.lists.items()}
    held_out = tuple(tuple(fold) for fold in facts['held_out'])
    return index, records, tuple(facts['classes']), held_out


def write(source, folder: Path, part_bytes: int = 48 * MEBIBYTE) -> dict:
    """Pack a data set.

    Args:
      source: a datasets Source.
      folder: a new or empty folder.
      part_bytes: most bytes of a file, unless a single image is larger.
    Returns: the content of `packed.json`: name, classes, held_out, parts.
    Raises:
      ValueError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f'{folder} is not empty: give --out a new folder')
    folder.mkdir(parents=True, exist_ok=True)
    places, names, waiting, size = [], [], [], 0

    def end_part():
        names.append(f'part{len(names):02d}.npy')
        np.save(folder / names[-1], np.frombuffer(b''.join(waiting), np.uint8))

    for number in range(len(source.ids)):
        image, label = source.example(number)
        if waiting and size + len(image) + len(label) > part_bytes:
            end_part()
            waiting, size = [], 0
        middle = size + len(image)
        places.append((len(names), size, middle, middle + len(label)))
        waiting += [image, label]
        size = middle + len(label)
    end_part()
    np.save(folder / PLACES, np.array(places, np.int64))
    source.index.save(folder / INDEX)
    facts = {
        'format': FORMAT,
        'name': source.name,
        'classes': list(source.class_names),
        'held_out': source.index.held_out,
        'parts': names,
    }
    (folder / FACTS).write_text(json.dumps(facts) + '\n')
    return facts
