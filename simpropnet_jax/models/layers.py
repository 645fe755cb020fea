"""Layers and array functions that several methods share."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.parameter import parameter
from simpropnet_jax.ops.convolve import convolve, convolve_constant
from simpropnet_jax.ops.resize import interpolation_matrix, resize_bilinear

# CANet's: keeps z finite (and zero) for an empty mask. https://github.com/icoz69/CaNet, one_shot_network.py
MASK_AREA_EPSILON = 5e-4

# CANet's initial standard deviation of every kernel of its head.
INITIAL_DEVIATION = 0.01


def resize_mask(
    masks: Float[Array, '*b H W'], size: tuple[int, int], half_pixel: bool = False
) -> Float[Array, '*b h w']:
    """Resize masks in [0, 1] to the size of the features, bilinear as in CANet; `half_pixel` as in `Grid`."""
    return resize_bilinear(masks[..., None], size, half_pixel)[..., 0]


def masked_average(
    features: Float[Array, '*b h w c'], weights: Float[Array, '*b h w']
) -> Float[Array, '*b c']:
    """Average features under a mask: sum(F * M) / (sum M + 5e-4), in float32. Zero for an empty mask."""
    features, weights = features.astype(jnp.float32), weights.astype(jnp.float32)
    total = jnp.einsum('...hwc,...hw->...c', features, weights, precision='highest')
    return total / (weights.sum((-2, -1))[..., None] + MASK_AREA_EPSILON)


def upsampled_average(
    features: Float[Array, '*b h w c'], weights: Float[Array, '*b H W'], half_pixel: bool = False
) -> Float[Array, '*b c']:
    """Compute `masked_average` of the features as if resized (bilinear) to the mask's size.

    Resizing is linear, so its transpose brings the mask to the features instead, with the same sum.
    """
    rows = interpolation_matrix(features.shape[-3], weights.shape[-2], half_pixel=half_pixel)
    columns = interpolation_matrix(features.shape[-2], weights.shape[-1], half_pixel=half_pixel)
    brought = jnp.einsum(
        'Hh,...HW,Ww->...hw', rows, weights.astype(jnp.float32), columns, precision='highest'
    )
    total = jnp.einsum(
        '...hwc,...hw->...c', features.astype(jnp.float32), brought, precision='highest'
    )
    return total / (weights.sum((-2, -1))[..., None] + MASK_AREA_EPSILON)


def cosine_similarity(
    features: Float[Array, 'b h w c'], vector: Float[Array, 'b *hw c']
) -> Float[Array, 'b h w']:
    """Compute the cosine of every position with the vector, in float32; zero (finite gradient) if either is zero.

    There may be one vector per position.
    """
    features, vector = features.astype(jnp.float32), vector.astype(jnp.float32)
    if vector.ndim == 4:
        lengths = jax.lax.rsqrt(
            (jnp.square(features).sum(-1) + 1e-12) * (jnp.square(vector).sum(-1) + 1e-12)
        )
        return (features * vector).sum(-1) * lengths
    products = jnp.einsum('bhwc,bc->bhw', features, vector, precision='highest')
    lengths = jax.lax.rsqrt(jnp.square(features).sum(-1) + 1e-12)
    return products * lengths * jax.lax.rsqrt(jnp.square(vector).sum(-1) + 1e-12)[:, None, None]


def largest(x: Float[Array, '*b n']) -> Float[Array, '*b']:
    """Return the maximum over the last axis; its gradient goes to the element that was taken.

    The gradient of `max` goes to all elements equal to the maximum, and is 0/0 if none is equal: a compiler may
    compute the compared values twice, with different rounding.
    """
    taken = jnp.arange(x.shape[-1]) == x.argmax(-1, keepdims=True)
    return jnp.where(taken, x, 0).sum(-1)


def tile(vector: Float[Array, 'b c'], features: Float[Array, 'b h w d']) -> Float[Array, 'b h w c']:
    """Repeat the vector at every position of the features; its gradient is summed in float32 (see `add_bias`)."""
    shape = (*features.shape[:3], vector.shape[-1])
    return jnp.broadcast_to(vector.astype(jnp.float32)[:, None, None], shape).astype(features.dtype)


def instance_norm(x: Float[Array, 'b h w c'], epsilon: float = 1e-5) -> Float[Array, 'b h w c']:
    """Normalise each instance without affine parameters, in float32 (PyTorch's InstanceNorm2d default)."""
    y = x.astype(jnp.float32)
    y = y - y.mean((1, 2), keepdims=True)
    return (y * jax.lax.rsqrt(jnp.square(y).mean((1, 2), keepdims=True) + epsilon)).astype(x.dtype)


class Conv(nn.Module):
    """Convolution at stride 1 that keeps the size; kernel from N(0, 0.01), as CANet's head.

    The bias starts uniform in +-1/sqrt(fan in): PyTorch's default, which CANet leaves as it is.

    Args:
      x: [B, h, w, c].
      constant: [B, c2], as if tiled over the image and concatenated after x, at a fraction of the cost.
      thin: [B, h, w, c3] with few channels, as if concatenated after both.
      rest: result of the same x and constant with thin = 0; x and constant are then not convolved again.
    """

    features: int | None = None  # None: as many as x has channels
    kernel: int = 3
    dilation: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x, constant=None, thin=None, rest=None):
        parts = [part for part in (x, constant, thin) if part is not None]
        channels = [part.shape[-1] for part in parts]
        features = self.features or x.shape[-1]
        shape = (self.kernel, self.kernel, sum(channels), features)
        bound = (self.kernel**2 * sum(channels)) ** -0.5

        def uniform(key, shape):
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        kernel = jnp.asarray(
            parameter(self, 'kernel', nn.initializers.normal(INITIAL_DEVIATION), shape), self.dtype
        )
        bias = parameter(self, 'bias', uniform, (features,))
        total = (
            bias if rest is None else rest.astype(jnp.float32)
        )  # in float32, as `add_bias` explains
        for part, at in zip(parts, np.cumsum(channels) - channels, strict=True):
            if rest is not None and part is not thin:
                continue
            own = kernel[:, :, at : at + part.shape[-1]]
            if part is constant:
                y = convolve_constant(part, own, x.shape[1:3], self.dilation)
            else:
                y = convolve(part.astype(self.dtype), own, self.dilation)
            total = total + y
        return total.astype(self.dtype)


