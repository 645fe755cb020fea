"""Scores a method on episodes: each image is encoded once, each distinct episode is scored once.

    bank = load_bank(source, episodes, size=321)                 # host, uint8, once
    evaluator = Evaluator(module, bank, episodes, ...)           # nothing compiled yet
    result = evaluator.run(variables)                            # compiles at its first call only

`evaluate` is the three in one. A training run that selects its checkpoint keeps the evaluator and calls `run`
each time.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

from simpropnet_jax.datasets.folds import CLASS_NAMES
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation import metrics
from simpropnet_jax.evaluation.bank import LABEL_SIZES, ImageBank, Progress, load_bank
from simpropnet_jax.models.layers import interpolation_matrix, resize_bilinear
from simpropnet_jax.models.normalise import normalise

VOID_RULES = ('ignore', 'background')
# Steps that may wait for the device: enough to overlap with the host, few enough to bound memory.
STEPS_IN_FLIGHT = 4


class Evaluator:
    """Scores any weights of one module on fixed episodes; compiles once per shot, at the first `run`.

    The features of the whole bank stay on the device while it runs, replicated over the mesh: an episode is
    then a few integers. Episodes are sharded over the mesh axis 'data'. Only methods whose support features
    do not depend on the mask (`encode_support` is `encode`) can be scored so.
    """

    def __init__(
        self, module, bank: ImageBank, episodes: Mapping[tuple[int, int], Sequence], *,
        classes: Sequence[int], convention: str, mesh: jax.sharding.Mesh,
        label_sizes: Sequence[str] = LABEL_SIZES, batch: int = 16, void: str = 'ignore',
        class_names: Sequence[str] = CLASS_NAMES,
    ):  # fmt: skip
        """Arguments as for `evaluate`; ValueError for one that is out of range."""
        _check(episodes, bank, label_sizes, void, batch)
        self.bank, self.episodes = bank, dict(episodes)
        self.classes, self.class_names = tuple(classes), class_names
        self.label_sizes, self.void = tuple(label_sizes), void
        self.replicated, self.sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P('data'))
        self.batch = -(-batch // mesh.shape['data']) * mesh.shape['data']
        self.labels = jax.device_put(bank.labels, self.replicated)
        if 'own' in label_sizes:
            self.canvas = tuple(int(n) for n in np.max([x.shape for x in bank.own_labels], 0))
        self.encode = jax.jit(_encoder(module, convention), donate_argnums=1, out_shardings=self.replicated)
        self.episode_iou: dict[int, list[tuple[Episode, float]]] = {}  # of the last run, by shot
        self.score = jax.jit(_scorer(module, self.label_sizes, void), out_shardings=self.replicated)

    def run(self, variables, progress: Progress | None = None) -> dict[str, Any]:
        """Result of these weights ({'params': ...}) on the episodes; see `evaluate`."""
        started = time.perf_counter()
        variables = jax.device_put(variables, self.replicated)
        features = jax.block_until_ready(self._encode_bank(variables, progress))
        encoded = time.perf_counter()
        shots = {}
        for shot in sorted({shot for shot, _ in self.episodes}):
            sets = {seed: e for (k, seed), e in self.episodes.items() if k == shot}
            shots[str(shot)] = self._shot(variables, features, shot, sets, progress)
        seconds = {'encode': encoded - started, 'episodes': time.perf_counter() - encoded}
        return {
            'shots': shots, 'classes': [self.class_names[c] for c in self.classes], 'void': self.void,
            'size': self.bank.images.shape[1], 'label_size': self.bank.labels.shape[1],
            'images': len(self.bank.numbers), 'seconds': seconds,
        }  # fmt: skip

    def _encode_bank(self, variables, progress):
        """Features of every image, a pytree of [N,h,w,C] with N rounded up to whole batches."""
        images, b = self.bank.images, self.batch
        steps = -(-len(images) // b)
        shapes = jax.eval_shape(self.encode, variables, None, images[:b], 0)
        blank = lambda f: jnp.zeros((steps * b, *f.shape[1:]), f.dtype, device=self.replicated)  # noqa: E731
        bank = jax.tree.map(blank, shapes)
        for i in range(steps):
            rows = jax.device_put(_padded(images[i * b : (i + 1) * b], b), self.sharded)
            bank = self.encode(variables, bank, rows, np.int32(i * b))
            if progress:
                progress('encode images', min((i + 1) * b, len(images)), len(images))
        return bank

    def _shot(self, variables, features, shot, sets, progress):
        """Scores the sets of one shot (by seed): the episodes that sets have in common, once."""
        rows = np.array([(e.query, e.class_id, *e.supports) for s in sets.values() for e in s])
        rows, inverse = np.unique(rows, axis=0, return_inverse=True)
        scored = self._score_rows(variables, features, rows, f'{shot}-shot episodes', progress)
        self.episode_iou[shot] = _episode_iou(rows, scored[self.label_sizes[0]])
        result = {}
        inverse = np.split(inverse.reshape(-1), np.cumsum([len(s) for s in sets.values()])[:-1])
        for name in self.label_sizes:
            totals = {}
            for seed, index in zip(sets, inverse, strict=True):
                counts = metrics.Counts(*(x[index] for x in scored[name]))
                totals[seed] = metrics.accumulate(counts, rows[index, 1], self.classes)
            result[name] = metrics.summarise(totals, self.class_names)
        episodes = {str(seed): len(s) for seed, s in sets.items()}
        return {'episodes': episodes, 'distinct_episodes': len(rows), **result}

    def _score_rows(self, variables, features, rows, name, progress):
        """Counts of the episodes (query, class, supports...), in order: {label size: Counts of [E]}."""
        done, waiting = [], deque()

        def collect():
            result, size = waiting.popleft()
            done.append(jax.tree.map(lambda x: np.asarray(x)[:size], result))
            if progress:
                progress(name, sum(len(d[self.label_sizes[0]].union) for d in done), len(rows))

        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            batch = jax.device_put(self._batch(_padded(part, self.batch)), self.sharded)
            waiting.append((self.score(variables, features, self.labels, batch), len(part)))
            if len(waiting) > STEPS_IN_FLIGHT:
                collect()
        while waiting:
            collect()
        return jax.tree.map(lambda *x: np.concatenate(x), *done)

    def _batch(self, rows):
        query, support = self.bank.positions(rows[:, 0]), self.bank.positions(rows[:, 2:])
        batch = {'query': query, 'support': support, 'class_id': rows[:, 1].astype(np.int32)}
        if 'own' in self.label_sizes:
            labels = [self.bank.own_labels[q] for q in query]
            batch['own_size'] = np.array([x.shape for x in labels], np.int32)
            batch['own_label'] = np.zeros((len(rows), *self.canvas), np.uint8)
            for canvas, label in zip(batch['own_label'], labels, strict=True):
                canvas[: label.shape[0], : label.shape[1]] = label
        return batch


def evaluate(
    module, variables, source, episodes: Mapping[tuple[int, int], Sequence], *, classes: Sequence[int],
    convention: str, size: int, mesh: jax.sharding.Mesh, label_sizes: Sequence[str] = LABEL_SIZES,
    label_size: int | None = None, batch: int = 16, void: str = 'ignore', backend: str = 'auto',
    class_names: Sequence[str] = CLASS_NAMES, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Loads, encodes and scores all episodes of one fold.

    Args:
      module: a method with `encode`, `probe`, `decode`; `variables` its {'params': ...}.
      source: where images and labels are read from.
      episodes: {(shot, seed): episodes}. Several shots and seeds share one bank of features.
      classes: class ids that the mIoU averages over; each needs an episode in every set.
      convention: of the backbone's weights, see `models.normalise`.
      size: input side in pixels; images are stretched to it.
      mesh: with an axis 'data'; `batch` is rounded up to a multiple of its devices.
      label_sizes: 'square' scores at `label_size` (by default `size`), 'own' at the size of each query's label.
      void: 255 is in neither mask nor metric ('ignore'), or 'background' as the papers' binary masks had it.
      backend: of the loader, 'tfdata', 'threads' or 'auto'.
      class_names: name of each class id, for the result.
    Returns:
      `shots` {'1': {'square': {miou, miou_std, fb_iou, fb_iou_std, per_class, seeds}, 'own': ..., episodes,
      distinct_episodes}}, `classes`, `void`, `size`, `label_size`, `images`, `seconds`: plain Python values.
    """
    started = time.perf_counter()
    bank = load_bank(source, episodes, size=size, label_size=label_size, label_sizes=label_sizes, backend=backend,
                     progress=progress)  # fmt: skip
    loaded = time.perf_counter() - started
    evaluator = Evaluator(module, bank, episodes, classes=classes, convention=convention, mesh=mesh,
                          label_sizes=label_sizes, batch=batch, void=void, class_names=class_names)  # fmt: skip
    result = evaluator.run(variables, progress)
    result['seconds'] = {'load': loaded, **result['seconds']}
    return result


