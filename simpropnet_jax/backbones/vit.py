"""DINOv2's Vision Transformers (Oquab et al. 2023; with registers: Darcet et al. 2023): frozen encoders of patches.

The network is linear to read: patches, positions, blocks of attention and of a perceptron, norm. `vit_weights.py` reads
the published files.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.parameter import parameter

PATCH = 14  # pixels of a patch's side
TABLE = 37  # patches of a side of the stored position table: images of 518 pixels
MLP_RATIO = 4
EPSILON = 1e-6  # of the layer norms
LAYER_SCALE = 1e-5  # initial scale of each residual branch
# The official code adds this to the number of patches before it divides by the table's side, which moves positions of
# models without registers by up to 0.1 patches. Hugging Face's code does not.
OFFSETS = {'official': 0.1, 'huggingface': 0.0}


class ViT(nn.Module):
    """A Vision Transformer with patches of 14 pixels.

    Args: x [B,H,W,3] in the convention 'torchvision'; H and W are multiples of 14.
    Returns: dict of the patches after each block, block1 to block12 [B,H/14,W/14,heads*width]. With `normed` the final
      norm is applied to each, as DINOv2's code does for tasks on dense features (`get_intermediate_layers`).
    Raises: ValueError for other sizes.
    """

    heads: int  # 6: ViT-S, 12: ViT-B
    width: int = 64  # channels of a head, 64 in every published file
    depth: int = 12
    registers: int = 0  # tokens without a place, 4 in published files that have them
    normed: bool = True
    positions: str = 'official'  # how the position table is resized, a key of `OFFSETS`
    table: int = TABLE
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b H W 3']) -> dict[str, Float[Array, 'b h w c']]:
        x = self._patches(x)
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height * width, channels)
        x = self._with_tokens(x, (height, width))
        found, norm = {}, Norm(self.dtype, name='norm')
        for number in range(1, self.depth + 1):
            x = TransformerBlock(self.heads, self.dtype, name=f'block{number}')(x)
            patches = x[:, 1 + self.registers :].reshape(batch, height, width, channels)
            found[f'block{number}'] = norm(patches) if self.normed else patches
        if not self.normed:
            norm(x)  # so that the parameters do not depend on it
        return found

    def _patches(self, x):
        """Project each patch of pixels: a convolution without overlap, written as a matrix product."""
        batch, height, width, colours = x.shape
        if height % PATCH or width % PATCH:
            near = [max(round(side / PATCH), 1) * PATCH for side in (height, width)]
            raise ValueError(
                f"a ViT's images must have sides of {PATCH}n pixels, got {height} x {width}. Take {near[0]} x {near[1]}"
            )
        rows, columns = height // PATCH, width // PATCH
        x = x.reshape(batch, rows, PATCH, columns, PATCH, colours).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(batch, rows, columns, PATCH * PATCH * colours)
        return Linear(self.heads * self.width, self.dtype, name='patch')(x)

    def _with_tokens(self, x, grid: tuple[int, int]):
        """Put the class token and the registers before the patches, and add positions to all but the registers."""
        channels, normal = x.shape[-1], nn.initializers.normal(0.02)
        table = parameter(self, 'positions', normal, (1 + self.table**2, channels))
        tokens = parameter(self, 'class_token', normal, (1, channels)) + table[:1]
        places = resized_positions(
            table[1:].reshape(self.table, self.table, channels),
            grid,
            antialias=self.registers > 0,
            offset=0.0 if self.registers else OFFSETS[self.positions],
        )
        x = x + places.reshape(-1, channels).astype(x.dtype)
        if self.registers:
            own = parameter(self, 'registers', normal, (self.registers, channels))
            tokens = jnp.concatenate([tokens, own])
        tokens = jnp.broadcast_to(tokens.astype(x.dtype), (x.shape[0], *tokens.shape))
        return jnp.concatenate([tokens, x], 1)


class TransformerBlock(nn.Module):
    """Attention and perceptron, each with a norm before it and a learned scale after it.

    Args: x [B,N,C].
    Returns: [B,N,C].
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
        channels = x.shape[-1]

        def linear(size, name):
            return Linear(size, self.dtype, name=name)

        def scaled(name, y):
            scale = parameter(self, name, nn.initializers.constant(LAYER_SCALE), (channels,))
            return y * scale.astype(y.dtype)

        y = linear(3 * channels, 'qkv')(Norm(self.dtype, name='norm1')(x))
        y = linear(channels, 'project')(attention(y, self.heads))
        x = x + scaled('scale1', y)
        y = linear(MLP_RATIO * channels, 'fc1')(Norm(self.dtype, name='norm2')(x))
        y = linear(channels, 'fc2')(nn.gelu(y, approximate=False))
        return x + scaled('scale2', y)


