"""Intersection over union (IoU) as defined in few-shot segmentation.

mIoU sums intersection and union per class over all episodes of a fold and then averages over the fold's
classes, as every paper since OSLSM (Shaban et al., 2017) does; it is never a mean over images. FB-IoU
(co-FCN, Rakelly et al., 2018) ignores the class: it is the mean of foreground and background IoU over all episodes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simpropnet_jax.io.labels import FOREGROUND, VOID


class Counts(NamedTuple):
    """Pixels of each episode, integer [B] each. Void pixels are not counted."""

    intersection: Any
    union: Any
    background_intersection: Any
    background_union: Any


class Totals(NamedTuple):
    """The four counts summed over the episodes of each class, int64 [C]; `classes` are the C class ids."""

    classes: tuple[int, ...]
    intersection: np.ndarray
    union: np.ndarray
    background_intersection: np.ndarray
    background_union: np.ndarray


def counts(prediction, label) -> Counts:
    """Count intersection and union of foreground and background per episode, for NumPy and JAX arrays.

    Args:
      prediction: bool [B,H,W], true for predicted foreground.
      label: uint8 [B,H,W]; 1 foreground, 0 background, 255 void (not counted).
    """
    known, truth = label != VOID, label == FOREGROUND
    both = truth & prediction
    either = known & (truth | prediction)
    return Counts(
        intersection=both.sum((-2, -1)),
        union=either.sum((-2, -1)),
        background_intersection=(known & ~either).sum((-2, -1)),
        background_union=(known & ~both).sum((-2, -1)),
    )


def counts_by_class(prediction, label, classes: int) -> Counts:
    """Count the pixels of episodes with several classes, as PANet's released test does; for NumPy and JAX arrays.

    A class counts only in queries that show it: what is wrongly given to an absent class is missing elsewhere. The
    background counts once an episode, with the first class, so that sums over classes are sums over episodes.

    Args:
      prediction: integer [B,H,W], 0 background, 1 the episode's first class, and so on.
      label: uint8 [B,H,W], the same numbers; 255 void (not counted).
      classes: number of classes N of an episode.
    Returns:
      Counts, integer [B,N] each.
    """
    numbers = np.arange(1, classes + 1)[:, None, None]
    predicted, truth = prediction[:, None] == numbers, label[:, None] == numbers
    known, shown = (label != VOID)[:, None], truth.any((-2, -1))
    predicted_0, truth_0 = prediction == 0, label == 0
    background = (known[:, 0] & (predicted_0 | truth_0)).sum((-2, -1)) * truth_0.any((-2, -1))
    first = np.arange(classes) == 0
    return Counts(
        intersection=(predicted & truth).sum((-2, -1)),
        union=(known & (predicted | truth)).sum((-2, -1)) * shown,
        background_intersection=(predicted_0 & truth_0).sum((-2, -1))[:, None] * first,
        background_union=background[:, None] * first,
    )


def accumulate(per_episode: Counts, class_ids, classes: Sequence[int]) -> Totals:
    """Sum the counts of all episodes of each class.

    Args:
      per_episode: counts of E episodes, each [E].
      class_ids: int [E], the class of each episode.
      classes: the classes of the fold; each needs an episode, or its IoU would be undefined.
    Raises:
      ValueError: a class without an episode, or an episode of a class that is not listed.
    """
    class_ids = np.asarray(class_ids)
    member = class_ids[:, None] == np.asarray(classes)
    if not member.any(1).all():
        stray = sorted({int(c) for c in class_ids[~member.any(1)]})
        raise ValueError(
            f'episodes have the classes {stray}, not among the evaluated {list(classes)}'
        )
    if not member.any(0).all():
        missing = [int(c) for c, found in zip(classes, member.any(0), strict=True) if not found]
        raise ValueError(
            f'classes {missing} have no episode, so their IoU is undefined: use more episodes'
        )
    return Totals(tuple(classes), *(np.asarray(x).astype(np.int64) @ member for x in per_episode))


def class_iou(totals: Totals) -> np.ndarray:
    """Compute the foreground IoU of each class, float64 [C]; nan if neither truth nor prediction has a pixel."""
    return _ratio(totals.intersection, totals.union)


def miou(totals: Totals) -> float:
    """Average (sum of intersections / sum of unions) over the classes."""
    return float(class_iou(totals).mean())


def fb_iou(totals: Totals) -> float:
    """Average foreground and background IoU, each over the episodes of all classes together."""
    foreground = _ratio(totals.intersection.sum(), totals.union.sum())
    background = _ratio(totals.background_intersection.sum(), totals.background_union.sum())
    return float((foreground + background) / 2)


def summarise(totals: Mapping[int, Totals], class_names: Sequence[str]) -> dict[str, Any]:
    """Summarise per seed and over seeds: mIoU, FB-IoU, IoU per class, as fractions of one and plain Python floats.

    Args:
      totals: the totals of each seed's set of episodes.
      class_names: name of each class id (position = id).
    Returns:
      `seeds` {'0': {miou, fb_iou, per_class}}, and over the seeds `miou`, `fb_iou`, `per_class` (means) and
      `miou_std`, `fb_iou_std`: the sample standard deviation (n - 1), None for a single seed.
    """
    seeds = {}
    for seed, t in totals.items():
        per_class = {class_names[c]: float(x) for c, x in zip(t.classes, class_iou(t), strict=True)}
        seeds[str(seed)] = {'miou': miou(t), 'fb_iou': fb_iou(t), 'per_class': per_class}
    result: dict[str, Any] = {}
    for name in ('miou', 'fb_iou'):
        result[name], result[f'{name}_std'] = mean_and_std([s[name] for s in seeds.values()])
    names = next(iter(seeds.values()))['per_class']
    result['per_class'] = {
        n: float(np.mean([s['per_class'][n] for s in seeds.values()])) for n in names
    }
    return result | {'seeds': seeds}


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and sample standard deviation (n - 1); None as the deviation of a single value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
