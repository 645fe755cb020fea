"""The device functions of an evaluation: encode images, cache supports, score a batch of episodes.

A bank of features is a pytree of [N, h, w, C], the method's `encode` of N images. A bank of supports is a pytree of
[P, ...], its `probe_each` of P supports of one class each.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.models.self_support import decode
from simpropnet_jax.ops.resize import interpolation_matrix, resize_bilinear


def encoder(module, convention: str):
    """Return encode(variables, bank, images, start) -> bank, which writes the images' features to rows from `start` on.

    The images are u8 [B, S, S, 3]; if the bank is None, only their features are returned.
    """

    def encode(variables, bank, images, start):
        features = module.apply(variables, normalise(images, convention), method='encode')
        if bank is None:
            return features

        def write(b, f):
            return jax.lax.dynamic_update_slice_in_dim(b, f, start, 0)

        return jax.tree.map(write, bank, features)

    return encode


def prober(module, void: str, zero_mask: bool = False):
    """Return probe(variables, bank, features, labels, batch) -> bank of supports, with the batch at its places.

    features: a bank of features; labels u8 [N, L, L], class ids and 255 (void).
    batch: 'support' [B], rows of these; 'class_id' [B]; 'place' [B], rows of the bank of supports. If the
      bank is None, only the batch's supports are returned.

    Args:
      void: 'ignore' or 'background'.
      zero_mask: whether to empty the masks, to see what a method segments without being shown an object.
    """

    def probe(variables, bank, features, labels, batch):
        one = jax.tree.map(lambda f: f[batch['support']][:, None], features)  # one support: K is 1
        label = binary(labels[batch['support']], batch['class_id'][:, None, None], void)[:, None]
        masks = (label == FOREGROUND).astype(jnp.float32)
        valid = (label != VOID).astype(jnp.float32)
        each = module.apply(
            variables,
            one,
            jnp.zeros_like(masks) if zero_mask else masks,
            valid,
            method='probe_each',
        )
        each = jax.tree.map(lambda x: x[:, 0], each)
        if bank is None:
            return each
        return jax.tree.map(lambda b, x: b.at[batch['place']].set(x), bank, each)

    return probe


def differences_of(module, self_support: int = 0):
    """Return differences(variables, features, supports, batch, steps): foreground minus background logit.

    It yields [B, h, w] for every size at which queries were encoded; `scorer` explains the arguments.
    """

    def differences(variables, features, supports, batch, steps=None):
        def take(bank, rows):
            return jax.tree.map(lambda f: f[rows], bank)

        probe = module.apply(variables, take(supports, batch['support']), method='combine')
        options = {'steps': steps} if module.iterative else {}
        for bank in features:
            query = take(bank, batch['query'])
            logits = decode(module, variables, query, probe, self_support, **options)
            yield logits[..., 1] - logits[..., 0]

    return differences


def scorer(module, label_sizes, void: str, self_support: int = 0):
    """Return score(variables, features, labels, supports, batch, steps) -> {label size: metrics.Counts, B episodes}.

    features: a bank of features for each size at which queries are segmented.
    labels: labels of queries, u8 [N, L, L], class ids and 255 (void).
    supports: a bank of supports.
    batch: 'query' [B], rows of features and labels; 'support' [B, K], rows of supports; 'class_id' [B]; and for the
      label size 'own' the query's 'own_label' u8 [B, H, W], filled up to 'own_size' [B, 2] (height, width).
    steps: refinements of an iterative method; None: its default.

    Args:
      label_sizes: 'square', 'own' or both.
      void: 'ignore' or 'background'.
      self_support: rounds of `self_support.decode`.
    """
    differences = differences_of(module, self_support)

    def score(variables, features, labels, supports, batch, steps: int | None = None):
        class_id = batch['class_id']
        maps = list(differences(variables, features, supports, batch, steps))
        result = {}
        if 'square' in label_sizes:
            label = binary(labels[batch['query']], class_id[:, None, None], void)

            def resize(difference):
                return resize_bilinear(difference[..., None], label.shape[1:])[..., 0]

            result['square'] = metrics.counts(is_foreground([resize(one) for one in maps]), label)
        if 'own' in label_sizes:
            label = binary(batch['own_label'], class_id[:, None, None], void)
            height, width = batch['own_size'][:, 0, None, None], batch['own_size'][:, 1, None, None]
            canvas = label.shape[1:]
            inside = (jnp.arange(canvas[0])[:, None] < height) & (jnp.arange(canvas[1]) < width)
            resized = [resize_own_size(one, batch['own_size'], canvas) for one in maps]
            result['own'] = metrics.counts(is_foreground(resized), jnp.where(inside, label, VOID))
        return result

    return score


def segmenter(module, canvas: tuple[int, int], self_support: int = 0):
    """Return segment(variables, features, supports, batch) -> bool [B, *canvas], as `scorer` counts at 'own' sizes."""
    differences = differences_of(module, self_support)

    def segment(variables, features, supports, batch):
        maps = differences(variables, features, supports, batch)
        return is_foreground([resize_own_size(one, batch['own_size'], canvas) for one in maps])

    return segment


def binary(label, class_id, void: str):
    """Return uint8: 1 for the class, 255 for void if the rule is 'ignore', 0 elsewhere."""
    foreground = jnp.where(label == class_id, FOREGROUND, 0)
    unknown = VOID if void == 'ignore' else 0
    return jnp.where(label == VOID, unknown, foreground).astype(jnp.uint8)


def is_foreground(differences: list[Float[Array, 'b H W']]) -> Bool[Array, 'b H W']:
    """Return whether the foreground's probability p, averaged over the sizes of the query, is above one half.

    Args:
      differences: foreground minus background logit at each size of the query, resized to the label.
    """
    if (
        len(differences) == 1
    ):  # resizing is linear: the sign of the resized difference compares the resized logits
        return differences[0] > 0
    return sum(jnp.tanh(one / 2) for one in differences) > 0  # tanh(one / 2) = 2p - 1


def resize_own_size(
    difference: Float[Array, 'b h w'], sizes: Int[Array, 'b 2'], canvas: tuple[int, int]
) -> Float[Array, 'b H W']:
    """Resize the differences to each label's original size.

    Sizes are data, not shapes, so one compiled step serves all images. Pixels outside a label's size are zero.
    """
    rows = jax.vmap(lambda n: interpolation_matrix(difference.shape[1], n, canvas[0]))(sizes[:, 0])
    columns = jax.vmap(lambda n: interpolation_matrix(difference.shape[2], n, canvas[1]))(
        sizes[:, 1]
    )
    tall = jnp.einsum('bHh,bhw->bHw', rows, difference, precision='highest')
    return jnp.einsum('bWw,bHw->bHW', columns, tall, precision='highest')
