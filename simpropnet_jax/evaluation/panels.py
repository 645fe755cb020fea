"""Episodes as pictures: support, truth, the method's attention maps, prediction; with headings, class and IoU."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.datasets.folds import CLASS_NAMES
from simpropnet_jax.episodes.loader import binary_label
from simpropnet_jax.evaluation.engine.image_bank import ImageBank, nearest
from simpropnet_jax.io import overlay
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.ops.resize import resize_bilinear


class SegmentedEpisode(NamedTuple):
    """An episode and its prediction for `overlay.panel`, all at the input's size S.

    Attributes:
      support, query: uint8 [S, S, 3]; the first of several supports.
      support_label, query_label: uint8 [S, S], 0, 1 or 255.
      prediction: bool [S, S].
      maps: maps that the method shows for the episode, float [h, w] each.
    """

    support: np.ndarray
    support_label: np.ndarray
    query: np.ndarray
    query_label: np.ndarray
    prediction: np.ndarray
    maps: Mapping[str, np.ndarray]


class PanelMaker:
    """Draw episodes of a bank; compiles once, at the first call."""

    def __init__(
        self,
        module,
        bank: ImageBank,
        convention: str,
        void: str = 'ignore',
        class_names: Sequence[str] = CLASS_NAMES,
    ):
        self.bank, self.void, self.class_names = bank, void, class_names

        def forward(variables, supports, support_labels, query):
            def run(method, *args):
                return module.apply(variables, *args, method=method)

            masks = (support_labels == 1).astype(jnp.float32)
            valid = (
                None if void == 'background' else (support_labels != VOID).astype(jnp.float32)[None]
            )
            features = run('encode', normalise(supports, convention))
            probe = run('probe', jax.tree.map(lambda x: x[None], features), masks[None], valid)
            query_features = run('encode', normalise(query[None], convention))
            logits = run('decode', query_features, probe)
            logits = resize_bilinear(logits, query.shape[:2], module.grid.half_pixel)
            maps = {name: values[0] for name, values in run('maps', query_features, probe).items()}
            return logits[0, ..., 1] > logits[0, ..., 0], maps

        self._forward = jax.jit(forward)

    def __call__(self, variables, episodes: Sequence, scale: int = 1) -> np.ndarray:
        """Draw a row per episode, u8 [H, W, 3], with the first of several supports.

        Args:
          scale: factor on the side of every picture.
        """
        found = [self.segment(variables, episode) for episode in episodes]
        titles = [
            f'{self.class_names[episode.class_id]}: IoU {100 * iou(one, self.void):.1f} %'
            for episode, one in zip(episodes, found, strict=True)
        ]
        return overlay.headed([overlay.panel(*one, scale) for one in found], titles)

    def segment(self, variables, episode) -> SegmentedEpisode:
        """Segment one episode of the bank with all its supports."""
        supports, query = (
            self.bank.positions(episode.supports),
            self.bank.positions([episode.query])[0],
        )
        images, labels = self.bank.images, self.bank.labels
        side = images.shape[1]
        support_labels = nearest(binary_label(labels[supports], episode.class_id), side)
        query_label = nearest(binary_label(labels[query], episode.class_id), side)
        prediction, maps = jax.device_get(
            self._forward(variables, images[supports], support_labels, images[query])
        )
        return SegmentedEpisode(
            images[supports[0]], support_labels[0], images[query], query_label, prediction, maps
        )


def iou(one: SegmentedEpisode, void: str = 'ignore') -> float:
    """Compute the foreground IoU in a picture; 1 if neither truth nor prediction has foreground."""
    known = np.ones_like(one.prediction) if void == 'background' else one.query_label != VOID
    truth, predicted = (one.query_label == 1) & known, one.prediction & known
    union = int((truth | predicted).sum())
    return float((truth & predicted).sum() / union) if union else 1.0


def cases(scored: Sequence[tuple], classes: Sequence[int]) -> dict[str, list]:
    """Choose episodes of each class by IoU: the 'best', the 'median' (what to expect) and the 'worst'.

    Args:
      scored: (episode, IoU) of one shot, from `Evaluator.episode_iou`.
    """
    chosen = {'best': [], 'median': [], 'worst': []}
    for class_id in classes:
        ranked = sorted((iou, episode) for episode, iou in scored if episode.class_id == class_id)
        for name, place in (('best', -1), ('median', len(ranked) // 2), ('worst', 0)):
            chosen[name].append(ranked[place][1])
    return chosen
