"""The pixel counts of every episode, in a file next to the result: the terms of a mIoU, to compare methods.

eval/NAME.json has its episodes in eval/NAME.episodes.npz. NumPy alone reads it; for each shot K evaluated it has

    K/seed      int [E]      the episode's set
    K/query     str [E]      image id
    K/supports  str [E, K]   image ids
    K/class_id  int [E]
    K/square    int [E, 4]   foreground intersection and union, background intersection and union, in pixels
    K/own       int [E, 4]   the same at each label's original size, if that was evaluated
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simpropnet_jax.evaluation.engine.image_bank import LABEL_SIZES
from simpropnet_jax.evaluation.engine.metrics import Counts
from simpropnet_jax.runtime import arrays as arrays_of
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

SUFFIX = '.episodes.npz'
COLUMNS = ('seed', 'query', 'supports', 'class_id')


class EpisodeCounts(NamedTuple):
    """The E episodes of one shot, set by set, and their counts.

    Attributes:
      seed: int [E].
      query: [E] image numbers, or image ids.
      supports: [E, K], like the query.
      class_id: int [E].
      counts: counts at each label size, int [E] each.
    """

    seed: np.ndarray
    query: np.ndarray
    supports: np.ndarray
    class_id: np.ndarray
    counts: dict[str, Counts]

    def named(self, ids: Sequence[str]) -> 'EpisodeCounts':
        """Replace image numbers by image ids; `ids` are the Index's."""
        names = np.array(ids)
        return self._replace(query=names[self.query], supports=names[self.supports])


def file_beside(result: str | os.PathLike) -> AnyPath:
    """Return the path of a result file's episodes."""
    return paths.parse(result).with_suffix(SUFFIX)


def write(path: AnyPath, shots: Mapping[int, EpisodeCounts]) -> None:
    """Write the episodes of every shot, with image ids, to a file atomically."""
    arrays = {}
    for shot, one in shots.items():
        arrays |= {f'{shot}/{name}': getattr(one, name) for name in COLUMNS}
        arrays |= {
            f'{shot}/{label_size}': np.stack(counts, -1)
            for label_size, counts in one.counts.items()
        }
    unfinished = path.with_name(path.name + '.unfinished')
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    unfinished.write_bytes(file.getvalue())
    unfinished.replace(path)


def read(path: Path, shot: int) -> EpisodeCounts:
    """Read the episodes of one shot.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, or has no episodes of this shot.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no file {path} with the episodes of the result: evaluate again'
        )
    arrays = arrays_of.read_npz(path, 'Evaluate again')
    try:
        shots = sorted({int(name.partition('/')[0]) for name in arrays})
        _check(arrays, shots)
    except (ValueError, KeyError) as error:
        raise ValueError(f'{path} is not a file of episodes ({error}). Evaluate again') from error
    if shot not in shots:
        there = ', '.join(f'{one}-shot' for one in shots)
        raise ValueError(f'{path} has no {shot}-shot episodes, only {there}: choose another --shot')
    label_sizes = [name for name in LABEL_SIZES if f'{shot}/{name}' in arrays]
    counts = {name: Counts(*arrays[f'{shot}/{name}'].T) for name in label_sizes}
    return EpisodeCounts(*(arrays[f'{shot}/{name}'] for name in COLUMNS), counts)


def _check(arrays: Mapping[str, np.ndarray], shots: Sequence[int]) -> None:
    """Raise KeyError or ValueError where an array is missing or has another shape."""
    if not shots:
        raise ValueError('it is empty')
    for shot in shots:
        count = len(arrays[f'{shot}/query'])
        shapes = {name: (count,) for name in COLUMNS} | {'supports': (count, shot)}
        shapes |= {size: (count, 4) for size in LABEL_SIZES if f'{shot}/{size}' in arrays}
        for name, shape in shapes.items():
            found = arrays[f'{shot}/{name}'].shape
            if found != shape:
                raise ValueError(f'{shot}/{name} has the shape {found}, not {shape}')
