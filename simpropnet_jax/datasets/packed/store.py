"""A packed data set: encoded bytes as uint8 arrays in a few files, the label index and the class names."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.runtime import paths, records
from simpropnet_jax.runtime.arrays import DAMAGED, read_npy
from simpropnet_jax.runtime.paths import AnyPath

FORMAT = 1
FACTS, INDEX, PLACES = 'packed.json', 'index.npz', 'places.npy'
MEBIBYTE = 2**20
AGAIN = 'Pack it again with `simpropnet prepare packed`'


class Facts(TypedDict):
    """Content of FACTS."""

    format: int
    name: str
    classes: list[str]
    held_out: list[list[int]]
    parts: list[str]
    validation: NotRequired[list[int]]
    places_crc32: NotRequired[int]


class PackedRecords:
    """Encoded images and labels of one list, by their position.

    Args:
      folder: for messages.
      parts: uint8 [bytes] each.
      places: int64 [N, 5]: part, start of image, of label, end, and CRC-32 of image and label; earlier versions wrote
        no CRC-32.
    """

    def __init__(self, folder: AnyPath, parts: Sequence[np.ndarray], places: np.ndarray):
        self._folder, self._parts, self._places = folder, parts, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> dict[str, bytes]:
        """Return the 'image' and the PNG 'label'.

        Raises:
          ValueError: they are not as they were written.
        """
        part, start, middle, end, *crc32 = self._places[place].tolist()
        held = self._parts[part]
        if crc32 and zlib.crc32(held[start:end]) != crc32[0]:
            raise ValueError(
                f'{self._folder / part_name(part)} is damaged: record {place} is not as it was written. {AGAIN}'
            )
        return {'image': held[start:middle].tobytes(), 'label': held[middle:end].tobytes()}


def is_packed(folder: AnyPath) -> bool:
    """Return whether `write` made this folder."""
    return any((folder / name).is_file() for name in (FACTS, PLACES))


def load(
    folder: Path, name: str
) -> tuple[Index, dict[str, PackedRecords], tuple[str, ...], HeldOut, tuple[int, ...]]:
    """Load the index, the records of each list, the class names, and the classes that each fold holds out.

    Last come the classes that select a checkpoint, where they are neither trained on nor held out.

    Args:
      name: name of the expected data set.
    Raises:
      ValueError: the folder has another data set or version, a part is missing, or a file is damaged.
    """
    if not (folder / FACTS).is_file():
        raise FileNotFoundError(f'{folder} is packed data without {FACTS}. {AGAIN}')
    facts = records.read(folder / FACTS, Facts, AGAIN, FORMAT)
    if facts['name'] != name:
        raise ValueError(
            f'config.data.name is {name!r}, but {folder} holds {facts["name"]!r}: give that name'
        )
    missing = [part for part in facts['parts'] if not (folder / part).is_file()]
    if missing:
        raise ValueError(
            f'{folder} has no {missing[0]} ({len(missing)} of {len(facts["parts"])} parts are missing)'
        )
    index = Index.load(folder / INDEX, AGAIN, len(facts['classes']))
    places = read_npy(folder / PLACES, AGAIN)
    parts = [_part(folder / part) for part in facts['parts']]
    _check_places(folder / PLACES, places, facts, parts, len(index.ids))
    listed = {
        name: PackedRecords(folder, parts, places[member]) for name, member in index.lists.items()
    }
    held_out = tuple(tuple(fold) for fold in facts['held_out'])
    return index, listed, tuple(facts['classes']), held_out, tuple(facts.get('validation', ()))


def part_name(number: int) -> str:
    """Return the name of a part's file."""
    return f'part{number:02d}.npy'


def _part(path: AnyPath) -> np.ndarray:
    """Return the bytes of a part, of which nothing is read yet."""
    try:
        part = np.load(path, mmap_mode='r', allow_pickle=False)
    except DAMAGED as error:
        raise ValueError(f'{path} is damaged ({error}). {AGAIN}') from error
    if getattr(part, 'dtype', None) != np.uint8 or part.ndim != 1:
        raise ValueError(f'{path} is damaged: it holds no bytes. {AGAIN}')
    return part


def _check_places(path, places, facts, parts, images) -> None:
    """Refuse places that were not written with these facts, or lie outside the parts."""
    if places.dtype != np.int64 or places.ndim != 2 or len(places) != images:
        raise ValueError(
            f'{path} is damaged: it holds {places.dtype} {list(places.shape)} for {images} images. {AGAIN}'
        )
    told = facts.get('places_crc32')
    part, start, middle, end = places.T[:4]
    lengths = np.array([len(one) for one in parts])
    fits = (part >= 0) & (part < len(parts)) & (start >= 0) & (start <= middle) & (middle <= end)
    fits[fits] &= end[fits] <= lengths[part[fits]]
    if not fits.all() or (told is not None and told != zlib.crc32(places.tobytes())):
        raise ValueError(
            f'{path} is damaged, or a part is shorter than it was written: an image has no place. {AGAIN}'
        )


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
    with paths.unfinished_folder(folder) as unfinished:
        facts = _write(source, unfinished, part_bytes)
        os.rename(unfinished, folder)
    return facts


def _write(source, folder: Path, part_bytes: int) -> dict:
    places, names, waiting, size = [], [], [], 0

    def end_part():
        names.append(part_name(len(names)))
        np.save(folder / names[-1], np.frombuffer(b''.join(waiting), np.uint8))

    for number in range(len(source.ids)):
        image, label = source.example(number)
        if waiting and size + len(image) + len(label) > part_bytes:
            end_part()
            waiting, size = [], 0
        middle = size + len(image)
        crc32 = zlib.crc32(label, zlib.crc32(image))
        places.append((len(names), size, middle, middle + len(label), crc32))
        waiting += [image, label]
        size = middle + len(label)
    end_part()
    table = np.array(places, np.int64)
    np.save(folder / PLACES, table)
    source.index.save(folder / INDEX)
    facts = {
        'format': FORMAT,
        'name': source.name,
        'classes': list(source.class_names),
        'held_out': source.index.held_out,
        'parts': names,
        'places_crc32': zlib.crc32(table.tobytes()),
    }
    if source.index.validation:
        facts['validation'] = source.index.validation
    records.write(folder / FACTS, facts)
    return facts
