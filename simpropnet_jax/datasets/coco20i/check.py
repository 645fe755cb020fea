"""Compare a prepared COCO-20i with the counts of HSNet's lists, and with the lists themselves."""

import io
import json
import pickle
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np

from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES, EVERY_FOURTH
from simpropnet_jax.datasets.folds import base_classes
from simpropnet_jax.datasets.index import Index, listed_pairs

RULE = 'px2048'  # PFENet's: the lists have the (image, class) pairs of 2,048 pixels or more
TOLERATED = 0.001  # share of the pairs that may differ in complete data
SPLITS = {'trn': 'trainaug', 'val': 'val'}
"""Folder of HSNet's lists -> list of the index."""

PARTS = {'trainaug': 'train2014', 'val': 'val2014'}
"""List of the index -> part of COCO."""


def reference_counts() -> dict:
    """Return the counts of HSNet's lists, in the form of `counts`."""
    return json.loads((resources.files(__package__) / 'counts.json').read_text())


def counts(index: Index) -> dict:
    """Count pairs and images of each fold (`EVERY_FOURTH`), and pairs of each class.

    'trainaug' counts a fold's base classes and 'val' its novel classes. '_drop_novel' leaves out training images with
    any pixel of a novel class.
    """
    result: dict = {'rule': RULE}
    for name in SPLITS.values():
        folds = [listed_pairs(index, name, of_fold(name, fold), RULE) for fold in range(4)]
        every = listed_pairs(index, name, range(1, len(CLASS_NAMES)), RULE)
        per_class = np.bincount(every.class_id, minlength=len(CLASS_NAMES))[1:]
        result[name] = {
            'pairs': [len(pairs) for pairs in folds],
            'images': [len(np.unique(pairs.image)) for pairs in folds],
            'pairs_per_class': per_class.tolist(),
        }
    dropped = [
        listed_pairs(index, 'trainaug', of_fold('trainaug', fold), RULE, EVERY_FOURTH[fold])
        for fold in range(4)
    ]
    result['trainaug']['pairs_drop_novel'] = [len(pairs) for pairs in dropped]
    result['trainaug']['images_drop_novel'] = [len(np.unique(pairs.image)) for pairs in dropped]
    return result


def of_fold(name: str, fold: int) -> tuple[int, ...]:
    """Return the classes that a fold of `EVERY_FOURTH` draws from the list 'trainaug' or 'val'."""
    if name == 'val':
        return EVERY_FOURTH[fold]
    return base_classes(fold, EVERY_FOURTH, CLASS_NAMES)


def check_complete(found: dict, expected: dict) -> list[str]:
    """Return a line for each class with another number of pairs than HSNet's lists.

    Raises:
      ValueError: so many pairs differ that the data are not complete.
    """
    lines, off, total = [], 0, 0
    for name in SPLITS.values():
        pairs = zip(
            CLASS_NAMES[1:],
            found[name]['pairs_per_class'],
            expected[name]['pairs_per_class'],
            strict=True,
        )
        for class_name, ours, theirs in pairs:
            total, off = total + theirs, off + abs(ours - theirs)
            if ours != theirs:
                lines.append(f'{PARTS[name]} {class_name}: {ours:,} pairs, {theirs:,} in the lists')
    if off > TOLERATED * total:
        raise ValueError(
            f'the input is not complete COCO-20i: {lines[0]} ({len(lines)} of 160 counts differ). Complete it, or '
            'declare a part of the data with --subset'
        )
    return lines


def describe(found: dict) -> str:
    """Return the counts as text: pairs (images) of each fold."""
    lines = [
        f'{"pairs (images) of 2,048 pixels or more":<40}'
        + ''.join(f'{f"fold {i}":>19}' for i in range(4))
    ]
    rows = {
        'train2014, base classes': (found['trainaug'], ''),
        'the same, without novel classes': (found['trainaug'], '_drop_novel'),
        'val2014, novel classes': (found['val'], ''),
    }
    for what, (numbers, suffix) in rows.items():
        cells = zip(numbers[f'pairs{suffix}'], numbers[f'images{suffix}'], strict=True)
        row = ''.join(f'{f"{pairs:,} ({images:,})":>19}' for pairs, images in cells)
        lines.append(f'{what:<40}{row}')
    return '\n'.join(lines)


def compare_lists(index: Index, folder: Path) -> list[str]:
    """Return a line for each pair that HSNet's lists have and the index has not, or the other way round.

    Pairs are compared of images of the index, so a part of the data can be checked, too; the last line says how many
    images are not there.

    Args:
      folder: HSNet's data/splits/coco, with trn/fold0.pkl to val/fold3.pkl.
    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is no list of images by class.
    """
    number = {image_id: i for i, image_id in enumerate(index.ids)}
    lines: dict[str, None] = {}
    absent: set[str] = set()
    for split, name in SPLITS.items():
        for fold in range(4):
            pairs = listed_pairs(index, name, of_fold(name, fold), RULE)
            ours = set(zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True))
            listed = set(read_list(folder / split / f'fold{fold}.pkl'))
            absent |= {image_id for image_id, _ in listed if image_id not in number}
            theirs = {(number[one], class_id) for one, class_id in listed if one in number}
            for image, class_id in sorted(ours ^ theirs):
                where = 'only here' if (image, class_id) in ours else 'only in the lists'
                pixels = int(index.pixels[image, class_id])
                shown = f'{index.ids[image]} {CLASS_NAMES[class_id]}, {pixels:,} pixels'
                lines[f'{shown}: {where}'] = None
    if absent:
        lines[f'{len(absent):,} images of the lists are not here; the first is {min(absent)}'] = (
            None
        )
    return list(lines)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, numbers and text, and nothing that could run code."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f'it has {module}.{name}, and not only names of images')


def read_list(path: Path) -> Iterator[tuple[str, int]]:
    """Yield image id and class id of each pair of HSNet's list of a fold, such as val/fold0.pkl.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or it is no list of images by class.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {path}: give --lists the folder data/splits/coco of HSNet'
        )
    try:
        content = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
        pairs = [
            (Path(name).stem, int(number) + 1)
            for number, names in content.items()
            for name in names
        ]
    except Exception as error:  # pickle raises many types for a damaged file
        raise ValueError(f'{path} is no list of images by class ({error})') from error
    yield from pairs
