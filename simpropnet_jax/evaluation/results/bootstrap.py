"""Is one method better than another, or was it luck? A paired bootstrap over the query images of two results.

`simpropnet compare --help` explains what is drawn. The interval covers other query images of these classes with the
same weights. It does not cover other trainings of the same method.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.results import episode_counts
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.grouping import SAME
from simpropnet_jax.evaluation.results.naming import method_words
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.evaluation.results.text_table import aligned

# What two results must have in common, in addition to their episodes.
COMMON = {**SAME, 'fold': lambda r: r['fold']}
# Draws of an image in memory at a time: 8 bytes each, three times.
CELLS = 2**21


@dataclass(frozen=True)
class Difference:
    """A score of A and of B, as fractions of one, and the interval of B - A."""

    images: int  # number of query images
    a: float
    b: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return 'A is better', 'B is better' or 'undecided' (the interval contains 0)."""
        if self.low <= 0 <= self.high:
            return 'undecided'
        return 'B is better' if self.low > 0 else 'A is better'


@dataclass(frozen=True)
class Comparison:
    """Differences of mIoU and of each class's IoU, by class id."""

    miou: Difference
    per_class: dict[int, Difference]
    episodes: int
    resamples: int
    confidence: float


def paired_bootstrap(
    a: EpisodeCounts,
    b: EpisodeCounts,
    *,
    label_size: str = 'square',
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Comparison:
    """Compare two methods on the same episodes by resampling query images.

    Args:
      a, b: the same episodes, in any order.
      label_size: the counts to compare, 'square' or 'own'.
      resamples: number of draws; with fewer, the interval's ends are rougher.
      seed: seed of the draws.
      confidence: share of the differences inside the interval, e.g. 0.95.
    Raises:
      ValueError: an argument out of range, different episodes, or a class with a single query image.
    """
    _check(a, b, label_size, resamples, seed, confidence)
    orders = _common_order(a, b)
    sums, shown, classes = _per_image(
        [_ordered(*one, label_size) for one in zip((a, b), orders, strict=True)]
    )
    few = _few_images(shown, classes)
    if few:
        raise ValueError(
            f'classes {few} have a single query image, so there is nothing to draw: use more episodes'
        )
    measured = _class_iou(sums.sum(0))
    resampled = _resample(sums, resamples, seed)

    def difference(count, scores, drawn):
        low, high = np.quantile(drawn[:, 1] - drawn[:, 0], _tails(confidence))
        return Difference(int(count), float(scores[0]), float(scores[1]), float(low), float(high))

    per_class = {
        int(c): difference(shown[:, i].sum(), measured[:, i], resampled[:, :, i])
        for i, c in enumerate(classes)
    }
    miou = difference(len(shown), measured.mean(-1), resampled.mean(-1))
    return Comparison(miou, per_class, len(orders[0]), resamples, confidence)


def compare_trainings(
    a: Sequence[EpisodeCounts],
    b: Sequence[EpisodeCounts],
    *,
    label_size: str = 'square',
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Compare the mean mIoU of several trainings of two methods; the interval covers query images and trainings.

    Images are resampled as in `paired_bootstrap`, with the same draw for every training. Each resampled difference gets
    a draw for the variation between trainings: Student's t with n_a + n_b - 2 degrees of freedom, times the pooled
    standard deviation of the trainings' mIoU, times sqrt(1 / n_a + 1 / n_b). A bootstrap over three trainings would be
    too narrow. With one training each, this variation is unknown and the interval covers only the images.

    Args:
      a, b: one or more trainings of each method, all on the same episodes.
    Raises:
      ValueError: see `paired_bootstrap`.
    """
    every = [*a, *b]
    for one in every:
        _check(every[0], one, label_size, resamples, seed, confidence)
    orders = [_common_order(every[0], one) for one in every]
    first = orders[0][0]
    ordered = [
        _ordered(one, order, label_size) for one, (_, order) in zip(every, orders, strict=True)
    ]
    sums, shown, _ = _per_image([_ordered(every[0], first, label_size), *ordered[1:]])
    of_a, of_b = slice(0, len(a)), slice(len(a), None)
    scores = _class_iou(sums.sum(0)).mean(-1)
    drawn = _resample(sums, resamples, seed).mean(-1)
    differences = drawn[:, of_b].mean(1) - drawn[:, of_a].mean(1)
    freedom = len(every) - 2
    if freedom:
        squares = sum(np.square(part - part.mean()).sum() for part in (scores[of_a], scores[of_b]))
        error = (squares / freedom * (1 / len(a) + 1 / len(b))) ** 0.5
        differences = differences + error * np.random.default_rng([seed, 1]).standard_t(
            freedom, resamples
        )
    low, high = np.quantile(differences, _tails(confidence))
    return Difference(
        len(shown), float(scores[of_a].mean()), float(scores[of_b].mean()), float(low), float(high)
    )


def miou_interval(
    counts: EpisodeCounts,
    label_size: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[float] | None:
    """Return the interval of one method's mIoU, [low, high] as fractions of one, by resampling query images.

    Returns None if a class has only one query image, or no pixels: then there is nothing to draw from.
    """
    _check(counts, counts, label_size, resamples, seed, confidence)
    sums, shown, classes = _per_image([_ordered(counts, slice(None), label_size)])
    if _few_images(shown, classes) or np.isnan(_class_iou(sums.sum(0))).any():
        return None
    drawn = _resample(sums, resamples, seed)[:, 0].mean(-1)
    return np.quantile(drawn, _tails(confidence)).tolist()


def with_intervals(
    shots: Mapping[str, Mapping], episodes: Mapping[int, EpisodeCounts]
) -> dict[str, dict]:
    """Add `miou_interval` next to every `miou` in the `shots` of a result."""
    found = {shot: dict(one) for shot, one in shots.items()}
    for shot, counts in episodes.items():
        for name in counts.counts:
            found[str(shot)][name] = {
                **found[str(shot)][name],
                'miou_interval': miou_interval(counts, name),
            }
    return found


def _ordered(counts, order, label_size):
    part = counts.counts[label_size]
    return [
        x[order]
        for x in (counts.query, counts.seed, counts.class_id, part.intersection, part.union)
    ]


def _per_image(methods):
    """Return sums per query image [N, M, 2, S, C] (intersection, union), which classes it has [N, C], and classes [C].

    Args:
      methods: for each of M methods: query, seed, class, intersection and union of the same E episodes, [E] each.
    """
    (images, image), (seeds, seed), (classes, class_id) = (
        np.unique(column, return_inverse=True) for column in methods[0][:3]
    )
    shown = np.zeros((len(images), len(classes)), bool)
    # Of several classes in an episode, the query may show only some.
    counted = np.any([union > 0 for *_, union in methods], 0)
    shown[image[counted], class_id[counted]] = True
    sums = np.zeros((len(images), len(methods), 2, len(seeds), len(classes)))
    for number, (*_, intersection, union) in enumerate(methods):
        for part, values in enumerate((intersection, union)):
            np.add.at(sums[:, number, part], (image, seed, class_id), values)
    return sums, shown, classes


def _tails(confidence):
    return (1 - confidence) / 2, (1 + confidence) / 2


def _common_order(a, b):
    """Return the orders that sort a and b to the same episodes."""
    orders, keys = [], []
    for one in (a, b):
        listed = list(
            zip(*(getattr(one, name).tolist() for name in episode_counts.COLUMNS), strict=True)
        )
        orders.append(np.array(sorted(range(len(listed)), key=listed.__getitem__)))
        keys.append(sorted(listed))
    if keys[0] != keys[1]:
        raise ValueError(
            f'the two results are of different episodes ({len(keys[0])} and {len(keys[1])}), so their difference says '
            'nothing: evaluate both with the same data, fold, --inputs and config.eval'
        )
    return orders


def _resample(sums, resamples, seed):
    """Compute the class IoUs of the draws, [R, M, C] for M methods; an image counts once for each draw."""
    rng, n = np.random.default_rng(seed), len(sums)
    found, missing = [], resamples
    while missing:
        rows = min(missing, max(CELLS // n, 1))
        drawn = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        totals = (times @ sums.reshape(n, -1)).reshape(
            rows, *sums.shape[1:]
        )  # integers below 2^53: exact
        iou = _class_iou(totals)
        found.append(iou[~np.isnan(iou).any((1, 2))])
        missing -= len(found[-1])
    return np.concatenate(found)


def _class_iou(totals):
    """Compute class IoUs [..., M, C] from totals [..., M, 2, S, C], the mean over seeds with pixels of the class."""
    intersection, union = totals[..., 0, :, :], totals[..., 1, :, :]
    seen = union > 0
    iou = np.divide(intersection, union, out=np.zeros_like(union), where=seen)
    seeds = seen.sum(-2)
    return np.divide(iou.sum(-2), seeds, out=np.full(seeds.shape, np.nan), where=seeds > 0)


def _check(a, b, label_size, resamples, seed, confidence):
    for one in (a, b):
        if label_size not in one.counts:
            there = ' or '.join(repr(name) for name in one.counts)
            raise ValueError(
                f'a result has no counts at the label size {label_size!r}, only {there}'
            )
    if resamples < 100:
        raise ValueError(f'resamples must be 100 or more, got {resamples}')
    if seed < 0:
        raise ValueError(f'seed must be 0 or more, got {seed}')
    if not 0 < confidence < 1:
        raise ValueError(f'confidence must be between 0 and 1 (for example 0.95), got {confidence}')


def _few_images(shown, classes):
    """Return the classes with a single query image."""
    return [int(c) for c, images in zip(classes, shown.sum(0), strict=True) if images < 2]


def load(path: str | Path, shot: int = 1) -> tuple[dict[str, Any], EpisodeCounts]:
    """Read a result file and its episodes of one shot.

    Raises:
      FileNotFoundError, ValueError: a file is missing or damaged, or the two are from different evaluations.
    """
    record = read_result(path)
    if not record.get('episodes_file'):
        raise ValueError(
            f'{path} was written without its episodes, by an earlier version: evaluate again'
        )
    file = Path(path).with_name(record['episodes_file'])
    counts = episode_counts.read(file, shot)
    if not _gives(counts, record['shots'].get(str(shot), {})):
        raise ValueError(f'{file} does not give the numbers of {path}: evaluate again')
    return record, counts


def _gives(counts, by_label_size):
    """Whether the counts give the scores of a result file."""
    classes, same = np.unique(counts.class_id).tolist(), []
    try:
        for label_size, per_episode in counts.counts.items():
            for seed in np.unique(counts.seed):
                rows = counts.seed == seed
                one = metrics.Counts(*(values[rows] for values in per_episode))
                iou = metrics.class_iou(metrics.accumulate(one, counts.class_id[rows], classes))
                written = by_label_size[label_size]['seeds'][str(seed)]['per_class'].values()
                same.append(np.allclose(iou, list(written), rtol=1e-9, atol=0))
    except (KeyError, ValueError):  # other label sizes, seeds or classes
        return False
    return all(same)


def table(comparison: Comparison, record: dict[str, Any]) -> str:
    """Format a row for mIoU and one for each class, in percent."""
    interval = f'{100 * comparison.confidence:g} % interval'
    rows = []
    names = zip(
        ['mIoU', *record['classes']], [comparison.miou, *comparison.per_class.values()], strict=True
    )
    for name, one in names:
        a, b, low, high = (100 * value for value in (one.a, one.b, one.low, one.high))
        rows.append(
            [
                name,
                str(one.images),
                f'{a:.2f}',
                f'{b:.2f}',
                f'{b - a:+.2f}',
                f'{low:+.2f} to {high:+.2f}',
                one.verdict,
            ]
        )
    return aligned(['', 'images', 'A', 'B', 'B - A', interval, 'verdict'], rows)


def _check_comparable(a, b, label_size):
    common = COMMON if label_size == 'own' else {**COMMON, 'label size': lambda r: r['label_size']}
    for name, get in common.items():
        if get(a) != get(b):
            raise ValueError(
                f'results with different {name} ({get(a)} and {get(b)}) cannot be compared'
            )


def comparison_text(
    path_a: str | Path,
    path_b: str | Path,
    *,
    shot: int = 1,
    label_size: str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    confidence: float = 0.95,
) -> str:
    """Compare two result files: what they have in common, and the table.

    Args:
      path_a, path_b: result files with the same episodes.
      shot: supports of the episodes.
      label_size: 'square' or 'own'; None: the protocol's.
      resamples, seed, confidence: see `paired_bootstrap`.
    Raises:
      FileNotFoundError, ValueError: a file is missing or damaged, or the results cannot be compared.
    """
    (a, counts_a), (b, counts_b) = load(path_a, shot), load(path_b, shot)
    label_size = label_size or ('own' if a.get('resolution') == 'own' else 'square')
    _check_comparable(a, b, label_size)
    found = paired_bootstrap(
        counts_a,
        counts_b,
        label_size=label_size,
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    facts = ', '.join(f'{name} {get(a)}' for name, get in COMMON.items())
    return (
        f'A  {method_words(a)}, {path_a}\nB  {method_words(b)}, {path_b}\n'
        f'{shot}-shot, labels {label_size}, {facts}, {found.episodes} episodes\n\n{table(found, a)}'
    )
