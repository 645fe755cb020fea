"""The device functions of an evaluation: encode images, cache supports, score a batch of episodes.

A bank of features is a pytree of [N, h, w, C], the method's `encode` of N images. A bank of supports is a pytree of
[P, ...], its `probe_each` of P supports of one class each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.io.labels import FOREGROUND, VOID, label_value
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


def scorer(module, label_sizes, void: str, self_support: int = 0, ways: int = 1):
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
      ways: classes of an episode. With several, every `ways` rows of the batch are an episode, of one query, and the
        counts are [B / ways, ways].
    """
    differences, half_pixel = differences_of(module, self_support), module.grid.half_pixel

    def truth(labels, class_id):
        if ways == 1:
            return binary(labels, class_id[:, None, None], void)
        return numbered(labels[::ways], class_id.reshape(-1, ways), void)

    def count(maps, label):
        if ways == 1:
            return metrics.counts(is_foreground(maps), label)
        scores = confidence(maps)
        scores = scores.reshape(-1, ways, *scores.shape[1:])
        return metrics.counts_by_class(winners(scores), label, ways)

    def score(variables, features, labels, supports, batch, steps: int | None = None):
        class_id = batch['class_id']
        maps = list(differences(variables, features, supports, batch, steps))
        result = {}
        if 'square' in label_sizes:
            label = truth(labels[batch['query']], class_id)

            def resize(difference):
                return resize_bilinear(difference[..., None], label.shape[1:], half_pixel)[..., 0]

            result['square'] = count([resize(one) for one in maps], label)
        if 'own' in label_sizes:
            label = truth(batch['own_label'], class_id)
            height, width = batch['own_size'][:, 0, None, None], batch['own_size'][:, 1, None, None]
            canvas = label.shape[1:]
            inside = (jnp.arange(canvas[0])[:, None] < height) & (jnp.arange(canvas[1]) < width)
            resized = [resize_own_size(one, batch['own_size'], canvas, half_pixel) for one in maps]
            result['own'] = count(resized, jnp.where(inside[::ways], label, VOID))
        return result

    return score


def segmenter(module, canvas: tuple[int, int], self_support: int = 0):
    """Return segment(variables, features, supports, batch) -> bool [B, *canvas], as `scorer` counts at 'own' sizes."""
    differences, half_pixel = differences_of(module, self_support), module.grid.half_pixel

    def segment(variables, features, supports, batch):
        maps = differences(variables, features, supports, batch)
        own = batch['own_size']
        return is_foreground([resize_own_size(one, own, canvas, half_pixel) for one in maps])

    return segment


def binary(label, class_id, void: str):
    """Return uint8: 1 for the class, 255 for void if the rule is 'ignore', 0 elsewhere."""
    foreground = jnp.where(label == label_value(class_id), FOREGROUND, 0)
    unknown = VOID if void == 'ignore' else 0
    return jnp.where(label == VOID, unknown, foreground).astype(jnp.uint8)


def numbered(labels, class_ids, void: str):
    """Return uint8 [B,H,W]: 1 for an episode's first class and so on, 255 for void if the rule is 'ignore', else 0.

    For NumPy and JAX arrays.

    Args:
      labels: uint8 [B,H,W], class ids and 255.
      class_ids: [B,N].
    """
    result = (labels == VOID) * np.uint8(VOID if void == 'ignore' else 0)
    for number in range(class_ids.shape[1]):
        values = label_value(class_ids[:, number, None, None])
        result = result + (labels == values) * np.uint8(number + 1)
    return result


def winners(scores):
    """Return the class of each pixel, integer [B,H,W]: 0 background, 1 the first class and so on.

    The rule is `simpropnet segment`'s: the highest foreground score wins if it is above zero; of equal classes, the one
    named first. For NumPy and JAX arrays.

    Args:
      scores: float [B,N,H,W].
    """
    return (scores.argmax(1) + 1) * (scores.max(1) > 0)


def is_foreground(differences: list[Float[Array, 'b H W']]) -> Bool[Array, 'b H W']:
    """Return whether the foreground's probability p, averaged over the sizes of the query, is above one half.

    Args:
      differences: foreground minus background logit at each size of the query, resized to the label.
    """
    return confidence(differences) > 0


def confidence(differences: list[Float[Array, 'b H W']]) -> Float[Array, 'b H W']:
    """Return a score that grows with the foreground's probability p, averaged over sizes; 0 where p is one half."""
    if len(differences) == 1:
        return differences[0]  # resizing is linear: its sign compares the resized logits
    return sum(jnp.tanh(one / 2) for one in differences)  # tanh(one / 2) = 2p - 1


def resize_own_size(
    difference: Float[Array, 'b h w'],
    sizes: Int[Array, 'b 2'],
    canvas: tuple[int, int],
    half_pixel: bool = False,
) -> Float[Array, 'b H W']:
    """Resize the differences to each label's original size; `half_pixel` as in `Grid`.

    Sizes are data, not shapes, so one compiled step serves all images. Pixels outside a label's size are zero.
    """

    def matrices(axis):
        n_in, most = difference.shape[1 + axis], canvas[axis]
        return jax.vmap(lambda n: interpolation_matrix(n_in, n, most, half_pixel))(sizes[:, axis])

    rows, columns = matrices(0), matrices(1)
    tall = jnp.einsum('bHh,bhw->bHw', rows, difference, precision='highest')
    return jnp.einsum('bWw,bHw->bHW', columns, tall, precision='highest')
