"""The encoder of the methods that both papers compare with: ResNet-50 as here, or VGG-16 as they were published."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.resnet import ResNet
from simpropnet_jax.backbones.vgg import VGG16


def make_backbone(encoder: str, width: int, stride_on: str, dtype: DTypeLike, **vgg) -> nn.Module:
    """Build the backbone, which maps images [N, H, W, 3] to a dict of features.

    Args:
      encoder: 'resnet50' (to layer3, at 1/8 of the images' size) or 'vgg16'.
      width: filters of its first layer, 64 in every published file.
      vgg: the fields of `VGG16`; the methods differ in them.
    """
    if encoder == 'vgg16':
        return VGG16(width=width, dtype=dtype, **vgg)
    return ResNet(width=width, stride_on=stride_on, dtype=dtype)


def joined(levels: Mapping[str, Float[Array, 'n _ _ _']]) -> Float[Array, 'n h w c']:
    """Concatenate layer2 and layer3: the input of CANet's and SimPropNet's layer after the ResNet."""
    return jnp.concatenate([levels['layer2'], levels['layer3']], -1)