def he_scaled(params: dict, gain: float, backbones: Sequence[str] = ('backbone',)) -> dict:
    """Rescale a new head's kernels from a standard deviation of 0.01 to `gain` times He's, sqrt(2 / fan in).

    The last layer is kept, so that every pixel starts near one half; backbones are kept too.
    Source: Delving Deep into Rectifiers (He et al., 2015).
    """

    def scale(path, value):
        names = [part.key for part in path]
        if names[0] in backbones or names[-2:] == ['logits', 'kernel'] or names[-1] != 'kernel':
            return value
        return value * (gain * (2 / np.prod(value.shape[:-1])) ** 0.5 / INITIAL_DEVIATION)

    return jax.tree_util.tree_map_with_path(scale, params)


class ConvReluDropout(nn.Module):
    """Convolution, ReLU, and dropout of whole channels (PyTorch's Dropout2d): the block of CANet's head."""

    features: int | None = None  # None: as many as x has channels
    kernel: int = 3
    dilation: int = 1
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = False, constant=None):
        x = nn.relu(
            Conv(self.features, self.kernel, self.dilation, self.dtype, name='conv')(x, constant)
        )
        return nn.Dropout(self.dropout, broadcast_dims=(1, 2))(x, deterministic=not train)


class Decoder(nn.Module):
    """Atrous spatial pyramid pooling and two convolutions to 2 channels (background, foreground), as CANet's.

    Five branches of 256 channels: image pooling + 1x1, 1x1, and 3x3 at each rate; then 1x1 to 256, and a linear 1x1.
    """

    rates: Sequence[int] = (6, 12, 18)
    features: int = 256
    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x, train: bool = False) -> Float[Array, 'b h w 2']:
        def block(name, **kwargs):
            return ConvReluDropout(
                self.features, dropout=self.dropout, dtype=self.dtype, name=name, **kwargs
            )

        pooled = block('image_pooling', kernel=1)(x.mean((1, 2), keepdims=True), train)
        branches = [tile(pooled[:, 0, 0], x), block('conv1x1', kernel=1)(x, train)]
        branches += [block(f'rate{rate}', dilation=rate)(x, train) for rate in self.rates]
        x = block('fuse', kernel=1)(jnp.concatenate(branches, -1), train)
        return Conv(2, kernel=1, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
