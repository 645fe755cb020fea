"""Bilinear resizes with aligned corners or by half-pixel centres, as matrix products."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def interpolation_matrix(
    n_in: int, n_out, canvas: int | None = None, half_pixel: bool = False
) -> Float[Array, 'canvas n_in']:
    """Return the weights of a one-dimensional bilinear resize with aligned corners, as a matrix to multiply with.

    Corners are aligned because a stride-8 feature grid on 8n+1 pixels lies exactly on the pixels 0, 8, 16, ...,
    and because CANet does so.

    Args:
      n_in: samples of the input axis.
      n_out: samples of the output axis; may be a traced integer, then `canvas` is needed.
      canvas: rows of the matrix, n_out or more; the rows from n_out on are zero.
      half_pixel: samples are the middles of equal parts instead, as the patches of a ViT (PyTorch's
        align_corners=False); at the border the edge is repeated.
    """
    rows = jnp.arange(n_out if canvas is None else canvas, dtype=jnp.float32)
    if half_pixel:
        at = (rows + 0.5) * (n_in / jnp.maximum(jnp.asarray(n_out, jnp.float32), 1)) - 0.5
        at = jnp.clip(at, 0, n_in - 1)
        weights = jnp.maximum(1 - jnp.abs(at[:, None] - jnp.arange(n_in, dtype=jnp.float32)), 0)
        return jnp.where(rows[:, None] < n_out, weights, 0)
    step = (n_in - 1) / jnp.maximum(jnp.asarray(n_out, jnp.float32) - 1, 1)
    weights = jnp.maximum(
        1 - jnp.abs(rows[:, None] * step - jnp.arange(n_in, dtype=jnp.float32)), 0
    )
    return jnp.where(rows[:, None] < n_out, weights, 0)


@functools.lru_cache(maxsize=256)  # a data set has few sizes
def host_interpolation_matrix(n_in: int, n_out: int, dtype=np.float32) -> np.ndarray:
    """Return `interpolation_matrix` in NumPy, [n_out, n_in], without compiling for each of many sizes."""
    at = np.arange(n_out, dtype=dtype) * dtype((n_in - 1) / max(n_out - 1, 1))
    return np.maximum(1 - np.abs(at[:, None] - np.arange(n_in, dtype=dtype)), 0)


def resize_bilinear(
    x: Float[Array, '*b h w c'], size: tuple[int, int], half_pixel: bool = False
) -> Float[Array, '*b H W c']:
    """Resize bilinearly with aligned corners (PyTorch's align_corners=True), as two matrix products.

    Args:
      half_pixel: resize by half-pixel centres instead, see `interpolation_matrix`.
    """
    if x.shape[-3:-1] == tuple(size):
        return x
    rows = interpolation_matrix(x.shape[-3], size[0], half_pixel=half_pixel).astype(x.dtype)
    columns = interpolation_matrix(x.shape[-2], size[1], half_pixel=half_pixel).astype(x.dtype)
    x = jnp.einsum('Hh,...hwc->...Hwc', rows, x, precision='highest')
    return jnp.einsum('Ww,...hwc->...hWc', columns, x, precision='highest')
