"""Build the encoder that a method stands on, and read its levels."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.resnet import DEPTHS, ResNet
from simpropnet_jax.backbones.vgg import VGG16

# VGG-16 at 1/8 to its end, where a method has no published one of its own: PANet's, with its last ReLU.
DENSE_VGG = {'pool': 3, 'strides': (2, 2, 2, 1), 'dilations': (1, 1, 1, 1, 2)}


def make_backbone(
    encoder: str,
    width: int = 64,
    stride_on: str = '3x3',
    dtype: DTypeLike = jnp.float32,
    depths: Sequence[int] = (),
    deep_stem: bool = False,
    **vgg,
) -> nn.Module:
    """Build the backbone, which maps images [N, H, W, 3] to a dict of features.

    Args:
      encoder: a name of `registry.ENCODERS`.
      width: filters of its first layer, or channels of a ViT's head; 64 in every published file.
      stride_on: of a ResNet, see there.
      depths: blocks of a ResNet's stages; (): the encoder's.
      deep_stem: whether a ResNet has a deep stem even if the encoder has none.
      vgg: the fields of `VGG16`; the methods differ in them.
    Raises:
      ValueError: there is no such encoder, or it has no such fields.
    """
    found = registry.find(encoder)
    if found.network == registry.RESNET:
        return ResNet(
            width=width,
            stride_on=stride_on,
            depths=tuple(depths) or found.fields.get('depths', DEPTHS),
            dtype=dtype,
            deep_stem=deep_stem or found.fields.get('deep_stem', False),
        )
    if depths or deep_stem:
        raise ValueError(
            f'config.model.depths and deep_stem are fields of ResNets, but config.model.encoder is {encoder!r}. '
            'Leave them out'
        )
    if found.network == registry.VGG:
        return VGG16(width=width, dtype=dtype, **(vgg or DENSE_VGG))
    return registry.resolve(found.network)(width=width, dtype=dtype, **found.fields)


def joined(
    features: Mapping[str, Float[Array, 'n _ _ _']],
    encoder: str = 'resnet50',
    levels: Sequence[str] = (),
) -> Float[Array, 'n h w c']:
    """Concatenate levels: layer2 and layer3 of a ResNet, the input of CANet's and SimPropNet's layer after it.

    Args:
      features: from the backbone.
      encoder: its name.
      levels: names of levels; (): the encoder's `read`.
    Raises:
      ValueError: there is no such level, or the levels have different strides.
    """
    names = tuple(levels) or registry.find(encoder).read
    unknown = [name for name in names if name not in features]
    if unknown:
        raise ValueError(
            f'config.model.levels must be levels of {encoder}, {", ".join(features)}, got {unknown[0]!r}'
        )
    if len({features[name].shape[1:3] for name in names}) > 1:
        raise ValueError(
            f'config.model.levels is {names}, which have different strides in {encoder}. Give levels of one stride'
        )
    return jnp.concatenate([features[name] for name in names], -1)
