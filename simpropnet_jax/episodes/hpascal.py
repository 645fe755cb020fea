"""H-PASCAL-5i: test episodes in eight partitions, from easy to hard: Improved Similarity Propagation, section 4.1.

Queries are easy or hard by a supervised oracle's IoU, their objects large or small by the bounding box; supports are
similar or dissimilar by the distance of image features. The authors never released their partitions. This follows their
description; `Parameters` holds what it leaves open. This module knows no networks: scores, sizes and distances come as
arrays.
"""

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes.sampler import EVALUATION, Episode, random_bits

logger = logging.getLogger(__name__)

RULES = ('sigma', 'quantile', 'halves')
"""How to split the values of a class, strictest first; a rule that leaves too few queries is replaced by the next."""

PARTITIONS = {
    f'L{4 * hard + 2 * small + dissimilar}': (hard, small, dissimilar)
    for hard in (0, 1)
    for small in (0, 1)
    for dissimilar in (0, 1)
}
"""Name -> whether it is (hard, small, dissimilar)."""

CELLS = {'easy large': (0, 0), 'easy small': (0, 1), 'hard large': (1, 0), 'hard small': (1, 1)}
NEITHER = -1
ORDER = EVALUATION + 2  # stream of random numbers, after the streams of sampler and protocols


@dataclass(frozen=True)
class Parameters:
    """Choices that the paper leaves open. Raises ValueError for a value out of range."""

    rule: str = 'sigma'  # for difficulty and size, one of `RULES`
    sigmas: float = (
        1.0  # 'sigma': easy and large are this many standard deviations above their class's mean
    )
    share: float = (
        0.16  # 'quantile': share of a class's pairs at each end; 0.16: one sigma if normal
    )
    supports: int = 5  # supports of a query: the k nearest or furthest
    episodes: int = 50  # of each class in each partition; queries repeat if there are fewer
    cell: int = 4  # fewest queries of a class that are easy and large, ...; with fewer the next rule; 0: never
    partition: int = 20  # fewest queries of a partition; with fewer it is empty
    seed: int = 0  # for the order of the queries

    def __post_init__(self):
        if self.rule not in RULES:
            raise ValueError(f'rule must be one of {", ".join(RULES)}, got {self.rule!r}')
        if not 0 < self.share < 0.5:
            raise ValueError(f'share must be between 0 and 0.5, got {self.share}')
        for name, low in {
            'sigmas': 0,
            'supports': 1,
            'episodes': 1,
            'cell': 0,
            'partition': 1,
            'seed': 0,
        }.items():
            if getattr(self, name) < low:
                raise ValueError(f'{name} must be {low} or more, got {getattr(self, name)}')


class Split(NamedTuple):
    """Split of the N pairs of one class.

    Attributes:
      hard, small: int [N]; 0 easy (large), 1 hard (small), -1 neither.
      difficulty_rule, size_rule: the rules used, from `RULES`.
    """

    hard: np.ndarray
    small: np.ndarray
    difficulty_rule: str
    size_rule: str


class Partition(NamedTuple):
    """A partition of the benchmark.

    Attributes:
      queries: class id -> number of distinct queries.
      episodes: of all classes, with all supports of a query (one shot takes the first); none if it is empty.
    """

    queries: dict[int, int]
    episodes: list[Episode]


def bounding_box_share(label: np.ndarray, class_id: int) -> float:
    """Return the area of the box around all pixels of the class, as a share of the image.

    Args:
      label: u8 [H, W] with at least one pixel of the class.
    """
    mask = label == class_id
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(box / mask.size)


def difficulty(scores: np.ndarray, rule: str, parameters: Parameters) -> np.ndarray:
    """Return 0 for easy, 1 for hard, -1 for neither, int [N].

    Args:
      scores: float [N], the oracle's IoU of each query of one class.
    """
    return _high_and_low(scores, rule, parameters)


def size_class(sizes: np.ndarray, rule: str, parameters: Parameters) -> np.ndarray:
    """Return 0 for large, 1 for small, -1 for neither, int [N].

    Args:
      sizes: float [N], the bounding box's share of the image, of all pairs of one class, because supports of any
        difficulty have a size. ("Each partition is further subdivided similarly" may mean within easy and within hard.)
    """
    return _high_and_low(sizes, rule, parameters)


