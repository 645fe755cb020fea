"""Cache of each support's part of the probe: computed once per image and class, however many episodes use it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax.evaluation.engine.feature_cache import FeatureCache, padded
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress

CLASSES = 4096  # upper bound of class ids: FSS-1000 has a thousand


class SupportCache(NamedTuple):
    """The method's `probe_each` of every support that episodes use.

    Attributes:
      pairs: [P], ascending: row of the support's image in the image bank times `CLASSES`, plus its class.
      bank: a bank of supports as `score.scorer` takes it, on every device.
    """

    pairs: np.ndarray
    bank: Any

    def places(self, rows: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
        """Return the supports' places in the bank, from their images' rows and class_ids of a matching shape."""
        return np.searchsorted(self.pairs, _pairs(rows, class_ids)).astype(np.int32)


def cache_supports(
    make: Callable,
    cache: FeatureCache,
    rows: np.ndarray,
    class_ids: np.ndarray,
    progress: Progress | None = None,
) -> SupportCache:
    """Compute the cache of supports; each image is encoded once.

    Args:
      make: jitted `score.prober`, called with whole batches.
      rows, class_ids: [n], rows of the supports' images, and their classes; pairs may repeat.
    """
    pairs, b, bank, done = np.unique(_pairs(rows, class_ids)), cache.batch, None, 0
    rows, class_ids = np.divmod(pairs, CLASSES)
    for group in cache.groups('support', rows):
        for start in range(0, len(group), b):
            at = padded(group[start : start + b], b)
            batch = {'support': cache.places(rows[at]), 'class_id': class_ids[at], 'place': at}
            batch = {name: array.astype(np.int32) for name, array in batch.items()}
            batch = sharding.place(batch, cache.sharded)
            if bank is None:
                shapes = jax.eval_shape(make, cache.variables, None, *cache.supports, batch)

                def blank(x):
                    return jnp.zeros((len(pairs), *x.shape[1:]), x.dtype, device=cache.replicated)

                bank = jax.tree.map(blank, shapes)
            bank = make(cache.variables, bank, *cache.supports, batch)
            done += min(b, len(group) - start)
            if progress:
                progress('probe supports', done, len(pairs))
    return SupportCache(pairs, jax.block_until_ready(bank))


def _pairs(rows, class_ids):
    return np.asarray(rows, np.int64) * CLASSES + class_ids
