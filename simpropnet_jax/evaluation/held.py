"""Features and labels of a bank's images on the device: all of them, or as many at a time as memory is given for."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax import parallel
from simpropnet_jax.evaluation.bank import ImageBank, Progress

GIB = 2**30


class Held(NamedTuple):
    """Images of a bank, on the device.

    Attributes:
      rows: i32 [n], ascending rows of the bank; what follows has at least as many.
      features, labels: as `score.scorer` takes them.
    """

    rows: np.ndarray
    features: dict
    labels: dict

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where these rows of the bank, all held, are in `features` and `labels`."""
        return np.searchsorted(self.rows, rows).astype(np.int32)


class Holder:
    """Encodes the images of a bank for one set of weights, when episodes need them.

    Args:
      encode: jitted `score.encoder`, which is given whole batches.
      bank: the images.
      variables: {'params': ...}, on the devices.
      batch: images encoded at a time.
      memory: GiB of each device for features.
      sharded, replicated: of batches of images, and of all that is held.
    """

    def __init__(
        self, encode: Callable, bank: ImageBank, variables: dict, *, batch: int, memory: float,
        sharded: jax.sharding.Sharding, replicated: jax.sharding.Sharding, progress: Progress | None = None,
    ):  # fmt: skip
        self.encode, self.bank, self.variables, self.batch = encode, bank, variables, batch
        self.sharded, self.replicated, self.progress = sharded, replicated, progress
        self.capacity = int(min(memory * GIB / self._bytes(), len(bank.numbers)))
        self.held: Held | None = None
        self.seconds = 0.0
        """That encoding has taken."""

    def groups(self, used: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
        """Episodes (positions in `used`) whose images are in `held` meanwhile, until all episodes had their turn.

        Nothing else may refer to what is held when the next are asked for: memory has room for one group.

        Args:
          used: [E, 1+K], the rows of the bank of each episode's images.
          order: of the episodes, such that neighbours share images; where all images can be held, it does not matter.
        """
        if self.capacity == len(self.bank.numbers):
            self._hold(np.arange(len(self.bank.numbers)))
            yield np.arange(len(used))
            return
        for group in split(used, order, max(self.capacity, used.shape[1])):
            self._hold(np.unique(used[group]))
            yield group

    def _bytes(self) -> int:
        """Of one image's features: as a query at each size, and as a support."""
        one = lambda images: jax.eval_shape(self.encode, self.variables, None, images[:1], 0)
        return sum(leaf.size * leaf.dtype.itemsize for images in self._sizes() for leaf in jax.tree.leaves(one(images)))

    def _sizes(self) -> list[np.ndarray]:
        """The images at each size at which they are encoded, once where queries and supports are the same."""
        supports = self.bank.images if self.bank.supports is None else self.bank.supports.images
        return list({id(images): images for images in (*self.bank.queries, supports)}.values())

    def _hold(self, rows):
        if self.held is not None and np.array_equal(self.held.rows, rows):
            return
        self.held = None  # before there is more: two groups may not fit
        started, bank = time.perf_counter(), self.bank
        features = {id(images): self._features(images, rows) for images in self._sizes()}
        jax.block_until_ready(features)
        self.seconds += time.perf_counter() - started
        supports = bank.images if bank.supports is None else bank.supports.images
        labels = self._put(bank.labels, rows)
        self.held = Held(
            rows.astype(np.int32),
            {'query': [features[id(images)] for images in bank.queries], 'support': features[id(supports)]},
            {'query': labels, 'support': labels if bank.supports is None else self._put(bank.supports.labels, rows)})

    def _features(self, images, rows):
        """Features of the images, a pytree of [N, h, w, C]; N is the same for all groups, so that one step serves."""
        b, steps = self.batch, -(-min(max(self.capacity, len(rows)), len(images)) // self.batch)
        shapes = jax.eval_shape(self.encode, self.variables, None, images[:b], 0)
        blank = lambda f: jnp.zeros((steps * b, *f.shape[1:]), f.dtype, device=self.replicated)
        found = jax.tree.map(blank, shapes)
        for start in range(0, len(rows), b):
            part = parallel.place(padded(images[rows[start : start + b]], b), self.sharded)
            found = self.encode(self.variables, found, part, np.int32(start))
            if self.progress:
                self.progress('encode images', min(start + b, len(rows)), len(rows))
        return found

    def _put(self, labels, rows):
        size = min(max(self.capacity, len(rows)), len(labels))
        return parallel.place(padded(labels[rows], size), self.replicated)


def split(used: np.ndarray, order: np.ndarray, capacity: int) -> Iterator[np.ndarray]:
    """Positions of episodes, in order, in groups of which none has more distinct images than the capacity.

    Args:
      used: [E, 1+K], images of each episode; 1+K is the capacity or less.
    """
    group, images = [], set()
    for episode in order.tolist():
        more = images.union(used[episode].tolist())
        if len(more) > capacity:
            yield np.array(group)
            group, more = [], set(used[episode].tolist())
        group.append(episode)
        images = more
    yield np.array(group)


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """The rows, the last one repeated up to `size`, so that all steps have one shape."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), 0)])
