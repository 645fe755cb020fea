"""Biases, added and summed in float32 whatever the type of the computation."""

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def add_bias(
    x: Float[Array, '*b c'], bias: Float[Array | np.ndarray, ' c'], dtype: DTypeLike
) -> Float[Array, '*b c']:
    """Add a bias in float32 and return the sum in `dtype`.

    The gradient of a bias is a sum over all positions. In bfloat16 this sum stops growing once it is about 256 times
    larger than the next addend; in float32 it does not. Compilers fuse both casts with the addition.
    """
    return (x.astype(jnp.float32) + bias).astype(dtype)
