"""Which images make training episode i: a pure function of (seed, fold, i), the only randomness on the host.

The step number determines the episodes, so a run resumes exactly, on any number of hosts, without a saved
iterator.
"""

from typing import NamedTuple

import numpy as np

from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes.options import ORDERS

# Streams of random numbers, which must not overlap: one for each use of the generator.
EPOCH_ORDER, EPISODE, EVALUATION = range(3)


class Episode(NamedTuple):
    """One query and its supports; images are numbers, positions in the Index."""

    query: int
    supports: tuple[int, ...]
    class_id: int
    pair: int
    """Position of (query, class_id) in the pairs it was drawn from."""


def random_bits(count: int, seed: int, fold: int, stream: int, number: int) -> np.ndarray:
    """Return uint64 [count], a pure function of the arguments.

    This is raw Philox output, which NumPy promises to keep in later versions; shuffle() may change.
    """
    return np.random.Philox(key=[seed, fold], counter=[0, 0, stream, number]).random_raw(count)


def images_by_class(
    pairs: Pairs, shot: int, classes: tuple[int, ...] | None = None
) -> dict[int, np.ndarray]:
    """Return the positions of each class's pairs.

    Raises:
      ValueError: a class has fewer than shot + 1 images (one is the query), or there are no pairs.
    """
    if shot < 1:
        raise ValueError(f'shot must be 1 or more, got {shot}')
    if classes is None:
        classes = tuple(int(c) for c in np.unique(pairs.class_id))
    if not classes:
        raise ValueError(
            'there is no (image, class) pair to draw from: no listed image shows a class asked for'
        )
    members = {c: np.flatnonzero(pairs.class_id == c) for c in classes}
    for c, positions in members.items():
        if len(positions) < shot + 1:
            raise ValueError(
                f'class {c} ({pairs.class_names[c]}) has {len(positions)} listed images, {shot}-shot episodes need '
                f'{shot + 1} or more (one query and its supports): use fewer shots, a weaker tiny-object '
                'rule, or more data'
            )
    return members


def draw_supports(
    pairs: Pairs, members: np.ndarray, query_pair: int, shot: int, bits: np.ndarray
) -> tuple[int, ...]:
    """Draw `shot` images of the class except the query's: the first of one shuffle, so fewer shots are a prefix."""
    chosen = members[np.argsort(bits[: len(members)], kind='stable')[: shot + 1]]
    return tuple(int(pairs.image[p]) for p in chosen[chosen != query_pair][:shot])


class TrainSampler:
    """Training episodes over listed (image, class) pairs; sampler(i) is a pure function of (seed, fold, i).

    Args:
      pairs: the listed pairs of the base classes.
      shot: supports of an episode.
      seed, fold: 0 or more; together with i they give the episode.
      batch: episodes of one step over all hosts; an epoch is len(pairs) // batch steps.
      order: 'listed_pairs': every pair is the query once an epoch (except the remainder of the division, which
        differs each epoch), as in the papers; 'classes': class uniform, then query uniform in it, for
        long-tailed data.

    Raises:
      ValueError: unknown order, a negative seed, fewer pairs than a batch, or a class with fewer than
        shot + 1 images.
    """

    def __init__(
        self,
        pairs: Pairs,
        *,
        shot: int,
        seed: int,
        fold: int,
        batch: int,
        order: str = 'listed_pairs',
    ):
        if order not in ORDERS:
            raise ValueError(f'order must be one of {", ".join(ORDERS)}, got {order!r}')
        if seed < 0:
            raise ValueError(f'seed must be 0 or more, got {seed}')
        if not 1 <= batch <= len(pairs):
            raise ValueError(
                f'batch must be from 1 to the number of listed pairs, {len(pairs)}, got {batch}'
            )
        self.pairs, self.shot, self.order = pairs, shot, order
        self.seed, self.fold, self.batch = seed, fold, batch
        self.steps_per_epoch = len(pairs) // batch
        self._members = images_by_class(pairs, shot)
        self._classes = tuple(self._members)
        self._epoch_order = (-1, np.empty(0, np.int64))

    def __call__(self, i: int) -> Episode:
        """Return episode i, counted from 0 over all steps and hosts: i = step * batch + slot."""
        if self.order == 'listed_pairs':
            epoch, slot = divmod(i, self.steps_per_epoch * self.batch)
            pair = int(self._permutation(epoch)[slot])
            members = self._members[int(self.pairs.class_id[pair])]
        else:
            drawn_class, drawn_query = random_bits(2, self.seed, self.fold, EPOCH_ORDER, i).tolist()
            members = self._members[self._classes[drawn_class % len(self._classes)]]
            pair = int(members[drawn_query % len(members)])
        bits = random_bits(len(members), self.seed, self.fold, EPISODE, i)
        supports = draw_supports(self.pairs, members, pair, self.shot, bits)
        return Episode(int(self.pairs.image[pair]), supports, int(self.pairs.class_id[pair]), pair)

    def _permutation(self, epoch: int) -> np.ndarray:
        cached, order = self._epoch_order
        if cached != epoch:
            bits = random_bits(len(self.pairs), self.seed, self.fold, EPOCH_ORDER, epoch)
            order = np.argsort(bits, kind='stable')
            self._epoch_order = (
                epoch,
                order,
            )  # one assignment, so that threads see a matching pair
        return order
