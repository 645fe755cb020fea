"""Episodes as pictures: support, truth, the method's attention maps, prediction."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax import visualize
from simpropnet_jax.episodes.loader import binary_label
from simpropnet_jax.evaluation.bank import ImageBank
from simpropnet_jax.models.layers import resize_bilinear
from simpropnet_jax.models.normalise import normalise


class PanelMaker:
    """Draws episodes of a bank; compiles once, at the first call."""

    def __init__(self, module, bank: ImageBank, convention: str, void: str = 'ignore'):
        self.bank = bank

        def forward(variables, supports, support_labels, query):
            run = lambda method, *args: module.apply(variables, *args, method=method)  # noqa: E731
            masks = (support_labels == 1).astype(jnp.float32)
            valid = None if void == 'background' else (support_labels != 255).astype(jnp.float32)[None]
            features = run('encode_support', normalise(supports, convention), masks)
            probe = run('probe', jax.tree.map(lambda x: x[None], features), masks[None], valid)
            query_features = run('encode', normalise(query[None], convention))
            logits = resize_bilinear(run('decode', query_features, probe), query.shape[:2])
            maps = {name: values[0] for name, values in run('maps', query_features, probe).items()}
            return logits[0, ..., 1] > logits[0, ..., 0], maps

        self._forward = jax.jit(forward)

    def __call__(self, variables, episodes: Sequence) -> np.ndarray:
        """A row per episode, u8 [H, W, 3]; of several supports the first is shown."""
        rows = []
        for episode in episodes:
            supports, query = self.bank.positions(episode.supports), self.bank.positions([episode.query])[0]
            images, labels = self.bank.images, self.bank.labels
            support_labels = binary_label(labels[supports], episode.class_id)
            prediction, maps = jax.device_get(
                self._forward(variables, images[supports], support_labels, images[query]))  # fmt: skip
            rows.append(visualize.panel(
                images[supports[0]], support_labels[0], images[query], binary_label(labels[query], episode.class_id),
                prediction, maps))  # fmt: skip
        return visualize.below(rows)
