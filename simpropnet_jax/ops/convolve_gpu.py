"""XLA's convolution, and the two forms of it that a GPU runs faster."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LAYOUT = ('NHWC', 'HWIO', 'NHWC')


def plain(x, kernel, dilation: int = 1, stride: int = 1):
    """Convolve with zero padding, which keeps the size at stride 1."""
    pad = dilation * (kernel.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, None, (dilation, dilation), LAYOUT
    )


def for_gpu(x, kernel, dilation: int = 1, stride: int = 1):
    """Compute `plain` in the form that a GPU runs fastest."""
    size, channels = kernel.shape[0], kernel.shape[2]
    if stride == 2 and size > 1 and channels < 8:
        return _by_blocks(x, kernel)
    if dilation > 1 and size > 1 and stride == 1:
        return _dilated(x, kernel, dilation)
    return plain(x, kernel, dilation, stride)


def _by_blocks(
    x: Float[Array, 'b h w c'], kernel: Float[Array, 'k k c d']
) -> Float[Array, 'b _ _ d']:
    """Convolve few channels (three colours) at stride 2: a kernel of half the size over blocks of 2x2 pixels.

    The blocks have four times the channels, which fill a GPU's matrix units better.
    """
    size, pad = kernel.shape[0], kernel.shape[0] // 2
    blocks = -(-size // 2)  # of the smaller kernel
    there = [-(-length // 2) + blocks - 1 for length in x.shape[1:3]]  # of the map
    margins = [
        (pad, 2 * count - pad - length) for count, length in zip(there, x.shape[1:3], strict=True)
    ]
    x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    x = x.reshape(len(x), there[0], 2, there[1], 2, -1).transpose(0, 1, 3, 2, 4, 5)
    kernel = jnp.pad(kernel, ((0, 2 * blocks - size),) * 2 + ((0, 0),) * 2)
    kernel = kernel.reshape(blocks, 2, blocks, 2, *kernel.shape[2:]).transpose(0, 2, 1, 3, 4, 5)
    x, kernel = x.reshape(*x.shape[:3], -1), kernel.reshape(blocks, blocks, -1, kernel.shape[-1])
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _dilated(x, kernel, dilation):
    """Convolve with a custom kernel gradient: XLA's is a convolution of 41 x 41 taps, three times slower."""
    return plain(x, kernel, dilation)


def _forward(x, kernel, dilation):
    return plain(x, kernel, dilation), (x, kernel)


def _backward(dilation, saved, gradient):
    x, kernel = saved
    (of_x,) = jax.linear_transpose(lambda x: plain(x, kernel, dilation), x)(gradient)
    x, gradient = _grids(x, dilation), _grids(gradient, dilation)
    (of_kernel,) = jax.linear_transpose(lambda kernel: plain(x, kernel), kernel)(gradient)
    return of_x, of_kernel


_dilated.defvjp(_forward, _backward)


def _grids(x: Float[Array, 'b h w c'], dilation: int) -> Float[Array, 'n _ _ c']:
    """Split a map into dilation² smaller ones (every dilation-th row and column), in which taps are neighbours."""
    height, width = (-(-length // dilation) for length in x.shape[1:3])
    margins = ((0, height * dilation - x.shape[1]), (0, width * dilation - x.shape[2]))
    x = jnp.pad(x, ((0, 0), *margins, (0, 0)))
    x = x.reshape(len(x), height, dilation, width, dilation, -1).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(-1, height, width, x.shape[-1])
