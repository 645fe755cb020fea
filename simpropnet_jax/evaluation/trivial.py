"""Trivial baselines, which a method has to beat before its number means something.

Each takes the query (uint8 [S,S,3]), the supports (uint8 [K,S,S,3]) and their masks (bool [K,S,S]) and returns a mask,
bool [S,S]. Void pixels of a support are not in its mask.
"""

from collections.abc import Callable, Sequence

import numpy as np

from simpropnet_jax.episodes.loader import binary_label
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.io.labels import label_value

Predictor = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def all_foreground(query: np.ndarray, supports: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Predict foreground everywhere."""
    return np.ones(query.shape[:2], bool)


def centre_box(query: np.ndarray, supports: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Predict the box in the middle, with half of the image's sides."""
    height, width = query.shape[:2]
    box = np.zeros((height, width), bool)
    box[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return box


def support_copy(query: np.ndarray, supports: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Predict the pixels at which at least half of the supports have the object."""
    return masks.mean(0) >= 0.5


def mean_rgb(query: np.ndarray, supports: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Predict pixels with a colour nearer to the supports' mean foreground colour than to their mean background colour.

    Predict nothing if the supports have no foreground or no background.
    """
    if masks.all() or not masks.any():
        return np.zeros(query.shape[:2], bool)

    def distance(mask):
        return ((query - supports[mask].mean(0)) ** 2).sum(-1)

    return distance(masks) < distance(~masks)


PREDICTORS: dict[str, Predictor] = {
    'all foreground': all_foreground,
    'centre box': centre_box,
    'copy of the support': support_copy,
    'mean RGB': mean_rgb,
}


def score(
    source, episodes: Sequence[Episode], classes: Sequence[int], size: int
) -> dict[str, float]:
    """Compute the mIoU of each baseline, as a fraction of one.

    Args:
      source: a datasets Source.
      episodes: episodes of one shot.
      classes: class ids to average over.
      size: images and labels are stretched to squares of this side, in pixels; void pixels are ignored.
    Raises:
      ValueError: a class has no episode, or an episode has another class.
    """
    bank = load_bank(
        source, {(len(episodes[0].supports), 0): episodes}, size=size, label_sizes=('square',)
    )
    class_ids, found = [e.class_id for e in episodes], {name: [] for name in PREDICTORS}
    for episode in episodes:
        query, supports = bank.positions([episode.query])[0], bank.positions(episode.supports)
        label = binary_label(bank.labels[query], episode.class_id)
        masks = bank.labels[supports] == label_value(episode.class_id)
        for name, predict in PREDICTORS.items():
            prediction = predict(bank.images[query], bank.images[supports], masks)
            found[name].append(metrics.counts(prediction, label))

    def totals(counts):
        return metrics.accumulate(metrics.Counts(*np.array(counts).T), class_ids, classes)

    return {name: metrics.miou(totals(counts)) for name, counts in found.items()}
