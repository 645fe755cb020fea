"""What is minimised: from a state and a uint8 batch to a loss, everything between on the device."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, UInt8

from simpropnet_jax.episodes import augment
from simpropnet_jax.models.layers import resize_bilinear
from simpropnet_jax.models.normalise import normalise

VOID = 255


def foreground_and_valid(label: UInt8[Array, '*b H W'], void: str):
    """Masks of a label (0, 1, 255): foreground, and 0 where a pixel is void (nowhere if void is 'background')."""
    valid = jnp.ones(label.shape) if void == 'background' else (label != VOID).astype(jnp.float32)
    return (label == 1).astype(jnp.float32), valid


def cross_entropy(
    logits: Float[Array, 'b h w 2'], foreground: Float[Array, 'b H W'], valid: Float[Array, 'b H W']
) -> Float[Array, '']:
    """Two-class cross-entropy, the mean over all valid pixels of the batch; logits are resized to the mask."""
    logits = resize_bilinear(logits.astype(jnp.float32), foreground.shape[1:])
    margin = (2 * foreground - 1) * (logits[..., 1] - logits[..., 0])  # of the right class over the other
    return jnp.sum(valid * jax.nn.softplus(-margin)) / jnp.maximum(valid.sum(), 1)


def episodic(module, train, *, void: str, convention: str, steps_per_epoch: int) -> Callable:
    """The objective of few-shot methods: query, and with dual prediction (SimPropNet, 3.3) support. Losses add.

    Args:
      module: with encode, probe and decode.
      train: `config.train`.
      void: 'ignore' or 'background'.
      convention: of the backbone's input, a key of `normalise.CONVENTIONS`.
    Returns:
      objective(state, batch, key) -> (loss, metrics).
    """

    def forward(module, supports, masks, valid, queries):
        """Logits of the queries [B, h, w, 2] and, with dual prediction, of the supports [B*K, h, w, 2]."""
        batch, shots = supports.shape[:2]
        flat = lambda x: x.reshape(batch * shots, *x.shape[2:])  # noqa: E731
        support_features = module.encode_support(flat(supports), flat(masks), train=True)
        query_features = module.encode(queries, train=True)
        grouped = jax.tree.map(lambda x: x.reshape(batch, shots, *x.shape[1:]), support_features)
        probe = module.probe(grouped, masks, valid)
        if not train.dual_prediction:
            return module.decode(query_features, probe, train=True), None
        probes = jax.tree.map(lambda x: jnp.repeat(x, shots, axis=0), probe)
        both = lambda x, y: jnp.concatenate([x, y])  # noqa: E731
        features, probes = jax.tree.map(both, query_features, support_features), jax.tree.map(both, probe, probes)
        logits = module.decode(features, probes, train=True)  # of both branches at once
        return logits[:batch], logits[batch:]

    def objective(state, batch, key):
        augment_key, ica_key, dropout_key = jax.random.split(key, 3)
        supports, support_labels = augment.augment_supports(
            augment_key, batch['support_image'], batch['support_label'], train.size, train.support_scale,
            train.support_flip)  # fmt: skip
        queries, query_labels = batch['query_image'], batch['query_label']
        if train.query_turn:
            queries, query_labels = augment.turn_and_flip(jax.random.fold_in(augment_key, 1), queries, query_labels)
        supports, queries = normalise(supports, convention), normalise(queries, convention)
        probability = augment.ica_probability(state.step, steps_per_epoch, train.ica, train.ica_decay)
        if train.ica:
            queries = augment.ica(ica_key, queries, probability)
        masks, support_valid = foreground_and_valid(support_labels, void)
        truth, valid = foreground_and_valid(query_labels, void)
        query_logits, support_logits = module.apply(
            state.variables, supports, masks, support_valid, queries, method=forward, rngs={'dropout': dropout_key})
        loss = query_loss = cross_entropy(query_logits, truth, valid)
        metrics = {'loss_query': query_loss, 'ica_probability': probability}
        if support_logits is not None:
            size = masks.shape[2:]
            metrics['loss_support'] = cross_entropy(
                support_logits, masks.reshape(-1, *size), support_valid.reshape(-1, *size))
            loss = loss + metrics['loss_support']
        return loss, metrics

    return objective


def supervised(module, *, convention: str, hidden: Sequence[int]) -> Callable:
    """The objective of supervised networks: cross-entropy over all classes, void ignored.

    Args:
      module: with logits.
      hidden: class ids that are ignored like void: the novel ones.
    Returns:
      objective(state, batch, key) -> (loss, metrics).
    """

    def objective(state, batch, key):
        images, labels = augment.turn_and_flip(key, batch['image'], batch['label'])
        logits = module.apply(state.variables, normalise(images, convention), train=True, method='logits')
        logits = resize_bilinear(logits, labels.shape[1:])
        valid = (labels != VOID) & ~jnp.isin(labels, jnp.array(hidden))
        truth = jnp.where(valid, labels, 0).astype(jnp.int32)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, truth)
        right = (truth > 0) & (logits.argmax(-1) == truth)
        accuracy = right.sum() / jnp.maximum((truth > 0).sum(), 1)
        return (losses * valid).sum() / jnp.maximum(valid.sum(), 1), {'accuracy_of_objects': accuracy}

    return objective
