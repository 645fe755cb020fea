"""The two ways to fuse a probe with features: SimPropNet's attentive fusion, and CANet's dense comparison."""

from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.layers import (
    Conv,
    ConvReluDropout,
    cosine_similarity,
    instance_norm,
    masked_average,
    resize_mask,
    tile,
)


class Probe(NamedTuple):
    """Foreground and background masked averages Z^f, Z^b: SimPropNet, Eq. 1.

    Each is [B, C], or [B, K, C] for separate supports. If only cosines are used, the background may have one vector
    per position, [B, h, w, C].
    """

    foreground: Float[Array, '*b c']
    background: Float[Array, '*b c']


def dual_probe(
    features: Float[Array, '*b h w c'],
    masks: Float[Array, '*b H W'],
    valid: Float[Array, '*b H W'],
    half_pixel: bool = False,
) -> Probe:
    """Compute the masked averages of each support: SimPropNet, Eq. 1.

    Eq. 1 divides by the whole area, but its text says weighted average. This divides by the mask's area, like CANet's
    pooling. Cosines are the same either way; the concatenated Z^f differs.

    Args:
      features: support features F_s.
      masks: foreground in [0, 1], of any resolution.
      valid: 0 where a pixel belongs neither to the foreground nor to the background (void).
      half_pixel: where the features lie, see `Grid`.
    """
    size = features.shape[-3:-1]
    foreground = masked_average(features, resize_mask(masks * valid, size, half_pixel))
    background = masked_average(features, resize_mask((1 - masks) * valid, size, half_pixel))
    return Probe(foreground, background)


def attention_maps(features: Float[Array, 'b h w c'], probe: Probe) -> Float[Array, 'b h w 2']:
    """Compute A^f and A^b (SimPropNet, Eq. 2), which sum to one. After a ReLU they lie in [1/3, 2/3]."""
    similar_f = (1 + cosine_similarity(features, probe.foreground)) / 2  # C(F, Z^f)
    similar_b = (1 + cosine_similarity(features, probe.background)) / 2  # C(F, Z^b)
    # A feature opposite to both probes would give 0 / 0. It cannot occur after a ReLU, but can without one.
    total = jnp.maximum(similar_f + similar_b, 1e-6)
    return jnp.stack([similar_f / total, similar_b / total], -1)


class AttentiveFusion(nn.Module):
    """Foreground/background attentive fusion: SimPropNet, Eq. 3.

    Args:
      features: [B, h, w, C], after the activation; probe: Z^f and Z^b, each [B, C].
    Returns:
      Fused features G, [B, h, w, 2C].
    """

    activation: str = (
        'none'  # Eq. 3 as printed; 'relu': ReLU(IN(Conv(G) + G)); 'block': IN(ReLU(Conv(G)) + G)
    )
    attention_gain: float = 1.0  # how far A^f and A^b are spread around 1/2; 1: as they are
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features, probe, train: bool = False):
        del train  # Eq. 3 has no dropout
        width = 2 * features.shape[-1]
        inner = nn.relu if self.activation == 'block' else lambda x: x
        outer = nn.relu if self.activation == 'relu' else lambda x: x

        def residual(name, g, x=None, **parts):
            """Compute IN(Conv(x) + G), with the ReLU at its place in this reading of Eq. 3; x defaults to G."""
            convolved = Conv(width, dtype=self.dtype, name=name)(g if x is None else x, **parts)
            return outer(instance_norm(inner(convolved) + g))

        attention = attention_maps(features, probe)  # A^f, A^b
        attention = (0.5 + self.attention_gain * (attention - 0.5)).astype(features.dtype)
        g = jnp.concatenate([features, tile(probe.foreground, features)], -1)  # G^0
        g = residual(
            'conv1', g, features, constant=probe.foreground
        )  # G^1; the tiled Z^f is convolved as a constant
        g = residual('conv2', g, thin=attention)  # G^2
        return residual('conv3', g)  # G


class DenseComparison(nn.Module):
    """CANet's fusion: a convolution over features and Z^f, then three residual blocks that also see a history mask.

    Source: https://github.com/icoz69/CaNet, one_shot_network.py (layer55, residule1 to residule3).

    Args:
      features: [B, h, w, C]; probe: only its foreground is used; history: softmax of an earlier prediction
        [B, h, w, 2]; None means zeros, as in the first step.
    Returns:
      Fused features [B, h, w, C].
    """

    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.comparison = ConvReluDropout(dilation=2, dropout=self.dropout, dtype=self.dtype)
        self.residual1_conv1, self.residual1_conv2 = Conv(dtype=self.dtype), Conv(dtype=self.dtype)
        self.residual2_conv1, self.residual2_conv2 = Conv(dtype=self.dtype), Conv(dtype=self.dtype)
        self.residual3_conv1, self.residual3_conv2 = Conv(dtype=self.dtype), Conv(dtype=self.dtype)

    def __call__(self, features, probe, train: bool = False, history=None):
        x = self.compare(features, probe.foreground, train)
        return self.refine(x, self.begin(x), history)

    def compare(
        self,
        features: Float[Array, 'b h w c'],
        foreground: Float[Array, 'b c'],
        train: bool = False,
    ) -> Float[Array, 'b h w c']:
        """Convolve features and Z^f; later layers do not see the support again."""
        return self.comparison(features, train, constant=foreground)

    def begin(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w c']:
        """Compute the part of the first residual block that depends only on the comparison x, not on a history."""
        return self.residual1_conv1(nn.relu(x), thin=jnp.zeros((*x.shape[:3], 2), x.dtype))

    def refine(
        self,
        x: Float[Array, 'b h w c'],
        begun: Float[Array, 'b h w c'],
        history: Float[Array, 'b h w 2'] | None = None,
    ) -> Float[Array, 'b h w c']:
        """Apply the residual blocks: the part to recompute for a new history.

        Args:
          x: from `compare`; begun: from `begin`.
        """
        if history is not None:
            begun = self.residual1_conv1(nn.relu(x), thin=history.astype(x.dtype), rest=begun)
        x = x + self.residual1_conv2(nn.relu(begun))
        x = x + self.residual2_conv2(nn.relu(self.residual2_conv1(nn.relu(x))))
        return x + self.residual3_conv2(nn.relu(self.residual3_conv1(nn.relu(x))))