def predict_own_size(
    difference: Float[Array, 'b h w'], sizes: Int[Array, 'b 2'], canvas: tuple[int, int]
) -> Bool[Array, 'b H W']:
    """Foreground where (foreground - background logit), resized to each label's own size, is positive.

    Sizes are data, not shapes, so that one compiled step serves all images; beyond its size all is false.
    """
    rows = jax.vmap(lambda n: interpolation_matrix(difference.shape[1], n, canvas[0]))(sizes[:, 0])
    columns = jax.vmap(lambda n: interpolation_matrix(difference.shape[2], n, canvas[1]))(sizes[:, 1])
    tall = jnp.einsum('bHh,bhw->bHw', rows, difference, precision='highest')
    return jnp.einsum('bWw,bHw->bHW', columns, tall, precision='highest') > 0


def _encoder(module, convention):
    def encode(variables, bank, images, start):
        """Writes the features of the images into the bank, from row `start` on."""
        features = module.apply(variables, normalise(images, convention), method='encode')
        if bank is None:
            return features
        write = lambda b, f: jax.lax.dynamic_update_slice_in_dim(b, f, start, 0)  # noqa: E731
        return jax.tree.map(write, bank, features)

    return encode


def _scorer(module, label_sizes, void):
    def binary(label, class_id):
        foreground = jnp.where(label == class_id, metrics.FOREGROUND, 0)
        unknown = metrics.VOID if void == 'ignore' else 0
        return jnp.where(label == metrics.VOID, unknown, foreground).astype(jnp.uint8)

    def score(variables, features, labels, batch):
        """Counts of one batch of episodes for each label size, [B] each."""
        query, support, class_id = batch['query'], batch['support'], batch['class_id']
        support_label = binary(labels[support], class_id[:, None, None, None])
        masks = (support_label == metrics.FOREGROUND).astype(jnp.float32)
        valid = (support_label != metrics.VOID).astype(jnp.float32)
        take = lambda rows: jax.tree.map(lambda f: f[rows], features)  # noqa: E731
        probe = module.apply(variables, take(support), masks, valid, method='probe')
        logits = module.apply(variables, take(query), probe, method='decode')
        # Resizing is linear: the sign of the resized difference is the comparison of the two resized logits.
        difference = logits[..., 1] - logits[..., 0]
        result = {}
        if 'square' in label_sizes:
            prediction = resize_bilinear(difference[..., None], labels.shape[1:])[..., 0] > 0
            result['square'] = metrics.counts(prediction, binary(labels[query], class_id[:, None, None]))
        if 'own' in label_sizes:
            label = binary(batch['own_label'], class_id[:, None, None])
            height, width = batch['own_size'][:, 0, None, None], batch['own_size'][:, 1, None, None]
            canvas = label.shape[1:]
            inside = (jnp.arange(canvas[0])[:, None] < height) & (jnp.arange(canvas[1]) < width)
            prediction = predict_own_size(difference, batch['own_size'], canvas)
            result['own'] = metrics.counts(prediction, jnp.where(inside, label, metrics.VOID))
        return result

    return score


