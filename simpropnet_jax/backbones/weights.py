"""Read ImageNet weights; a ResNet's are checked entry by entry and its batch norm is folded into the convolutions.

Each source has its convention (normalise.CONVENTIONS). Its name travels with the weights, so that the images are
normalised and the network strides in the way the weights were trained.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flax import traverse_util

from simpropnet_jax.backbones.normalise import get_convention
from simpropnet_jax.backbones.resnet import DEPTHS, STAGES, parameter_shapes
from simpropnet_jax.backbones.weight_files import read_weights, sha256
from simpropnet_jax.runtime.download import Remote, fetch

DEPTHS_50, DEPTHS_101 = (3, 4, 6, 3), (3, 4, 23, 3)
# Depths -> keras.applications.ResNet50(include_top=False) and ResNet101, as Keras downloads them: address, MD5.
_KERAS_FOLDER = 'https://storage.googleapis.com/tensorflow/keras-applications/resnet/'
KERAS_FILES = {
    DEPTHS_50: (
        f'{_KERAS_FOLDER}resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5',
        '4d473c1dd8becc155b73f8504c6f6626',
    ),
    DEPTHS_101: (
        f'{_KERAS_FOLDER}resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5',
        '88cf7a10940856eca736dc7b7e228a21',
    ),
}


@dataclass(frozen=True)
class Backbone:
    """Weights and what is needed to use them."""

    params: dict  # nested, float32 numpy, as the 'params' of ResNet, VGG16 or ViT
    convention: str  # key of normalise.CONVENTIONS
    source: str  # file name and sha256, for checkpoints and result files

    @property
    def vgg(self) -> bool:
        """Whether they are a VGG-16's, and not a ResNet's."""
        return 'conv1_1' in self.params

    @property
    def resnet(self) -> bool:
        """Whether they are a ResNet's."""
        return 'layer1_0' in self.params

    @property
    def width(self) -> int:
        """Filters of the first layer of a ResNet or VGG-16."""
        return self.params['conv1_1' if self.vgg else 'conv1']['kernel'].shape[-1]

    @property
    def deep_stem(self) -> bool:
        """Whether a ResNet begins with three 3x3 convolutions."""
        return 'stem3' in self.params

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks of a ResNet's stages."""
        blocks = [sum(name.startswith(f'{stage}_') for name in self.params) for stage in STAGES]
        return tuple(count for count in blocks if count)


@dataclass(frozen=True)
class _Layout:
    """Names in one kind of file, which has a convolution and its batch norm for each convolution of our ResNet."""

    convention: str
    names: Callable[[str], tuple[str, str]]  # 'layer1_0/conv1' -> names of convolution, batch norm
    kernel: str
    bias: str | None
    norm: tuple[str, str, str, str]  # scale, offset, mean, variance
    join: str  # between the name of a layer and of its array
    axes: tuple[int, int, int, int]  # transposition of the kernel to height, width, in, out
    unused: str  # regular expression of entries that a ResNet to layer3 does not need


def _keras_names(place: str) -> tuple[str, str]:
    if place == 'conv1':
        return 'conv1_conv', 'conv1_bn'
    stage, block, conv = re.fullmatch(r'layer(\d)_(\d+)/(?:conv)?(\d|downsample)', place).groups()
    layer = f'conv{int(stage) + 1}_block{int(block) + 1}_{0 if conv == "downsample" else conv}'
    return f'{layer}_conv', f'{layer}_bn'


def _torchvision_names(place: str) -> tuple[str, str]:
    if place in ('stem2', 'stem3'):
        return f'conv{place[-1]}', f'bn{place[-1]}'
    place = re.sub(r'^(layer\d)_(\d+)/', r'\1.\2.', place)
    if place.endswith('downsample'):
        return f'{place}.0', f'{place}.1'
    return place, re.sub(r'conv(\d)$', r'bn\1', place)


_KERAS = _Layout(
    convention='keras',
    names=_keras_names,
    kernel='kernel',
    bias='bias',
    norm=('gamma', 'beta', 'moving_mean', 'moving_variance'),
    join='/',
    axes=(0, 1, 2, 3),
    unused=r'(conv5_block\d+_|predictions/|probs/).*',
)
TORCHVISION = _Layout(
    convention='torchvision',
    names=_torchvision_names,
    kernel='weight',
    bias=None,
    norm=('weight', 'bias', 'running_mean', 'running_var'),
    join='.',
    axes=(2, 3, 1, 0),
    unused=r'(layer4|fc)\..*|.*\.num_batches_tracked',
)


def load_resnet(path: str | os.PathLike, network, fully_connected: int = 0) -> Backbone:
    """Load weights for this ResNet; see `load_backbone`."""
    del fully_connected  # of a VGG-16
    return load_backbone(path, network.width, network.depths, network.deep_stem)


