"""Training objectives: from a state and a uint8 batch to a loss, all on the device."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, UInt8

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.episodes import augment, transform
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.ops.resize import resize_bilinear
from simpropnet_jax.training import history


def foreground_and_valid(label: UInt8[Array, '*b H W'], void: str):
    """Return two masks of a label (0, 1, 255): foreground, and 0 for void pixels (none if void is 'background')."""
    valid = jnp.ones(label.shape) if void == 'background' else (label != VOID).astype(jnp.float32)
    return (label == 1).astype(jnp.float32), valid


def cross_entropy(
    logits: Float[Array, 'b h w 2'],
    foreground: Float[Array, 'b H W'],
    valid: Float[Array, 'b H W'],
    foreground_weight: float = 1.0,
    half_pixel: bool = False,
) -> Float[Array, '']:
    """Return the two-class cross-entropy, a weighted mean over the batch's valid pixels; logits resize to the mask."""
    logits = resize_bilinear(logits.astype(jnp.float32), foreground.shape[1:], half_pixel)
    margin = (2 * foreground - 1) * (
        logits[..., 1] - logits[..., 0]
    )  # margin of the right class over the other
    weight = valid * (1 + (foreground_weight - 1) * foreground)
    return jnp.sum(weight * jax.nn.softplus(-margin)) / jnp.maximum(weight.sum(), 1)


class Episodes(NamedTuple):
    """A batch in the form that the network takes: augmented, normalised, labels as masks."""

    supports: Float[Array, 'b k H W 3']
    masks: Float[Array, 'b k H W']
    support_valid: Float[Array, 'b k H W']
    queries: Float[Array, 'b H W 3']
    truth: Float[Array, 'b H W']
    valid: Float[Array, 'b H W']
    class_id: Int[Array, ' b']


def episodic(
    module,
    train,
    *,
    void: str,
    convention: str,
    steps: int,
    first_step: int = 0,
    tpc=None,
    transformed: float = 0.0,
) -> Callable:
    """Return the objective of few-shot methods: the query's loss plus the losses of `train`, each with weight one.

    `train.dual_prediction` adds the loss of the supports, predicted from their own probe (SimPropNet, 3.3). `train.crc`
    adds the supports predicted from the predicted query mask (cyclic reinforcement; Improved Similarity Propagation,
    Eq. 1 and 2), and `train.alignment` from the hard query mask (prototype alignment; PANet, 3.4).

    Args:
      module: a method with encode, probe and decode.
      train: `config.train`.
      void: 'ignore' or 'background'.
      convention: convention of the backbone's input, a key of `normalise.CONVENTIONS`.
      steps: length of the training phase; ICA's probability decays over it.
      first_step: first step of the phase.
      tpc: `config.tpc`, needed if some pairs are transformed.
      transformed: share of the episodes in which the query is the transformed support (transformed-pair conditioning).
        At 1 there is no cycle: a conditioning step has only the query's loss, as in the paper.
    Returns:
      objective(state, batch, key) -> (loss, (metrics, changes of the state)).
    """
    cycle = (
        ('soft' if train.crc else 'hard')
        if (train.crc or train.alignment) and transformed < 1
        else None
    )

    def ica_probability(step):
        return augment.ica_probability(step - first_step, steps, train.ica, train.ica_decay)

    def objective(state, batch, key):
        augment_key, ica_key, dropout_key = jax.random.split(key, 3)
        *changed, replaced = augmented(train, batch, augment_key, tpc, transformed)
        supports, support_labels, queries, query_labels = changed
        supports, queries = normalise(supports, convention), normalise(queries, convention)
        if train.ica:
            queries = augment.ica(ica_key, queries, ica_probability(state.step))
        support_masks = foreground_and_valid(support_labels, void)
        query_masks = foreground_and_valid(query_labels, void)
        episodes = Episodes(supports, *support_masks, queries, *query_masks, batch['class_id'])
        past = None
        if state.history is not None:
            dropped = jax.random.bernoulli(
                jax.random.fold_in(dropout_key, 1), train.history_drop, replaced.shape
            )
            past = history.recall(state.history, batch['pair_id'], ~dropped & ~replaced)
        logits = module.apply(
            state.variables,
            episodes,
            past,
            dual=train.dual_prediction,
            cycle=cycle,
            method=forward,
            rngs={'dropout': dropout_key},
        )
        of_supports = [x.reshape(-1, *x.shape[2:]) for x in support_masks]
        truths = {'query': query_masks, 'support': of_supports, 'cycle': of_supports}
        if cycle == 'hard':
            truths['cycle'] = of_supports[0], _where_predicted(logits['query'], of_supports[1])
        weight = train.foreground_weight
        losses = {
            f'loss_{name}': cross_entropy(one, *truths[name], weight, module.grid.half_pixel)
            for name, one in logits.items()
        }
        metrics = losses | {'ica_probability': ica_probability(state.step)}
        changes = {}
        if state.history is not None:
            foreground = jax.lax.stop_gradient(jax.nn.softmax(logits['query'])[..., 1])
            changes['history'] = history.remember(
                state.history, batch['pair_id'], foreground, ~replaced
            )
        return sum(losses.values()), (metrics, changes)

    return objective


