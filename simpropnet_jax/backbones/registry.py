"""Registry of encoders: what every method may stand on, one line each, by `config.model.encoder`.

    ENCODERS['mine'] = Encoder('my_package.my_network:Network', 'my_package.my_network:load', {'last': 8}, ...)

A network is a Flax module with the fields `width` and `dtype` that maps normalised images [N, H, W, 3] to a dict of
features by level. A loader maps a path, the network and a number of fully connected layers to a `weights.Backbone`.
Modules are named rather than imported, so that configs can list encoders without importing networks.
"""

import difflib
import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from simpropnet_jax.ops.grid import Grid

DOWNLOAD = 'download'
"""`config.model.weights` that stands for the encoder's published file."""


class Encoder(NamedTuple):
    """An encoder.

    Attributes:
      network: 'module:class' of the network.
      loader: 'module:function' that reads its weights.
      levels: channels of each level, in widths, from shallow to deep.
      read: levels that methods concatenate by default.
      three: shallow, middle and deep level of methods that read three.
      grid: where the features of `read` lie.
      convention: of its input, a key of `CONVENTIONS`; '': its weights name it.
      weights: address of the published file, or where users get one; '': nothing is published.
      sha256: of the published file; '': the loader knows the file, or there is none.
      licence: of the weights.
      fields: of the network.
    """

    network: str
    loader: str
    levels: Mapping[str, int]
    read: tuple[str, ...]
    three: tuple[str, str, str]
    grid: Grid = Grid()
    convention: str = ''
    weights: str = ''
    sha256: str = ''
    licence: str = ''
    fields: Mapping[str, Any] = {}


RESNET = 'simpropnet_jax.backbones.resnet:ResNet'
VGG = 'simpropnet_jax.backbones.vgg:VGG16'
VIT = 'simpropnet_jax.backbones.vit:ViT'

_resnet = partial(
    Encoder,
    RESNET,
    'simpropnet_jax.backbones.weights:load_resnet',
    {'layer1': 4, 'layer2': 8, 'layer3': 16},
    ('layer2', 'layer3'),
    ('layer1', 'layer2', 'layer3'),
)
_vgg = partial(
    Encoder,
    VGG,
    'simpropnet_jax.backbones.vgg:load_network',
    {'conv3': 4, 'conv4': 8, 'conv5': 8},
    ('conv4', 'conv5'),
    ('conv3', 'conv4', 'conv5'),
)


def _dinov2(name: str, heads: int, registers: int, sha256: str) -> Encoder:
    """Describe a ViT of 12 blocks. `read` is at three quarters of its depth and at its end: a choice, not measured."""
    return Encoder(
        VIT,
        'simpropnet_jax.backbones.vit_weights:load_network',
        {f'block{number}': heads for number in range(1, 13)},
        ('block9', 'block12'),
        ('block4', 'block8', 'block12'),
        Grid(14, half_pixel=True),
        'torchvision',
        f'https://dl.fbaipublicfiles.com/dinov2/dinov2_{name[:6]}/dinov2_{name}_pretrain.pth',
        sha256,
        'Apache-2.0',
        {'heads': heads, 'registers': registers},
    )


_KERAS = "keras.applications, the word 'keras'"
_SEMSEG = 'https://github.com/hszhao/semseg, by hand'
ENCODERS: dict[str, Encoder] = {
    'resnet14': _resnet(fields={'depths': (1, 1, 1)}),  # for quick tries
    'resnet50': _resnet(weights=_KERAS, licence='MIT'),
    'resnet101': _resnet(weights=_KERAS, licence='MIT', fields={'depths': (3, 4, 23)}),
    'resnet50_v2': _resnet(weights=_SEMSEG, licence='MIT', fields={'deep_stem': True}),
    'resnet101_v2': _resnet(
        weights=_SEMSEG, licence='MIT', fields={'depths': (3, 4, 23), 'deep_stem': True}
    ),
    'vgg16': _vgg(weights=_KERAS, licence='CC-BY-4.0'),
    'dinov2_vits14': _dinov2(
        'vits14', 6, 0, 'b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9'
    ),
    'dinov2_vitb14': _dinov2(
        'vitb14', 12, 0, '0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73'
    ),
    'dinov2_vits14_reg': _dinov2(
        'vits14_reg4', 6, 4, 'f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb'
    ),
    'dinov2_vitb14_reg': _dinov2(
        'vitb14_reg4', 12, 4, '73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71'
    ),
}
"""Name -> encoder."""


def find(name: str) -> Encoder:
    """Return the encoder of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in ENCODERS:
        near = difflib.get_close_matches(str(name), ENCODERS, n=1)
        hint = f'Did you mean {near[0]}?' if near else f'The encoders are {", ".join(ENCODERS)}'
        raise ValueError(f'config.model.encoder must name an encoder, got {name!r}. {hint}')
    return ENCODERS[name]


def resolve(place: str) -> Any:
    """Return what 'module:name' names."""
    module, _, name = place.partition(':')
    return getattr(importlib.import_module(module), name)