def supports(
    distances: np.ndarray, candidates: np.ndarray, count: int, dissimilar: bool
) -> np.ndarray:
    """Return the candidates nearest to a query, nearest first, or the furthest, furthest first; ties keep their order.

    At most half of the candidates are returned, so that none is both similar and dissimilar.

    Args:
      distances: float [N], from the query to every pair.
      candidates: int [M], pairs without the query.
    """
    order = np.argsort(
        -distances[candidates] if dissimilar else distances[candidates], kind='stable'
    )
    return candidates[order[: min(count, len(candidates) // 2)]]


def partitions(
    pairs: Pairs,
    scores: np.ndarray,
    sizes: np.ndarray,
    distances: np.ndarray,
    parameters: Parameters,
    fold: int = 0,
) -> tuple[dict[int, Split], dict[str, Partition]]:
    """Build the eight partitions of a fold: (class id -> split, name -> partition). A pure function.

    Args:
      pairs: the fold's P listed (image, class) pairs; each may be a query and a support of its class.
      scores: float [P], the oracle's IoU for the pair's class, as a fraction of one.
      sizes: float [P], the bounding box's share of the image.
      distances: float [P, P], between features of the pairs' images.
      fold: decides the order of queries, together with the seed.
    """
    members = {int(c): np.flatnonzero(pairs.class_id == c) for c in np.unique(pairs.class_id)}
    splits = {
        c: split_class(scores[where], sizes[where], parameters) for c, where in members.items()
    }
    for class_id, split in splits.items():
        _log_fallback(pairs.class_names[class_id], split, parameters)
    found = {}
    for name, (hard, small, dissimilar) in PARTITIONS.items():
        queries, episodes = {}, []
        for class_id, where in members.items():
            split = splits[class_id]
            candidates = where[split.small == small]
            chosen = (
                where[(split.hard == hard) & (split.small == small)]
                if len(candidates) > 2
                else where[:0]
            )
            bits = random_bits(
                len(chosen), parameters.seed, fold, ORDER, 4 * class_id + 2 * hard + small
            )
            chosen = chosen[np.argsort(bits, kind='stable')]
            ranked = {
                q: supports(
                    distances[q], candidates[candidates != q], parameters.supports, bool(dissimilar)
                )
                for q in chosen.tolist()
            }
            queries[class_id] = len(chosen)
            episodes += _repeated(pairs, ranked, parameters.episodes)
        empty = sum(queries.values()) < parameters.partition
        if empty:
            logger.warning(
                'fold %d, %s (%s) is empty: it has %d queries, fewer than %d',
                fold,
                name,
                describe(name),
                sum(queries.values()),
                parameters.partition,
            )
        found[name] = Partition(queries, [] if empty else episodes)
    return splits, found


def describe(name: str) -> str:
    """Describe a partition, e.g. 'easy, large, similar' for 'L0'."""
    hard, small, dissimilar = PARTITIONS[name]
    return ', '.join(
        [('easy', 'hard')[hard], ('large', 'small')[small], ('similar', 'dissimilar')[dissimilar]]
    )


def split_class(scores: np.ndarray, sizes: np.ndarray, parameters: Parameters) -> Split:
    """Split one class's pairs by difficulty and size, by the strictest rule with enough queries in its four cells.

    Difficulty comes first and needs two cells' queries on each side; then size. If no rule suffices, use the last one.
    """
    rules, cell = (
        RULES[RULES.index(parameters.rule) :] if parameters.cell else (parameters.rule,),
        parameters.cell,
    )

    def enough(hard):
        return min((hard == level).sum() for level in (0, 1)) >= 2 * cell

    difficulty_rule, hard = _first(rules, lambda rule: difficulty(scores, rule, parameters), enough)

    def enough(small):
        return min(cell_counts(hard, small).values()) >= cell

    size_rule, small = _first(rules, lambda rule: size_class(sizes, rule, parameters), enough)
    return Split(hard, small, difficulty_rule, size_rule)


def cell_counts(hard: np.ndarray, small: np.ndarray) -> dict[str, int]:
    """Count the pairs that are easy and large, easy and small, hard and large, hard and small."""
    return {name: int(((hard == h) & (small == s)).sum()) for name, (h, s) in CELLS.items()}


def _high_and_low(values, rule, parameters):
    levels = np.full(len(values), NEITHER)
    if len(values) == 0 or values.min() == values.max():
        return levels
    high, low = {'sigma': _sigma, 'quantile': _quantile, 'halves': _halves}[rule](
        values, parameters
    )
    levels[high], levels[low] = 0, 1
    return levels


def _sigma(values, parameters):
    """Split as in the paper: more than a (population) standard deviation from the mean."""
    mean, off = values.mean(), parameters.sigmas * values.std()
    return values > mean + off, values < mean - off


def _quantile(values, parameters):
    """Take equally many at each end, with ties at the boundary; a value that ties with both ends is in neither."""
    count = min(max(int(parameters.share * len(values) + 0.5), 1), len(values) // 2)
    ordered = np.sort(values)
    low, high = ordered[count - 1], ordered[-count]
    return (values >= high) & (values > low), (values <= low) & (values < high)


def _halves(values, parameters):
    """Split at the median; ties go to the side that makes the halves more even, or else to the lower half."""
    median = np.median(values)
    high = min(
        values > median, values >= median, key=lambda side: abs(2 * int(side.sum()) - len(values))
    )
    return high, ~high


def _first(rules, split, enough):
    """Return the first rule with a sufficient split (or the last rule), and its split."""
    for rule in rules:
        levels = split(rule)
        if enough(levels):
            break
    return rule, levels


def _log_fallback(name, split, parameters):
    counts = ', '.join(
        f'{count} {cell}' for cell, count in cell_counts(split.hard, split.small).items()
    )
    if {split.difficulty_rule, split.size_rule} != {parameters.rule}:
        logger.info(
            '%s: difficulty by %s, size by %s, because %s leaves too few queries; now %s',
            name,
            split.difficulty_rule,
            split.size_rule,
            parameters.rule,
            counts,
        )


def _repeated(pairs: Pairs, ranked: dict[int, np.ndarray], count: int) -> list[Episode]:
    """Make `count` episodes, cycling over the queries; in each cycle the next of a query's supports comes first."""
    queries, episodes = list(ranked), []
    for i in range(count if queries else 0):
        turn, place = divmod(i, len(queries))
        query = queries[place]
        numbers = np.roll(pairs.image[ranked[query]], -turn)
        episodes.append(
            Episode(
                int(pairs.image[query]), tuple(numbers.tolist()), int(pairs.class_id[query]), query
            )
        )
    return episodes
