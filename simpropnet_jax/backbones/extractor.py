"""ImageNet networks as feature extractors, to measure how similar two images or two regions are."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from simpropnet_jax.backbones.normalise import CONVENTIONS, normalise
from simpropnet_jax.backbones.resnet import DEPTHS, STAGES, ResNet
from simpropnet_jax.backbones.vgg import VGG16, load_vgg16
from simpropnet_jax.backbones.weights import DEPTHS_101, Backbone, load_backbone

NETWORKS = {
    'resnet101': 'layer4 of ResNet-101, stride 32',
    'vgg16': 'conv5_3 of VGG-16, stride 16',
    'resnet50': 'layer3 of ResNet-50, stride 8',
}
"""Name -> its features: a classifier as in Improved Similarity Propagation (ResNet-101 for the similarity of images,
VGG-16 for regions), or the encoder that the methods here use."""
LEVELS = {
    'resnet101': STAGES,
    'vgg16': tuple(f'conv{i}' for i in range(1, 6)),
    'resnet50': STAGES[:3],
}


@dataclass(frozen=True)
class Extractor:
    """extractor(images): RGB u8 [N,H,W,3] -> post-ReLU features float32 [N,h,w,C]; compiled once for each shape."""

    name: str  # one of `NETWORKS`
    source: str  # name, level and weights, for result files
    encode: Callable[[UInt8[Array, 'n H W 3']], Float[Array, 'n h w c']]

    def __call__(self, images: UInt8[Array | np.ndarray, 'n H W 3']) -> Float[Array, 'n h w c']:
        """Return the features of images."""
        return self.encode(images)


def load_extractor(
    name: str,
    weights: str | os.PathLike | Backbone = 'keras',
    width: int = 64,
    levels: Sequence[str] = (),
) -> Extractor:
    """Load an extractor with ImageNet's weights or with a backbone trained here.

    Args:
      name: one of `NETWORKS`.
      weights: a .h5 file of keras.applications, torchvision's .pth or .safetensors, or 'keras' to download. For a
        ResNet also a loaded backbone, for example from a training run. The convention comes with the weights.
      width: filters of the first layer, 64 in every published file; a loaded ResNet has its own.
      levels: names in `LEVELS`, all of one stride; their features are concatenated. () takes the level of `NETWORKS`.
    Raises:
      ValueError: an unknown name or level, or weights of another network.
      FileNotFoundError, ImportError, OSError: the weights cannot be read or downloaded.
    """
    if name not in NETWORKS:
        raise ValueError(f'the feature network must be one of {", ".join(NETWORKS)}, got {name!r}')
    if set(levels) - set(LEVELS[name]):
        raise ValueError(
            f'the levels of {name} must be among {", ".join(LEVELS[name])}, got {", ".join(levels)}'
        )
    network, last, backbone = {'resnet101': _resnet101, 'vgg16': _vgg16, 'resnet50': _resnet50}[
        name
    ](weights, width)
    taken = tuple(levels) or (last,)
    variables = jax.device_put({'params': backbone.params})
    shapes = jax.eval_shape(network.apply, variables, jnp.zeros((1, 65, 65, 3)))
    if len({shapes[level].shape[:3] for level in taken}) > 1:
        raise ValueError(
            f'the levels {", ".join(taken)} of {name} have different strides: give levels of one stride'
        )

    @jax.jit
    def apply(variables, images):
        features = network.apply(variables, normalise(images, backbone.convention))
        return jnp.concatenate([features[level] for level in taken], -1)

    described = f'{"+".join(levels)} of {name}' if levels else NETWORKS[name]
    return Extractor(
        name, f'{described}, {backbone.source}', lambda images: apply(variables, images)
    )


def pool(features: Float[Array, 'n h w c']) -> Float[Array, 'n c']:
    """Global average pooling."""
    return features.mean((1, 2))


def _resnet101(weights, width) -> tuple[ResNet, str, Backbone]:
    backbone = (
        weights if isinstance(weights, Backbone) else load_backbone(weights, width, DEPTHS_101)
    )
    return (
        _resnet(backbone, DEPTHS_101, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
        'layer4',
        backbone,
    )


def _vgg16(weights, width) -> tuple[VGG16, str, Backbone]:
    if isinstance(weights, Backbone):
        kind = 'a VGG-16 that may pool otherwise' if weights.vgg else 'a ResNet: take resnet50'
        raise ValueError(
            f'vgg16 has no use for {weights.source}, {kind}, or give a file of weights'
        )
    return VGG16(width), 'conv5', load_vgg16(weights, width)


def _resnet50(weights, width) -> tuple[ResNet, str, Backbone]:
    backbone = weights if isinstance(weights, Backbone) else load_backbone(weights, width)
    return _resnet(backbone, DEPTHS), 'layer3', backbone


def _resnet(backbone, depths, **fields) -> ResNet:
    """Build the network of these stages, without later ones, with the width and the strides of its weights."""
    if backbone.vgg:
        raise ValueError(
            f'{backbone.source} is a VGG-16, but the named feature network is a ResNet'
        )
    if backbone.depths[: len(depths)] != depths:
        raise ValueError(
            f'{backbone.source} has stages of {backbone.depths} blocks, but the named feature network needs '
            f'{depths}: name the matching network'
        )
    return ResNet(
        CONVENTIONS[backbone.convention].stride_on,
        backbone.width,
        depths,
        deep_stem=backbone.deep_stem,
        **fields,
    )