def _episode_iou(rows, counts):
    episodes = [Episode(int(r[0]), tuple(map(int, r[2:])), int(r[1]), -1) for r in rows]
    return list(zip(episodes, (counts.intersection / np.maximum(counts.union, 1)).tolist(), strict=True))


def _padded(rows, size):
    """The rows, the last one repeated up to `size`, so that all steps have one shape."""
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), 0)])


def _check(episodes, bank, label_sizes, void, batch):
    if not episodes or not all(episodes.values()):
        raise ValueError('there is no episode to evaluate: every (shot, seed) needs a list with at least one')
    for (shot, seed), listed in episodes.items():
        for episode in listed:
            if len(episode.supports) != shot:
                found = f'{len(episode.supports)} supports: {episode}'
                raise ValueError(f'the {shot}-shot set of seed {seed} has an episode with {found}')
    if void not in VOID_RULES:
        raise ValueError(f"void must be 'ignore' or 'background', got {void!r}")
    if not label_sizes or set(label_sizes) - set(LABEL_SIZES):
        raise ValueError(f"label_sizes must be 'square', 'own' or both, got {tuple(label_sizes)!r}")
    if 'own' in label_sizes and bank.own_labels is None:
        raise ValueError("label_sizes has 'own', but the image bank was loaded without the labels' own sizes")
    if batch < 1:
        raise ValueError(f'batch must be at least 1, got {batch}')