def augmented(train, batch, key, tpc, transformed: float):
    """Augment a batch's supports and queries with their labels, and return which queries are transformed supports.

    Images stay in 0 to 255, labels are 0, 1 or 255. See `episodic` for the arguments.
    """
    supports, support_labels = augment.augment_supports(
        key,
        batch['support_image'],
        batch['support_label'],
        train.size,
        train.support_scale,
        train.support_flip,
    )
    queries, query_labels = batch['query_image'], batch['query_label']
    if train.turn:
        queries, query_labels, supports, support_labels = augment.turn_episodes(
            jax.random.fold_in(key, 1), queries, query_labels, supports, support_labels
        )
    replaced = jnp.zeros(len(queries), bool)
    if transformed:
        choice_key, transform_key = jax.random.split(jax.random.fold_in(key, 2))
        replaced = jax.random.bernoulli(choice_key, transformed, replaced.shape)
        images, labels = transform.transform_pairs(
            transform_key, supports[:, 0], support_labels[:, 0], tpc
        )
        queries = jnp.where(replaced[:, None, None, None], images, queries)
        query_labels = jnp.where(replaced[:, None, None], labels, query_labels)
    return supports, support_labels, queries, query_labels, replaced


def forward(
    module, episodes: Episodes, past, *, dual: bool, cycle: str | None
) -> dict[str, Float[Array, 'n h w 2']]:
    """Compute logits of the queries [B, h, w, 2]; dual prediction and the cycle add the supports' [B*K, h, w, 2].

    Args:
      past: earlier predicted probabilities of an iterative method [B, h, w, 2], or None.
      cycle: predicted query mask from which supports are predicted back, 'soft' or 'hard'; None: no cycle.
    """
    batch, shots = episodes.supports.shape[:2]

    def flat(tree):
        return jax.tree.map(lambda x: x.reshape(batch * shots, *x.shape[2:]), tree)

    def repeated(tree, times):
        return jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), tree)

    def probe_of(*given):
        return module.as_novel(module.probe(*given), episodes.class_id)

    query_features, support_features = encoded(module, episodes.queries, episodes.supports)
    probe = probe_of(support_features, episodes.masks, episodes.support_valid)
    features, times = query_features, 1
    if dual:  # both branches are decoded at once
        features, times = interleave(query_features, support_features), 1 + shots
        past = (
            None
            if past is None
            else interleave(past, jnp.zeros((batch, shots, *past.shape[1:]), past.dtype))
        )
    seen = {} if past is None else {'history': past}
    logits = module.decode(features, repeated(probe, times), train=True, **seen)
    of_query, of_supports = split_supports(logits, batch)
    found = {'query': of_query, 'support': flat(of_supports)} if dual else {'query': of_query}
    if cycle:
        predicted = _hard(of_query) if cycle == 'hard' else jax.nn.softmax(of_query)[..., 1]
        probe = probe_of(jax.tree.map(lambda x: x[:, None], query_features), predicted[:, None])
        found['cycle'] = module.decode(flat(support_features), repeated(probe, shots), train=True)
    return found


