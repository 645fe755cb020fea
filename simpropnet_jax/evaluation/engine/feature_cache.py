"""Features and labels of a bank's images on the device: of all images, or of groups that fit the given memory."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax.evaluation.engine.image_bank import ImageBank
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress

GIB = 2**30
# If not all fit, an image is encoded as a support and again as a query, however small the groups are.
SHARE_OF_GROUP = 1 / 3


class FeatureCache:
    """Encode the images of a bank for one set of weights, when they are needed as supports or queries.

    Args:
      encode: jitted `score.encoder`, called with whole batches.
      bank: the images.
      variables: {'params': ...}, on the devices.
      batch: images encoded at a time.
      memory: GiB of each device for the features of all images; if they need more, a group takes a third of it.
      sharded, replicated: shardings of image batches and of the cache.
    """

    def __init__(
        self,
        encode: Callable,
        bank: ImageBank,
        variables: dict,
        *,
        batch: int,
        memory: float,
        sharded: jax.sharding.Sharding,
        replicated: jax.sharding.Sharding,
        progress: Progress | None = None,
    ):
        self.encode, self.bank, self.variables, self.batch = encode, bank, variables, batch
        self.sharded, self.replicated, self.progress = sharded, replicated, progress
        supports = bank.images if bank.supports is None else bank.supports.images
        self._images = {'support': [supports], 'query': list(bank.queries)}
        labels = bank.labels if bank.supports is None else bank.supports.labels
        self._labels = {'support': labels, 'query': bank.labels}
        self.capacity = _capacity(memory * GIB / self._bytes(), len(bank.numbers), batch)
        self._rows = np.empty(0, np.int32)  # rows in the cache, ascending
        self._cached: dict[
            int, Any
        ] = {}  # features and labels, by the identity of their array in the bank
        self.seconds = 0.0
        """Seconds spent on encoding."""

    @property
    def supports(self) -> tuple[Any, jax.Array]:
        """Return a bank of features and labels u8 [n, L, L], class ids and 255 (void), of the cached supports."""
        (images,) = self._images['support']
        return self._cached[id(images)], self._cached[id(self._labels['support'])]

    @property
    def queries(self) -> tuple[list[Any], jax.Array]:
        """Return a bank of features for each size at which queries are segmented, and labels, of the cached queries."""
        return [self._cached[id(images)] for images in self._images['query']], self._cached[
            id(self._labels['query'])
        ]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return the places of these bank rows, all cached, in the features and labels."""
        return np.searchsorted(self._rows, rows).astype(np.int32)

    def groups(
        self, role: str, rows: np.ndarray, order: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield groups of positions in `rows`; a group's images are cached in this role until the next group.

        Drop all references to a group's features before asking for the next: memory has room for one group.

        Args:
          role: 'support' or 'query'.
          rows: [n], rows of the bank; an image may repeat.
          order: order of the positions; None keeps each image's positions together, so that it is encoded once. The
            order does not matter if all images fit.
        """
        if self.capacity == len(self.bank.numbers):
            self._hold(role, np.arange(len(self.bank.numbers)))
            yield np.arange(len(rows))
            return
        for group in split(
            rows, np.argsort(rows, kind='stable') if order is None else order, self.capacity
        ):
            self._hold(role, np.unique(rows[group]))
            yield group

    def _bytes(self) -> int:
        """Return the bytes of one image's features, as a query at each size and as a support."""

        def one(images):
            return jax.eval_shape(self.encode, self.variables, None, images[:1], 0)

        different = {
            id(images): images for role in self._images.values() for images in role
        }.values()
        return sum(
            leaf.size * leaf.dtype.itemsize
            for images in different
            for leaf in jax.tree.leaves(one(images))
        )

    def _hold(self, role, rows):
        if not np.array_equal(self._rows, rows):
            self._cached.clear()  # before the next group: two groups may not fit
            self._rows = rows.astype(np.int32)
        started = time.perf_counter()
        for images in self._images[role]:
            if id(images) not in self._cached:
                self._cached[id(images)] = self._features(images, rows)
        jax.block_until_ready(self._cached)
        self.seconds += time.perf_counter() - started
        labels = self._labels[role]
        if id(labels) not in self._cached:
            self._cached[id(labels)] = sharding.place(
                padded(labels[rows], self.capacity), self.replicated
            )

    def _features(self, images, rows):
        """Encode the images to a pytree of [N, h, w, C]; N is the same for all groups, so one compiled step serves."""
        b, steps = self.batch, -(-self.capacity // self.batch)
        shapes = jax.eval_shape(self.encode, self.variables, None, images[:b], 0)

        def blank(f):
            return jnp.zeros((steps * b, *f.shape[1:]), f.dtype, device=self.replicated)

        found = jax.tree.map(blank, shapes)
        for start in range(0, len(rows), b):
            part = sharding.place(padded(images[rows[start : start + b]], b), self.sharded)
            found = self.encode(self.variables, found, part, np.int32(start))
            if self.progress:
                self.progress('encode images', min(start + b, len(rows)), len(rows))
        return found


def _capacity(room: float, everything: int, batch: int) -> int:
    """Return the images of a group: all if there is room, else whole batches, as a part of one takes as long."""
    if room >= everything:
        return everything
    group = max(int(room * SHARE_OF_GROUP), 1)
    return group if group < batch else group - group % batch


def split(rows: np.ndarray, order: np.ndarray, capacity: int) -> Iterator[np.ndarray]:
    """Split positions in `rows` [n], in order, into groups with at most `capacity` (1 or more) distinct rows."""
    group, distinct = [], set()
    for position in order.tolist():
        row = int(rows[position])
        if row not in distinct and len(distinct) == capacity:
            yield np.array(group)
            group, distinct = [], set()
        group.append(position)
        distinct.add(row)
    yield np.array(group)


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Pad the rows to `size` with the last row, so that all steps have one shape."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), 0)])