def load_backbone(
    path: str | os.PathLike,
    width: int = 64,
    depths: tuple[int, ...] = DEPTHS,
    deep_stem: bool = False,
) -> Backbone:
    """Load ResNet weights from a file or from Keras' download: ResNet-50 up to layer3, or as `depths` says.

    Args:
      path: Keras' .h5 (h5py is enough), torchvision's .pth (needs torch) or .safetensors (does not); or the
        word 'keras' for the ResNet-50 or ResNet-101 that keras.applications downloads (same address, checked by its
        hash).
      width: filters of the stem, 64 in every published file.
      depths: blocks of layer1, layer2, ...; entries of later stages are ignored.
      deep_stem: whether it begins with three 3x3 convolutions, as resnet50_v2.pth of PFENet and others.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing, superfluous or of the wrong shape, the file is of another kind, or the download
        has other depths.
      ImportError: the library that reads this kind of file is not installed.
      OSError: the weights could not be downloaded.
    """
    path = download(*_keras_file(depths)) if str(path) == 'keras' else Path(path)
    entries, convention = read_weights(path, 'backbone')
    _check_stem(entries, deep_stem, path)
    layout = {layout.convention: layout for layout in (_KERAS, TORCHVISION)}[convention]
    params = fold(entries, layout, width, path, depths, deep_stem)
    return Backbone(params, convention, f'{path.name} sha256:{sha256(path)}')


def _check_stem(entries, deep_stem: bool, path: Path) -> None:
    """Refuse weights of another stem, which would only be called incomplete."""
    found = 'conv3.weight' in entries
    if found and not deep_stem:
        raise ValueError(
            f'{path} has a deep stem, of three 3x3 convolutions: add the word deep_stem to --config, as in '
            'simpropnet:fold=2,deep_stem'
        )
    if deep_stem and not found:
        raise ValueError(
            f'{path} has no deep stem, of three 3x3 convolutions: leave out the word deep_stem'
        )


def _keras_file(depths) -> tuple[str, str]:
    """Return address and MD5 of the file for these stages; its network may have one stage more."""
    for whole, file in KERAS_FILES.items():
        if tuple(depths) in (whole[:-1], whole):
            return file
    raise ValueError(
        f"'keras' downloads ResNet-50, of {DEPTHS_50} blocks, or ResNet-101, of {DEPTHS_101}, with layer4 or without, "
        f'and nothing of {tuple(depths)} blocks: change the depths, or give the path of a file'
    )


def download(url: str, md5: str) -> Path:
    """Return the path of a file of keras.applications in Keras' folder; download it if missing."""
    folder = Path(os.environ.get('KERAS_HOME', Path.home() / '.keras')) / 'models'
    try:
        return fetch(Remote(url.split('/')[-1], (url,), md5), folder)
    except OSError as error:
        raise OSError(
            f'the backbone weights could not be downloaded ({error}); download {url} elsewhere and give its path'
        ) from error


def fold(
    entries: dict[str, np.ndarray],
    layout: _Layout,
    width: int,
    path: Path,
    depths: tuple[int, ...] = DEPTHS,
    deep_stem: bool = False,
) -> dict:
    """Return ResNet's params from the file's entries; each must be known, present and of the right shape."""
    convention = get_convention(layout.convention)
    shapes = parameter_shapes(
        stride_on=convention.stride_on, width=width, depths=depths, deep_stem=deep_stem
    )
    shapes = traverse_util.flatten_dict(shapes, sep='/')
    left = {name for name in entries if not re.fullmatch(layout.unused, name)}
    network = f'ResNet-{101 if 23 in depths else 50} of {layout.convention}'

    def take(layer, array, shape):
        name = f'{layer}{layout.join}{array}'
        if name not in entries:
            blocks = ', '.join(map(str, depths))
            raise ValueError(
                f'{path} has no entry {name} (is it a {network}, whole in its stages of {blocks} blocks?)'
            )
        if entries[name].shape != shape:
            raise ValueError(
                f'{path}: entry {name} should have shape {shape}, has {entries[name].shape}'
            )
        left.discard(name)
        return np.asarray(entries[name], np.float64)

    params = {}
    for place in [name.removesuffix('/kernel') for name in shapes if name.endswith('/kernel')]:
        conv, norm = layout.names(place)
        shape = shapes[f'{place}/kernel']
        stored = tuple(shape[layout.axes.index(axis)] for axis in range(4))
        channels = shape[-1:]
        kernel = take(conv, layout.kernel, stored).transpose(layout.axes)
        bias = take(conv, layout.bias, channels) if layout.bias else 0.0
        scale, offset, mean, variance = (take(norm, array, channels) for array in layout.norm)
        factor = scale / np.sqrt(variance + convention.epsilon)
        params[f'{place}/kernel'] = (kernel * factor).astype(np.float32)
        params[f'{place}/bias'] = ((bias - mean) * factor + offset).astype(np.float32)
    if left:
        raise ValueError(
            f'{path} has an entry {min(left)} that a {network} does not have ({len(left)} such entries)'
        )
    return traverse_util.unflatten_dict(params, sep='/')
