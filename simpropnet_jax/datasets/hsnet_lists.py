"""COCO-20i and FSS-1000 by HSNet's lists alone, without the images: enough to draw episodes of listed pairs."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from simpropnet_jax.datasets import declared
from simpropnet_jax.datasets.coco20i import check
from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES
from simpropnet_jax.datasets.folds import FOLDS
from simpropnet_jax.datasets.fss1000 import inputs
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.source import Source

KNOWN = ('coco20i/complete', 'fss1000/complete')
LISTED = (
    2048  # pixels of a listed pair: every rule of `index.listed_pairs` that counts pixels takes it
)


def open_lists(name: str, folder: Path, folds: str = declared.OWN) -> Source:
    """Return a data set without images: its list 'val' has the pairs of the lists.

    Args:
      name: one of `KNOWN`.
      folder: HSNet's data/splits/coco or data/splits/fss.
      folds: as in `open_source`.
    Raises:
      FileNotFoundError, ValueError: the lists are not there, damaged or not complete.
    """
    if name not in KNOWN:
        raise ValueError(
            f'--lists is for config.data.name {" or ".join(KNOWN)}, got {name!r}. Prepare the data, and leave out '
            '--lists'
        )
    source = _coco(name, folder) if name.startswith('coco20i') else _fss(name, folder)
    if folds != declared.OWN:
        source.index = replace(source.index, held_out=declared.held_out(name, folds))
    return source


def _coco(name, folder) -> Source:
    pairs = [pair for fold in FOLDS for pair in check.read_list(folder / 'val' / f'fold{fold}.pkl')]
    count = Counter(class_id for _, class_id in pairs)
    expected = check.reference_counts()['val']['pairs_per_class']
    for class_id, number in enumerate(expected, 1):
        if count[class_id] != number:
            raise ValueError(
                f'{folder / "val"} has {count[class_id]:,} pairs of {CLASS_NAMES[class_id]}, expected {number:,}: copy '
                "HSNet's lists again"
            )
    return Source(
        name, _index(pairs, len(CLASS_NAMES)), {}, CLASS_NAMES, declared.find(name).folds['own']
    )


def _fss(name, folder) -> Source:
    listed = inputs.read_lists(folder)
    inputs.check_lengths(folder, listed)
    names = ('background', *(one for classes in listed.values() for one in classes))
    test = tuple(range(len(names) - len(listed['test']), len(names)))
    pairs = [
        (inputs.image_id(names[class_id], number), class_id)
        for class_id in test
        for number in range(1, inputs.IMAGES + 1)
    ]
    return Source(name, _index(pairs, len(names)), {}, names, (test,))


def _index(pairs: Iterable[tuple[str, int]], classes: int) -> Index:
    ids = tuple(sorted({image_id for image_id, _ in pairs}))
    number = {image_id: i for i, image_id in enumerate(ids)}
    pixels, size = np.zeros((len(ids), classes), np.int32), np.ones(len(ids), np.int32)
    for image_id, class_id in pairs:
        pixels[number[image_id], class_id] = LISTED
    listed = {'val': np.ones(len(ids), bool)}
    return Index(ids, pixels, np.zeros_like(pixels), height=size, width=size, lists=listed)