def encoded(module, queries: Float[Array, 'b H W 3'], supports: Float[Array, 'b k H W 3']):
    """Encode queries [B, ...] and supports [B, K, ...], in one batch if the method uses all features of both."""
    batch, shots = supports.shape[:2]
    if module.encodes_alike:
        return split_supports(module.encode(interleave(queries, supports), train=True), batch)
    of_supports = module.encode(supports.reshape(batch * shots, *supports.shape[2:]), train=True)
    of_supports = jax.tree.map(lambda x: x.reshape(batch, shots, *x.shape[1:]), of_supports)
    return module.encode(queries, train=True), of_supports


def interleave(queries, supports):
    """Merge [B, ...] and [B, K, ...] to one batch [B * (1 + K), ...], each query before its supports.

    So episodes that are split over several devices stay on their device.
    """

    def both(q, s):
        return jnp.concatenate([q[:, None], s], 1).reshape(-1, *q.shape[1:])

    return jax.tree.map(both, queries, supports)


def split_supports(both, batch: int):
    """Undo `interleave`."""
    grouped = jax.tree.map(lambda x: x.reshape(batch, -1, *x.shape[1:]), both)
    return jax.tree.map(lambda x: x[:, 0], grouped), jax.tree.map(lambda x: x[:, 1:], grouped)


def _hard(logits: Float[Array, 'b h w 2']) -> Float[Array, 'b h w']:
    """Return 1 for pixels predicted as foreground. A comparison has no gradient."""
    return (logits[..., 1] > logits[..., 0]).astype(jnp.float32)


def _where_predicted(of_queries, valid):
    """Return `valid` of supports [B*K, H, W], all zero for a query with an empty predicted mask."""
    seen = _hard(of_queries).any((1, 2))
    return valid * jnp.repeat(seen, len(valid) // len(seen))[:, None, None]


def add_objectives(*objectives: Callable) -> Callable:
    """Add several objectives, each with its own randomness; merge their metrics and changes."""

    def objective(state, batch, key):
        total, all_metrics, all_changes = 0.0, {}, {}
        for one, own_key in zip(objectives, jax.random.split(key, len(objectives)), strict=True):
            loss, (metrics, changes) = one(state, batch, own_key)
            total, all_metrics, all_changes = (
                total + loss,
                all_metrics | metrics,
                all_changes | changes,
            )
        return total, (all_metrics, all_changes)

    return objective


def supervised(
    module,
    *,
    convention: str,
    hidden: Sequence[int],
    crop: int | None = None,
    foreground_weight: float = 1.0,
    episodes: bool = False,
) -> Callable:
    """Return the objective of supervised networks: cross-entropy over all classes, void ignored.

    Args:
      module: a network with logits.
      hidden: class ids that are ignored like void: the novel classes, or none.
      crop: images are scaled, cropped to this side and mirrored; None: they are turned to the eight positions of a
        square.
      foreground_weight: weight of object pixels; background pixels have weight 1.
      episodes: whether the images are the queries of episodes, which are not augmented.
    Returns:
      objective(state, batch, key) -> (loss, (metrics, {})).
    """

    def objective(state, batch, key):
        if episodes:
            images, labels = batch['query_image'], batch['query_classes']
        elif crop is None:
            images, labels = augment.turn_and_flip(key, batch['image'], batch['label'])
        else:
            images, labels = augment.scale_crop_flip_labelled(
                key, batch['image'], batch['label'], crop
            )
        logits = module.apply(
            state.variables,
            normalise(images, convention),
            train=True,
            method='logits',
            rngs={'dropout': jax.random.fold_in(key, 1)},
        )
        logits = resize_bilinear(logits, labels.shape[1:], module.grid.half_pixel)
        valid = (labels != VOID) & ~jnp.isin(labels, jnp.array(hidden, jnp.int32))
        truth = jnp.where(valid, labels, 0).astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, truth)
        right = (truth > 0) & (logits.argmax(-1) == truth)
        accuracy = right.sum() / jnp.maximum((truth > 0).sum(), 1)
        weight = valid * jnp.where(truth > 0, foreground_weight, 1.0)
        loss = (losses * weight).sum() / jnp.maximum(weight.sum(), 1)
        beside = {'loss_classes': loss} if episodes else {}  # next to the episodes' losses
        return loss, (beside | {'accuracy_of_objects': accuracy}, {})

    return objective
