"""History masks: what an iterative method predicted when it last saw a pair.

CANet is trained with the prediction of the epoch before in place of the first of its own refinements. One map a listed
pair is kept on every device and goes into the checkpoint. Source: https://github.com/icoz69/CaNet, train.py.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float16, Int

NOT_SEEN = -1.0  # no probability


def blank(pairs: int, size: tuple[int, int]) -> Float16[Array, 'p h w']:
    """The maps of pairs that were never seen, at the size of the features."""
    return jnp.full((pairs, *size), NOT_SEEN, jnp.float16)


def recall(
    history: Float16[Array, 'p h w'], pairs: Int[Array, ' b'], keep: Bool[Array, ' b']
) -> Float[Array, 'b h w 2']:
    """Probabilities of background and foreground; zeros where not `keep`, and for pairs that were never seen."""
    foreground = history[pairs].astype(jnp.float32)
    known = (keep[:, None, None] & (foreground >= 0))[..., None]
    return jnp.where(known, jnp.stack([1 - foreground, foreground], -1), 0)


def remember(
    history: Float16[Array, 'p h w'],
    pairs: Int[Array, ' b'],
    foreground: Float[Array, 'b h w'],
    keep: Bool[Array, ' b'],
) -> Float16[Array, 'p h w']:
    """The maps with those of a batch, in which no pair may be twice, replaced; those not `keep` stay as they were."""
    new = jnp.where(keep[:, None, None], foreground.astype(jnp.float16), history[pairs])
    return history.at[pairs].set(new, unique_indices=True)
