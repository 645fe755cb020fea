"""History masks: what an iterative method predicted when it last saw a pair.

CANet trains with the prediction of the previous epoch in place of its first refinement. Every device keeps one map per
listed pair, and the checkpoint stores the maps. Source: https://github.com/icoz69/CaNet, train.py.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float16, Int

NOT_SEEN = -1.0  # not a probability


def blank(pairs: int, size: tuple[int, int]) -> Float16[Array, 'p h w']:
    """Return the maps of unseen pairs, at the size of the features."""
    return jnp.full((pairs, *size), NOT_SEEN, jnp.float16)


def recall(
    history: Float16[Array, 'p h w'], pairs: Int[Array, ' b'], keep: Bool[Array, ' b']
) -> Float[Array, 'b h w 2']:
    """Return probabilities of background and foreground; zeros for unseen pairs and if not `keep`."""
    foreground = history[pairs].astype(jnp.float32)
    known = (keep[:, None, None] & (foreground >= 0))[..., None]
    return jnp.where(known, jnp.stack([1 - foreground, foreground], -1), 0)


def remember(
    history: Float16[Array, 'p h w'],
    pairs: Int[Array, ' b'],
    foreground: Float[Array, 'b h w'],
    keep: Bool[Array, ' b'],
) -> Float16[Array, 'p h w']:
    """Replace the maps of a batch, in which no pair may repeat; maps that are not `keep` do not change."""
    new = jnp.where(keep[:, None, None], foreground.astype(jnp.float16), history[pairs])
    return history.at[pairs].set(new, unique_indices=True)
