"""Self-support: at test time, the query's confident pixels become an extra support. No parameters, no training.

Source: Self-Support Few-Shot Semantic Segmentation (Fan et al., 2022), https://github.com/fanq15/SSP,
model/SSP_matching.py. Pixels of one object are more similar than pixels of two objects of the same class. The paper
does this for two prototypes; here every method can do it, by computing its probe again from query and prediction.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FOREGROUND, BACKGROUND = 0.7, 0.6  # a pixel is confident above these probabilities
FEWEST = 12  # the number of most probable pixels to take if none is confident
SHARE = 0.5  # weight of the query's own probe; the supports' probe has the rest
LOCAL = 0.7  # weight of a pixel's own background prototype; the whole background's prototype has the rest
ATTENTION_SCALE = 2.0  # of cosines, before the softmax over the background's pixels


def decode(
    module, variables, features: Any, probe: Any, rounds: int = 0, **options
) -> Float[Array, 'b h w 2']:
    """Run `module.decode`, then repeat it in each round with a probe that includes the last prediction.

    Every round mixes with the original supports' probe, so the supports' share does not depend on the rounds.

    Args:
      module: a few-shot method; variables: its {'params': ...}.
      features, probe: as for `decode`.
      rounds: number of repetitions; 0 is the same as `decode`.
      options: keyword arguments of every decode, for example `steps` of an iterative method.
    """

    def run(method, *args, **how):
        return module.apply(variables, *args, method=method, **how)

    logits = run('decode', features, probe, **options)
    for _ in range(rounds):
        changed = run('self_supported', features, probe, *confident(logits * module.logit_scale))
        logits = run('decode', features, changed, **options)
    return logits


def confident(
    logits: Float[Array, 'b h w 2'],
) -> tuple[Float[Array, 'b h w'], Float[Array, 'b h w']]:
    """Return the query's predicted mask, and 0 for pixels that are not confident: `masks` and `valid` of a probe.

    If no pixel of an image passes a threshold, the `FEWEST` most probable pixels are taken, even from the other side.
    """
    probability = jax.nn.sigmoid(logits[..., 1] - logits[..., 0])
    flat = probability.reshape(len(logits), -1)
    count = flat.shape[1]
    few, order = min(FEWEST, count // 2), jnp.argsort(flat)

    def chosen(pixels):
        return jnp.zeros(flat.shape, bool).at[jnp.arange(len(flat))[:, None], pixels].set(True)

    foreground, background = flat > FOREGROUND, 1 - flat > BACKGROUND
    most_foreground = chosen(order[:, count - few :]) & ~foreground.any(1, keepdims=True)
    most_background = chosen(order[:, :few]) & ~background.any(1, keepdims=True)
    foreground = foreground & ~most_background | most_foreground
    background = background & ~most_foreground | most_background

    def shaped(pixels):
        return pixels.reshape(probability.shape).astype(jnp.float32)

    return shaped(foreground), shaped(foreground | background)


def mixed(probe: Any, own: Any, share: float = SHARE) -> Any:
    """Mix both probes leaf by leaf; a query's single probe mixes with each support's. Integers are kept."""

    def mix(ours, other):
        if not jnp.issubdtype(ours.dtype, jnp.floating):
            return ours
        return (1 - share) * ours + share * other

    return jax.tree.map(mix, probe, own)


def cosine_probe(
    features: Float[Array, 'b h w c'], probe: Any, own: Any, background: Float[Array, 'b h w']
) -> Any:
    """Mix two prototypes that are compared by cosine; the background has one prototype per pixel, from the query only.

    Source: the paper's self-support and adaptive self-support prototypes, `SSP_func` in the released code.

    Args:
      probe, own: probes of the supports and of the query; `foreground` and `background`, each [B, C].
      background: confident pixels, 0 or 1.
    Returns:
      The probe with the foreground mixed, [B, C], and the background [B, h, w, C].
    """
    x = features.astype(jnp.float32).reshape(features.shape[0], -1, features.shape[-1])
    unit = x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)
    likeness = jnp.einsum('bic,bjc->bij', unit, unit, precision='highest')
    weights = jnp.exp(ATTENTION_SCALE * likeness) * background.reshape(len(x), 1, -1)
    weights = weights / jnp.maximum(
        weights.sum(-1, keepdims=True), 1e-12
    )  # a softmax over the background's pixels
    local = jnp.einsum('bij,bjc->bic', weights, x, precision='highest').reshape(features.shape)
    whole = own.background[:, None, None]
    return probe._replace(
        foreground=mixed(probe.foreground, own.foreground),
        background=LOCAL * local + (1 - LOCAL) * whole,
    )
