"""PASCAL VOC classes and the four folds of PASCAL-5i (OSLSM, Shaban et al. 2017)."""

CLASS_NAMES = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat', 'chair', 'cow',
    'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train',
    'tvmonitor',
)  # fmt: skip
"""Name of each VOC class id, 0..20."""

VOID = 255
"""Label value of pixels that belong to no class (object borders, difficult objects)."""

FOLDS = (0, 1, 2, 3)


def novel_classes(fold: int) -> tuple[int, ...]:
    """The five class ids that `fold` holds out: 5 * fold + 1 .. 5 * fold + 5.

    Raises:
      ValueError: fold is not 0, 1, 2 or 3.
    """
    if fold not in FOLDS:
        raise ValueError(
            f'fold must be 0, 1, 2 or 3, got {fold} (PASCAL-5i splits 20 classes into four folds; '
            'the papers call them split-1 to split-4)'
        )
    return tuple(range(5 * fold + 1, 5 * fold + 6))


def base_classes(fold: int) -> tuple[int, ...]:
    """The fifteen class ids that `fold` trains on: all but background and `novel_classes(fold)`."""
    novel = novel_classes(fold)
    return tuple(c for c in range(1, len(CLASS_NAMES)) if c not in novel)
