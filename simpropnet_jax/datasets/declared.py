"""What each data set declares: its classes and its folds. This module is light: checking a config loads no NumPy."""

from typing import NamedTuple

from simpropnet_jax.datasets import folds
from simpropnet_jax.datasets.coco20i import classes as coco
from simpropnet_jax.datasets.folds import HeldOut

OWN = 'own'


class Declared(NamedTuple):
    """A data set before it is opened.

    Attributes:
      title: what it is called.
      classes: name of each class id, from 0; (): known only when it is opened.
      folds: value of config.data.folds -> class ids that each fold holds out; {}: known only when it is opened.
    """

    title: str
    classes: tuple[str, ...]
    folds: dict[str, HeldOut]


DECLARED = {
    'pascal5i': Declared(
        'PASCAL-5i', folds.CLASS_NAMES, {OWN: folds.PASCAL, 'coco': coco.PASCAL_BY_COCO}
    ),
    'shapes5i': Declared('shapes5i', (), {OWN: folds.PASCAL}),
    'coco20i': Declared(
        'COCO-20i', coco.CLASS_NAMES, {OWN: coco.EVERY_FOURTH, 'blocks': coco.BLOCKS}
    ),
    'fss1000': Declared('FSS-1000', (), {}),
    'folder': Declared('your own data', (), {}),
}
"""By the first part of a data set's name."""

CLASS_COUNTS = {'coco20i': len(coco.CLASS_NAMES)}
"""Classes with the background, where they are not VOC's 21."""


def find(name: str) -> Declared:
    """Return what a data set declares, by its whole name, such as 'pascal5i/sbd'; an unknown one declares nothing."""
    return DECLARED.get(name.partition('/')[0], Declared(name, (), {}))


def held_out(name: str, kind: str) -> HeldOut | None:
    """Return the class ids that each fold holds out; None: known only when the data set is opened.

    Args:
      name: config.data.name.
      kind: config.data.folds.
    Raises:
      ValueError: the data set has no such folds.
    """
    known = find(name).folds
    if kind == OWN:
        return known.get(OWN)
    if kind not in known:
        allowed = ' or '.join(repr(one) for one in known or (OWN,))
        raise ValueError(f'config.data.folds must be {allowed} for {name}, got {kind!r}')
    return known[kind]


def check_fold(name: str, kind: str, fold: int) -> None:
    """Refuse a fold that a data set does not have, as far as this is known before it is opened.

    Raises:
      ValueError: names the folds.
    """
    known = held_out(name, kind)
    if known == folds.PASCAL:
        folds.novel_classes(fold)
    elif known is not None and fold not in range(len(known)):
        raise ValueError(
            f'fold must be from 0 to {len(known) - 1} for {find(name).title}, got {fold}'
        )


def class_count(name: str) -> int:
    """Return the number of classes, with the background, that a classifier of this data set needs."""
    return CLASS_COUNTS.get(name.partition('/')[0], len(folds.CLASS_NAMES))
