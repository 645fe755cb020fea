"""Score a method on episodes; each image is encoded, each support processed and each distinct episode scored once.

    bank = load_bank(source, episodes, size=321)                 # host, uint8, once
    evaluator = Evaluator(module, bank, episodes, ...)           # nothing compiled yet
    result = evaluator.run(variables)                            # compiles at its first call only

`evaluate` does all three. A training run that selects its checkpoint keeps the evaluator and calls `run` each time.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Bool

from simpropnet_jax.datasets.folds import CLASS_NAMES
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.device_functions import encoder, prober, scorer, segmenter
from simpropnet_jax.evaluation.engine.feature_cache import FeatureCache, padded
from simpropnet_jax.evaluation.engine.image_bank import LABEL_SIZES, ImageBank, load_bank
from simpropnet_jax.evaluation.engine.support_cache import CLASSES, SupportCache, cache_supports
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress

logger = logging.getLogger(__name__)

VOID_RULES = ('ignore', 'background')
REFINEMENT_RULES = ('fixed', 'until_drop')  # or a number, as text
RELEASED_PASSES = 5  # most passes in CANet's released test, including the pass without refinement
# Steps that may wait for the device: enough to overlap with the host, few enough to bound memory.
STEPS_IN_FLIGHT = 4


class Evaluator:
    """Score any weights of one module on fixed episodes; compiles once per shot (and pass), at the first `run`.

    The features of the bank and the support cache stay on the device during a run, replicated over the mesh, so an
    episode is a few integers. If the features do not fit the memory, supports are processed in groups, and so are the
    queries of each shot; an image is then encoded once for each of these. Episodes are sharded over the mesh axis
    'data'.
    """

    def __init__(
        self,
        module,
        bank: ImageBank,
        episodes: Mapping[tuple[int, int], Sequence],
        *,
        classes: Sequence[int],
        convention: str,
        mesh: jax.sharding.Mesh,
        label_sizes: Sequence[str] = LABEL_SIZES,
        batch: int = 16,
        void: str = 'ignore',
        class_names: Sequence[str] = CLASS_NAMES,
        zero_mask: bool = False,
        refinement: str = 'fixed',
        self_support: int = 0,
        memory: float = math.inf,
        support_class: Mapping[int, int] | None = None,
        ways: int = 1,
    ):
        """Check the arguments, which are those `evaluate` takes; raise ValueError for a value out of range.

        Args:
          zero_mask: whether to empty the supports' masks.
          refinement: of an iterative method. 'fixed': its default number; '2': two; 'until_drop': repeat all episodes
            of a shot with one refinement more, until the mIoU (at the first label size) no longer rises, and keep the
            best. CANet's released code tests like this; it tunes on the test labels.
          self_support: rounds in which the query becomes its own support, see `models.self_support`; 0: none.
          memory: GiB of each device for features of images.
          support_class: class -> class of the mask of its supports; None: the same class.
          ways: classes of an episode, see `episodes.presets.Protocol`; so many of `episodes` in turn are one.
        """
        _check(episodes, bank, classes, label_sizes, void, batch, refinement)
        self.until_drop = module.iterative and refinement == 'until_drop'
        self.refinements = int(refinement) if refinement.isdigit() else None
        self.bank, self.episodes = bank, dict(episodes)
        self.classes, self.class_names = tuple(classes), class_names
        self.label_sizes, self.void = tuple(label_sizes), void
        self.replicated, self.sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P('data'))
        devices, self.ways = mesh.shape['data'], ways
        self.batch, self.memory = -(-max(batch // ways, 1) // devices) * devices, memory
        if 'own' in label_sizes:
            self.canvas = tuple(int(n) for n in np.max([x.shape for x in bank.own_labels], 0))
            self.segment = jax.jit(
                segmenter(module, self.canvas, self_support), out_shardings=self.replicated
            )
        self.encode = jax.jit(
            encoder(module, convention), donate_argnums=1, out_shardings=self.replicated
        )
        self.episode_iou: dict[int, list[tuple[Episode, float]]] = {}  # of the last run, by shot
        self.episode_counts: dict[
            int, EpisodeCounts
        ] = {}  # from the last run, by shot, set after set
        self._support_class = np.arange(CLASSES)
        for class_id, other in (support_class or {}).items():
            self._support_class[class_id] = other
        self._announced = False
        self._speed = None  # episodes per second of the last scoring
        self.probe = jax.jit(
            prober(module, void, zero_mask), donate_argnums=1, out_shardings=self.replicated
        )
        score = scorer(module, self.label_sizes, void, self_support, ways)
        self.score = jax.jit(score, static_argnums=5, out_shardings=self.replicated)

    def run(self, variables, progress: Progress | None = None) -> dict[str, Any]:
        """Score these weights ({'params': ...}) on the episodes; see `evaluate`.

        With 'until_drop', each of `shots` states the number of `refinements` kept. `episodes_per_second` is by shot; it
        excludes computing features and the support cache, and compiling.
        """
        started = time.perf_counter()
        prepared, shots, speeds = self._prepare(variables, progress), {}, {}
        for shot in sorted({shot for shot, _ in self.episodes}):
            sets = {seed: e for (k, seed), e in self.episodes.items() if k == shot}
            shots[str(shot)] = self._shot(prepared, shot, sets, progress)
            speeds[str(shot)] = self._speed
        seconds = {'encode': prepared.features.seconds, 'supports': prepared.seconds}
        seconds['episodes'] = time.perf_counter() - started - sum(seconds.values())
        return {
            'shots': shots,
            'classes': [self.class_names[c] for c in self.classes],
            'void': self.void,
            'size': self.bank.images.shape[1],
            'label_size': self.bank.labels.shape[1],
            'images': len(self.bank.numbers),
            'seconds': seconds,
            'episodes_per_second': speeds,
        }

    def predict(
        self, variables, progress: Progress | None = None
    ) -> Iterator[tuple[tuple[int, int], int, Bool[np.ndarray, 'H W']]]:
        """Yield (shot, seed), number in that set, and mask at the query label's original size, in order.

        These are the masks that `run` scores at the label size 'own', which must be in `label_sizes`. 'until_drop' is
        ignored, because it uses the labels.
        """
        prepared = self._prepare(variables, progress)
        done, total = 0, sum(len(drawn) for drawn in self.episodes.values())
        for key, drawn in self.episodes.items():
            rows = _rows(drawn)
            queries = self.bank.positions(rows[:, 0])
            for group in prepared.features.groups(
                'query', queries, np.arange(len(rows))
            ):  # in order, as documented
                for part in self._parts(group):
                    batch = self._batch(padded(rows[part], self.batch), prepared)
                    placed = sharding.place(batch, self.sharded)
                    found = self.segment(
                        prepared.features.variables,
                        prepared.features.queries[0],
                        prepared.supports.bank,
                        placed,
                    )
                    for i, mask, (height, width) in zip(
                        part, np.asarray(found), batch['own_size'], strict=False
                    ):
                        yield key, int(i), mask[:height, :width]
                    done += len(part)
                    if progress:
                        progress('segment episodes', done, total)

    def _prepare(self, variables, progress) -> '_Prepared':
        self._announce()
        cache = FeatureCache(
            self.encode,
            self.bank,
            jax.device_put(variables, self.replicated),
            batch=self.batch,
            memory=self.memory,
            sharded=self.sharded,
            replicated=self.replicated,
            progress=progress,
        )
        started = time.perf_counter()
        of_one = [
            (number, e.class_id)
            for listed in self.episodes.values()
            for e in listed
            for number in e.supports
        ]
        numbers, class_ids = np.array(of_one).T
        class_ids = self._support_class[class_ids]
        probes = cache_supports(
            self.probe, cache, self.bank.positions(numbers), class_ids, progress
        )
        return _Prepared(cache, probes, time.perf_counter() - started - cache.seconds)

    def _announce(self):
        """Log, the first time, that compiling comes first."""
        if not self._announced:
            count = sum(len(drawn) for drawn in self.episodes.values())
            logger.info('compiling, then evaluating %d episodes (a minute or more on a CPU)', count)
            self._announced = True

    def _parts(self, group):
        return (group[start : start + self.batch] for start in range(0, len(group), self.batch))

    def _shot(self, prepared, shot, sets, progress):
        """Score the sets of one shot (by seed); episodes that several sets share are scored once."""
        rows = np.concatenate([_rows(s, self.ways) for s in sets.values()])
        rows, inverse = np.unique(rows, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        scored, result, passes = self._best_pass(prepared, shot, rows, sets, inverse, progress)
        each = by_class(rows, self.ways)
        self.episode_iou[shot] = _episode_iou(each, _flat(scored[self.label_sizes[0]]))
        seeds = np.repeat(list(sets), [len(s) for s in sets.values()])
        counts = {name: _flat(c, inverse) for name, c in scored.items()}
        each = by_class(rows[inverse], self.ways)
        self.episode_counts[shot] = EpisodeCounts(
            seeds, each[:, 0], each[:, 2:], each[:, 1], counts
        )
        episodes = {str(seed): len(s) // self.ways for seed, s in sets.items()}
        return {'episodes': episodes, 'distinct_episodes': len(rows), **passes, **result}

    def _best_pass(self, prepared, shot, rows, sets, inverse, progress):
        """Return the rows' counts, their summary, and {'refinements': n} if passes ran until the mIoU dropped."""
        if not self.until_drop:
            scored = self._score_rows(
                prepared, rows, self.refinements, f'{shot}-shot episodes', progress
            )
            return scored, self._summary(scored, rows, sets, inverse), {}
        best, first = None, self.label_sizes[0]
        for steps in range(RELEASED_PASSES):
            name = f'{shot}-shot episodes, pass {steps + 1}'
            scored = self._score_rows(prepared, rows, steps, name, progress)
            result = self._summary(scored, rows, sets, inverse)
            if best and result[first]['miou'] <= best[1][first]['miou']:
                break
            best = scored, result, {'refinements': steps}
        return best

    def _summary(self, scored, rows, sets, inverse):
        """Return {label size: mIoU and FB-IoU over the sets}; `inverse` has the rows of all episodes, in order."""
        ends = np.cumsum([len(s) // self.ways for s in sets.values()])[:-1]
        result = {}
        for name in self.label_sizes:
            totals = {}
            for seed, index in zip(sets, np.split(inverse, ends), strict=True):
                class_ids = by_class(rows[index], self.ways)[:, 1]
                totals[seed] = metrics.accumulate(
                    _flat(scored[name], index), class_ids, self.classes
                )
            result[name] = metrics.summarise(totals, self.class_names)
        return result

    def _score_rows(self, prepared, rows, steps, name, progress):
        """Count the episodes (query, class, supports...), in order: {label size: Counts of [E]}."""
        done, waiting, numbers, ends, encoding = [], deque(), [], [], prepared.features.seconds

        def collect():
            result, size = waiting.popleft()
            done.append(jax.tree.map(lambda x: np.asarray(x)[:size], result))
            ends.append(time.perf_counter() - (prepared.features.seconds - encoding))
            if progress:
                progress(name, sum(len(d[self.label_sizes[0]].union) for d in done), len(rows))

        for group in prepared.features.groups('query', self.bank.positions(rows[:, 0])):
            for part in self._parts(group):
                batch = sharding.place(
                    self._batch(padded(rows[part], self.batch), prepared), self.sharded
                )
                found = self.score(
                    prepared.features.variables,
                    *prepared.features.queries,
                    prepared.supports.bank,
                    batch,
                    steps,
                )
                waiting.append((found, len(part)))
                numbers.append(part)
                if len(waiting) > STEPS_IN_FLIGHT:
                    collect()
            while waiting:  # before other images replace these
                collect()
        # The first part includes compiling.
        self._speed = (
            (len(rows) - len(numbers[0])) / (ends[-1] - ends[0]) if len(ends) > 1 else None
        )
        order = np.argsort(np.concatenate(numbers))
        return jax.tree.map(lambda *x: np.concatenate(x)[order], *done)

    def _batch(self, rows, prepared):
        rows = by_class(rows, self.ways)
        queries, class_id = self.bank.positions(rows[:, 0]), rows[:, 1].astype(np.int32)
        supports = prepared.supports.places(
            self.bank.positions(rows[:, 2:]), self._support_class[class_id][:, None]
        )
        batch = {
            'query': prepared.features.places(queries),
            'support': supports,
            'class_id': class_id,
        }
        if 'own' in self.label_sizes:
            labels = [self.bank.own_labels[q] for q in queries]
            batch['own_size'] = np.array([x.shape for x in labels], np.int32)
            batch['own_label'] = np.zeros((len(rows), *self.canvas), np.uint8)
            for canvas, label in zip(batch['own_label'], labels, strict=True):
                canvas[: label.shape[0], : label.shape[1]] = label
        return batch


def evaluate(
    module,
    variables,
    source,
    episodes: Mapping[tuple[int, int], Sequence],
    *,
    classes: Sequence[int],
    convention: str,
    size: int,
    mesh: jax.sharding.Mesh,
    label_sizes: Sequence[str] = LABEL_SIZES,
    label_size: int | None = None,
    batch: int = 16,
    void: str = 'ignore',
    backend: str = 'auto',
    class_names: Sequence[str] = CLASS_NAMES,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Load, encode and score all episodes of one fold.

    Args:
      module: a method with `encode`, `probe`, `decode`; `variables`: its {'params': ...}.
      source: source of images and labels.
      episodes: {(shot, seed): episodes}. Several shots and seeds share one bank of features.
      classes: class ids that the mIoU averages over; each needs an episode in every set.
      convention: convention of the backbone's weights, see `backbones.normalise`.
      size: input side in pixels; images are stretched to it.
      mesh: with an axis 'data'; `batch` is rounded up to a multiple of its devices.
      label_sizes: 'square' scores at `label_size` (by default `size`), 'own' at the size of each query's label.
      void: 'ignore' leaves 255 out of mask and metric; 'background' counts it, as in the papers' binary masks.
      backend: backend of the loader, 'tfdata', 'threads' or 'auto'.
      class_names: name of each class id, for the result.
    Returns:
      `shots` {'1': {'square': {miou, miou_std, fb_iou, fb_iou_std, per_class, seeds}, 'own': ..., episodes,
      distinct_episodes}}, `classes`, `void`, `size`, `label_size`, `images`, `seconds`: plain Python values.
    """
    started = time.perf_counter()
    bank = load_bank(
        source,
        episodes,
        size=size,
        label_size=label_size,
        label_sizes=label_sizes,
        backend=backend,
        progress=progress,
    )
    loaded = time.perf_counter() - started
    evaluator = Evaluator(
        module,
        bank,
        episodes,
        classes=classes,
        convention=convention,
        mesh=mesh,
        label_sizes=label_sizes,
        batch=batch,
        void=void,
        class_names=class_names,
    )
    result = evaluator.run(variables, progress)
    result['seconds'] = {'load': loaded, **result['seconds']}
    return result


class _Prepared(NamedTuple):
    """Everything episodes need from one set of weights, and the seconds spent on supports, without encoding."""

    features: FeatureCache
    supports: SupportCache
    seconds: float


def _rows(episodes, ways: int = 1) -> np.ndarray:
    """Return [E, ways * (2+K)]: query, class, supports... of each class."""
    rows = np.array([(e.query, e.class_id, *e.supports) for e in episodes])
    return rows.reshape(len(rows) // ways, -1)


def by_class(rows: np.ndarray, ways: int) -> np.ndarray:
    """Return [E * ways, 2+K] from `_rows`: a row for each class of an episode."""
    return rows.reshape(len(rows) * ways, -1)


def _flat(counts, index: np.ndarray | slice = slice(None)) -> metrics.Counts:
    """Return the counts of these episodes, class after class, in one dimension."""
    return metrics.Counts(*(x[index].reshape(-1) for x in counts))


def _episode_iou(rows, counts):
    episodes = [Episode(int(r[0]), tuple(map(int, r[2:])), int(r[1]), -1) for r in rows]
    return list(
        zip(episodes, (counts.intersection / np.maximum(counts.union, 1)).tolist(), strict=True)
    )


def _check(episodes, bank, classes, label_sizes, void, batch, refinement):
    if not episodes or not all(episodes.values()):
        raise ValueError(
            'there is no episode to evaluate: every (shot, seed) needs a list with at least one'
        )
    for (shot, seed), listed in episodes.items():
        _check_set(listed, classes, shot, seed)
    if void not in VOID_RULES:
        raise ValueError(f"void must be 'ignore' or 'background', got {void!r}")
    if not label_sizes or set(label_sizes) - set(LABEL_SIZES):
        raise ValueError(f"label_sizes must be 'square', 'own' or both, got {tuple(label_sizes)!r}")
    if 'own' in label_sizes and bank.own_labels is None:
        raise ValueError(
            "label_sizes has 'own', but the image bank was loaded without the labels' own sizes"
        )
    if refinement not in REFINEMENT_RULES and not refinement.isdigit():
        raise ValueError(
            f"refinement must be 'fixed', 'until_drop' or a whole number as text, got {refinement!r}"
        )
    if batch < 1:
        raise ValueError(f'batch must be at least 1, got {batch}')


def _check_set(listed, classes, shot, seed):
    for episode in listed:
        if len(episode.supports) != shot:
            found = f'{len(episode.supports)} supports: {episode}'
            raise ValueError(f'the {shot}-shot set of seed {seed} has an episode with {found}')
    absent = sorted(set(classes) - {episode.class_id for episode in listed})
    if absent:
        raise ValueError(
            f'the {shot}-shot set of seed {seed} has no episode of the classes {absent}, so their IoU is '
            'undefined: use more episodes, a weaker tiny-object rule, or more data'
        )
