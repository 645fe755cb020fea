"""The classes that a fold holds out: four folds of PASCAL-5i (OSLSM, Shaban et al. 2017), or folds of other data."""

from collections.abc import Sequence

CLASS_NAMES = (
    'background',
    'aeroplane',
    'bicycle',
    'bird',
    'boat',
    'bottle',
    'bus',
    'car',
    'cat',
    'chair',
    'cow',
    'diningtable',
    'dog',
    'horse',
    'motorbike',
    'person',
    'pottedplant',
    'sheep',
    'sofa',
    'train',
    'tvmonitor',
)
"""Name of each VOC class id, 0..20."""

FOLDS = (0, 1, 2, 3)

HeldOut = tuple[tuple[int, ...], ...]
"""The class ids that each fold holds out."""

PASCAL: HeldOut = tuple(tuple(range(5 * fold + 1, 5 * fold + 6)) for fold in FOLDS)
"""5 * fold + 1 .. 5 * fold + 5, also for shapes5i."""


def novel_classes(fold: int, held_out: HeldOut = PASCAL) -> tuple[int, ...]:
    """Return the class ids that `fold` holds out.

    Raises:
      ValueError: there is no such fold.
    """
    if fold not in range(len(held_out)) and held_out != PASCAL:
        raise ValueError(
            f'fold must be from 0 to {len(held_out) - 1}, got {fold} (the lists of classes that the data were prepared '
            'with are its folds)'
        )
    if fold not in range(len(held_out)):
        raise ValueError(
            f'fold must be 0, 1, 2 or 3, got {fold} (PASCAL-5i splits 20 classes into four folds; '
            'the papers call them split-1 to split-4)'
        )
    return held_out[fold]


def base_classes(
    fold: int, held_out: HeldOut = PASCAL, names: Sequence[str] = CLASS_NAMES
) -> tuple[int, ...]:
    """Return the class ids that `fold` trains on: all except background and `novel_classes(fold)`."""
    novel = novel_classes(fold, held_out)
    return tuple(c for c in range(1, len(names)) if c not in novel)