def attention(qkv: Float[Array, 'b n c3'], heads: int) -> Float[Array, 'b n c']:
    """Compute softmax(Q K^T / sqrt(width)) V of each head; the softmax is in float32."""
    batch, tokens, channels = qkv.shape
    split = qkv.reshape(batch, tokens, 3, heads, channels // (3 * heads))
    query, key, value = split[:, :, 0], split[:, :, 1], split[:, :, 2]
    scores = jnp.einsum('bqhd,bkhd->bhqk', query * query.shape[-1] ** -0.5, key)
    weights = jax.nn.softmax(scores.astype(jnp.float32)).astype(qkv.dtype)
    return jnp.einsum('bhqk,bkhd->bqhd', weights, value).reshape(batch, tokens, channels // 3)


class Linear(nn.Module):
    """Matrix product and bias."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, '*b c']) -> Float[Array, '*b d']:
        shape = (x.shape[-1], self.features)
        kernel = parameter(self, 'kernel', nn.initializers.lecun_normal(), shape)
        bias = parameter(self, 'bias', nn.initializers.zeros_init(), (self.features,))
        return x.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)


class Norm(nn.Module):
    """Layer norm, computed in float32."""

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, '*b c']) -> Float[Array, '*b c']:
        scale = parameter(self, 'scale', nn.initializers.ones_init(), x.shape[-1:])
        bias = parameter(self, 'bias', nn.initializers.zeros_init(), x.shape[-1:])
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPSILON)
        return (y * scale + bias).astype(self.dtype)


def resized_positions(
    table: Float[Array, 't t c'], grid: tuple[int, int], antialias: bool, offset: float
) -> Float[Array, 'h w c']:
    """Resize the position table to this many patches, bicubic by half-pixel centres, as PyTorch's `interpolate`.

    Args:
      antialias: the filter widens where the table shrinks, as for models with registers.
      offset: is added to the number of patches where the step between two samples is computed.
    """
    side = table.shape[0]
    if tuple(grid) == (side, side):
        return table
    rows, columns = (bicubic_matrix(side, n, side / (n + offset), antialias) for n in grid)
    table = jnp.einsum('hs,stc->htc', rows, table, precision='highest')
    return jnp.einsum('wt,htc->hwc', columns, table, precision='highest')


def bicubic_matrix(
    n_in: int, n_out: int, step: float, antialias: bool
) -> Float[np.ndarray, 'n_out n_in']:
    """Return the weights of a one-dimensional bicubic resize by half-pixel centres, as a matrix to multiply with.

    Args:
      step: input samples between two output samples.
      antialias: False: PyTorch's plain filter, four taps, the edge repeated. True: Pillow's, which widens with the step
        and is renormalised at the border; it has another constant.
    """
    matrix = np.zeros((n_out, n_in))
    widening = max(step, 1.0) if antialias else 1.0
    reach = 2 * widening
    for i in range(n_out):
        centre = step * (i + 0.5) - 0.5  # in input samples
        if antialias:
            first = max(int(centre + 0.5 - reach + 0.5), 0)
            taps = np.arange(first, min(int(centre + 0.5 + reach + 0.5), n_in))
            weights = cubic((taps - centre) / widening, -0.5)
            weights /= weights.sum()
        else:
            taps = math.floor(centre) + np.arange(-1, 3)
            weights = cubic(taps - centre, -0.75)
        np.add.at(matrix[i], np.clip(taps, 0, n_in - 1), weights)
    return matrix.astype(np.float32)


def cubic(x: Float[np.ndarray, ' n'], a: float) -> Float[np.ndarray, ' n']:
    """Return Keys' cubic convolution kernel (1981) with the constant a, which reaches to 2."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, np.where(x < 2, far, 0))
