"""Score masks and probability maps that other programs made, as the protocol says: without a network of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.device_functions import numbered, winners
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.ops.resize import host_interpolation_matrix

Map = Bool[np.ndarray, '_ _'] | Float[np.ndarray, '_ _']
"""A mask, or probabilities of the object from 0 to 1."""


def split_episodes(drawn: Sequence[Any], ways: int) -> list[Sequence[Any]]:
    """Return the episodes of a set, each with an entry for each of its classes."""
    return [drawn[start : start + ways] for start in range(0, len(drawn), ways)]


def label_size(protocol: Protocol) -> str:
    """Return the name of the size at which the protocol compares masks, as results have it."""
    return 'own' if protocol.resolution == 'own' else 'square'


def count(
    maps: Sequence[Map],
    label: UInt8[np.ndarray, 'H W'],
    class_ids: Sequence[int],
    protocol: Protocol,
) -> list[list[int]]:
    """Return the four counts of `metrics.Counts` for each class of an episode.

    A pixel belongs to the object where the map is true, or above one half. With several classes it goes to the highest
    map; of equal classes the first wins, as in `simpropnet segment`.

    Args:
      maps: one for each class. Masks are resized by nearest neighbour, probabilities linearly with aligned corners.
      label: label of the query at its own size, class ids and 255.
      class_ids: the episode's classes.
      protocol: `resolution`, `void` and `ways` are read.
    """
    side = label.shape if protocol.resolution == 'own' else (protocol.resolution,) * 2
    scores = np.stack([resized(one, side).astype(np.float32) - 0.5 for one in maps])[None]
    truth = numbered(resized(label, side)[None], np.array([class_ids]), protocol.void)
    if protocol.ways == 1:
        found = metrics.counts(scores[:, 0] > 0, truth)
        return [[int(values[0]) for values in found]]
    found = metrics.counts_by_class(winners(scores), truth, protocol.ways)
    return np.stack([values[0] for values in found], -1).astype(int).tolist()


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask or label by nearest neighbour, as the loader does, or a float map linearly, corners aligned."""
    if values.shape == tuple(size):
        return values
    if np.issubdtype(values.dtype, np.floating):
        rows, columns = map(host_interpolation_matrix, values.shape, size)
        return rows @ values.astype(np.float32) @ columns.T
    image = Image.fromarray(values.astype(np.uint8)).resize(tuple(size)[::-1], Image.NEAREST)
    return np.asarray(image).astype(values.dtype)


def episode_counts(
    sets: Mapping[int, Sequence[Episode]], counts: Sequence[Sequence[int]], size_name: str
) -> EpisodeCounts:
    """Return the counts of the sets of one shot, set after set, with image numbers.

    Args:
      sets: seed -> episodes.
      counts: the four counts of each episode and class, in the same order.
      size_name: see `label_size`.
    """
    drawn = [episode for one in sets.values() for episode in one]
    return EpisodeCounts(
        np.repeat(list(sets), [len(one) for one in sets.values()]),
        np.array([e.query for e in drawn]),
        np.array([e.supports for e in drawn]),
        np.array([e.class_id for e in drawn]),
        {size_name: metrics.Counts(*np.array(counts).T)},
    )


def summary(
    kept: EpisodeCounts, classes: Sequence[int], class_names: Sequence[str], ways: int = 1
) -> dict[str, Any]:
    """Return the numbers of episodes, and {label size: mIoU and FB-IoU over the sets}.

    Args:
      kept: the episodes of one shot, with image ids.
      classes: class ids that the mIoU averages over.
      class_names: name of each class id.
      ways: classes of an episode.
    """
    seeds = np.unique(kept.seed).tolist()
    episodes = {str(seed): int((kept.seed == seed).sum()) // ways for seed in seeds}
    rows = np.column_stack([kept.query, kept.class_id.astype(str), kept.supports])
    distinct = np.unique(rows.reshape(len(rows) // ways, -1), axis=0)
    result: dict[str, Any] = {'episodes': episodes, 'distinct_episodes': len(distinct)}
    for name, per_episode in kept.counts.items():
        totals = {}
        for seed in seeds:
            mine = kept.seed == seed
            part = metrics.Counts(*(values[mine] for values in per_episode))
            totals[seed] = metrics.accumulate(part, kept.class_id[mine], classes)
        result[name] = metrics.summarise(totals, class_names)
    return result


def of_shots(
    sets: Mapping[tuple[int, int], Sequence[Episode]],
    counts: Mapping[tuple[int, int], Sequence[Sequence[int]]],
    protocol: Protocol,
    source,
    classes: Sequence[int],
) -> tuple[dict[str, dict], dict[int, EpisodeCounts]]:
    """Return `shots` of a result, and every shot's counts with image ids.

    Args:
      sets: {(shot, seed): episodes}.
      counts: {(shot, seed): four counts of each episode and class}.
      source: a datasets Source.
      classes: class ids that the mIoU averages over.
    """
    shots, kept = {}, {}
    for shot in sorted({shot for shot, _ in sets}):
        of_shot = {seed: drawn for (k, seed), drawn in sets.items() if k == shot}
        rows = [one for seed in of_shot for one in counts[shot, seed]]
        kept[shot] = episode_counts(of_shot, rows, label_size(protocol)).named(source.ids)
        shots[str(shot)] = summary(kept[shot], classes, source.class_names, protocol.ways)
    return shots, kept
