"""ResNet-50 up to its third stage, at 1/8 of the input's resolution; fields set other depths and strides.

Batch norm does not appear: it runs in inference mode and is folded into the convolutions when weights are
imported (pretrained.py), so every convolution has a kernel and a bias.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.parameter import parameter
from simpropnet_jax.ops.bias import add_bias
from simpropnet_jax.ops.convolve import convolve

STAGES = ('layer1', 'layer2', 'layer3', 'layer4')
# Striding stops at one eighth: the third stage keeps the resolution and dilates all of its 3x3 convolutions
# instead, as CANet's encoder does. A fourth stage would dilate further.
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
DEPTHS = (3, 4, 6)
EXPANSION = 4


class BackboneConv(nn.Module):
    """Convolution with a bias and zero padding, sizes rounded up at stride 2."""

    features: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = parameter(self, 'kernel', nn.initializers.lecun_normal(), shape)
        bias = parameter(self, 'bias', nn.initializers.zeros_init(), (self.features,))
        x = convolve(
            x.astype(self.dtype), jnp.asarray(kernel, self.dtype), self.dilation, self.stride
        )
        return add_bias(x, bias, self.dtype)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a shortcut: He et al. 2016, Fig. 5 right.

    Args: x [B,h,w,C].
    Returns: [B,ceil(h/stride),ceil(w/stride),4*filters], post-ReLU.
    """

    filters: int
    stride: int
    dilation: int
    stride_on: str
    project: bool  # the shortcut is a 1x1 convolution: the first block of a stage
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 d']:
        first, second = (self.stride, 1) if self.stride_on == '1x1' else (1, self.stride)
        d = self.dilation
        wide = EXPANSION * self.filters

        def conv1x1(filters, stride, name):
            return BackboneConv(filters, 1, stride, dtype=self.dtype, name=name)

        y = nn.relu(conv1x1(self.filters, first, 'conv1')(x))
        y = nn.relu(BackboneConv(self.filters, 3, second, d, self.dtype, name='conv2')(y))
        y = conv1x1(wide, 1, 'conv3')(y)
        shortcut = (
            conv1x1(wide, self.stride, 'downsample')(x) if self.project else x.astype(y.dtype)
        )
        return nn.relu(y + shortcut)


class ResNet(nn.Module):
    """ResNet-50 to layer3, stride 8, layer3 dilated by 2; four `depths` add layer4.

    Args: x [B,H,W,3], normalised by the convention that came with the weights (normalise.py).
    Returns: dict of post-ReLU features: layer1 [B,H/4,W/4,4*width], layer2 [B,H/8,W/8,8*width],
      layer3 [B,H/8,W/8,16*width], sizes rounded up; layer4 has 32*width channels. Other strides give other sizes.
    Raises: ValueError for an unknown `stride_on`.
    """

    stride_on: str  # '1x1' for Keras' weights, '3x3' for torchvision's
    width: int = 64  # filters of the stem
    depths: tuple[int, ...] = DEPTHS  # blocks of layer1, layer2, ...: one number a stage
    strides: tuple[int, ...] = STRIDES  # of the first block of each stage
    dilations: tuple[int, ...] = DILATIONS  # of all 3x3 convolutions of each stage
    dtype: DTypeLike = jnp.float32
    deep_stem: bool = False  # three 3x3 convolutions in place of one of 7x7

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w 3']) -> dict[str, Float[Array, 'b _ _ _']]:
        if self.stride_on not in ('1x1', '3x3'):
            raise ValueError(
                f"stride_on must be '1x1' (Keras' weights) or '3x3' (torchvision's), got {self.stride_on!r}"
            )
        x = self._stem(x)
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        features = {}
        for i, depth in enumerate(self.depths):
            for j in range(depth):
                x = Bottleneck(
                    filters=self.width * 2**i,
                    stride=self.strides[i] if j == 0 else 1,
                    dilation=self.dilations[i],
                    stride_on=self.stride_on,
                    project=j == 0,
                    dtype=self.dtype,
                    name=f'{STAGES[i]}_{j}',
                )(x)
            features[STAGES[i]] = x
        return features

    def _stem(self, x: Float[Array, 'b h w 3']) -> Float[Array, 'b h2 w2 c']:
        if not self.deep_stem:
            return nn.relu(BackboneConv(self.width, 7, 2, dtype=self.dtype, name='conv1')(x))
        x = nn.relu(BackboneConv(self.width, 3, 2, dtype=self.dtype, name='conv1')(x))
        x = nn.relu(BackboneConv(self.width, 3, dtype=self.dtype, name='stem2')(x))
        return nn.relu(BackboneConv(2 * self.width, 3, dtype=self.dtype, name='stem3')(x))


def parameter_shapes(**fields) -> dict:
    """Nested dict of the shapes of ResNet(**fields)'s parameters, without computing any."""
    module = ResNet(**fields)
    variables = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    return jax.tree.map(lambda leaf: leaf.shape, variables['params'])
