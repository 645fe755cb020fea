"""VGG-16 (Simonyan and Zisserman 2015, configuration D), with or without its classifier, and its ImageNet weights."""

import math
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.parameter import parameter
from simpropnet_jax.backbones.resnet import BackboneConv
from simpropnet_jax.backbones.weight_files import read_weights, sha256
from simpropnet_jax.backbones.weights import Backbone, download
from simpropnet_jax.ops.bias import add_bias
from simpropnet_jax.ops.convolve_gpu import LAYOUT

# keras.applications.VGG16 without and with its classifier, as Keras downloads them: address, Keras' MD5.
_KERAS_FOLDER = 'https://storage.googleapis.com/tensorflow/keras-applications/vgg16/'
KERAS_FILES = {
    False: (
        f'{_KERAS_FOLDER}vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5',
        '6d6bbae143d832006294945121d1f1fc',
    ),
    True: (
        f'{_KERAS_FOLDER}vgg16_weights_tf_dim_ordering_tf_kernels.h5',
        '64373286793e3c8b2b4e3219cbf3544b',
    ),
}
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block
FILTERS = (1, 2, 4, 8, 8)  # of each block, in widths
IMAGENET_CLASSES = 1000
FULLY_CONNECTED = ('fc6', 'fc7', 'fc8')  # the layers of the classifier; in files:
STORED = {
    'keras': {'fc6': 'fc1', 'fc7': 'fc2', 'fc8': 'predictions'},
    'torchvision': {'fc6': 'classifier.0', 'fc7': 'classifier.3', 'fc8': 'classifier.6'},
}


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions in five blocks, with max pooling between them.

    Args: x [B,H,W,3], normalised by the convention that came with the weights (normalise.py).
    Returns: dict of the post-ReLU features that end each block, conv1 [B,H,W,width] to conv5 (conv5_3 of the paper)
      [B,H/16,W/16,8*width], and of each pooling's output, pool1 to pool4. Sizes are rounded down and
      depend on the fields. Fully connected layers are convolutions over the last features: fc6 and fc7
      [B,h-6,w-6,64*width], post-ReLU, and fc8 [B,h-6,w-6,1000], so that an image may be larger than ImageNet's 224.
    """

    width: int = 64  # filters of the first block
    pool: int = 2  # side of the pooling; 3 is padded, so that sizes are rounded up
    ceil: bool = False  # a pooling of 2 rounds sizes up too, as Caffe's does
    strides: tuple[int | None, ...] = (
        2,
        2,
        2,
        2,
    )  # of the pooling behind each block; None, or no fifth: there is none
    dilations: tuple[int | tuple[int, ...], ...] = (
        1,
        1,
        1,
        1,
        1,
    )  # of each block; a tuple: of its convolutions
    last_relu: bool = True
    fully_connected: int = 0  # of fc6, fc7 and fc8, how many there are; they need a fifth pooling
    dropout: float = 0.5  # behind fc6 and fc7
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, 'b h w 3'], train: bool = False
    ) -> dict[str, Float[Array, 'b _ _ _']]:
        features, strides = {}, (*self.strides, None)
        for block, (depth, filters, dilation) in enumerate(
            zip(DEPTHS, FILTERS, self.dilations, strict=True), 1
        ):
            each = (dilation,) * depth if isinstance(dilation, int) else dilation
            for i, own in zip(range(1, depth + 1), each, strict=True):
                name = f'conv{block}_{i}'
                x = BackboneConv(
                    filters * self.width, 3, dilation=own, dtype=self.dtype, name=name
                )(x)
                x = x if name == 'conv5_3' and not self.last_relu else nn.relu(x)
            features[f'conv{block}'] = x
            if strides[block - 1]:
                features[f'pool{block}'] = x = self._pooled(x, strides[block - 1])
        for name in FULLY_CONNECTED[: self.fully_connected]:
            filters = IMAGENET_CLASSES if name == 'fc8' else 64 * self.width
            x = FullyConnected(filters, 7 if name == 'fc6' else 1, self.dtype, name=name)(x)
            features[name] = x = x if name == 'fc8' else nn.relu(x)
            x = nn.Dropout(self.dropout)(x, deterministic=not train)
        return features

    def _pooled(self, x, stride):
        padding = ((1, 1), (1, 1)) if self.pool == 3 else 'SAME' if self.ceil else 'VALID'
        return nn.max_pool(x, (self.pool, self.pool), (stride, stride), padding)


class FullyConnected(nn.Module):
    """A layer of the classifier as a convolution without padding."""

    features: int
    side: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b _ _ d']:
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = jnp.asarray(
            parameter(self, 'kernel', nn.initializers.lecun_normal(), shape), self.dtype
        )
        bias = parameter(self, 'bias', nn.initializers.zeros_init(), (self.features,))
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=LAYOUT)
        return add_bias(x, bias, self.dtype)


def load_network(path: str | Path, network: VGG16, fully_connected: int = 0) -> Backbone:
    """Load weights for this VGG-16, with its classifier if it has fully connected layers; see `load_vgg16`."""
    return load_vgg16(path, network.width, classifier=fully_connected > 0)


def load_vgg16(path: str | Path, width: int = 64, classifier: bool = False) -> Backbone:
    """Load VGG-16 weights from a file of Keras or torchvision, or from Keras' download.

    Args:
      path: Keras' .h5, torchvision's .pth (needs torch) or .safetensors (does not), with or without the classifier; or
        the word 'keras' for the file that keras.applications downloads (same address, checked by its hash).
      width: filters of the first block, 64 in every published file.
      classifier: whether its three layers are needed too.
    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing, superfluous or of the wrong shape, or the file is of another kind.
      ImportError: the library that reads this kind of file is not installed.
      OSError: the weights could not be downloaded.
    """
    path = download(*KERAS_FILES[classifier]) if str(path) == 'keras' else Path(path)
    entries, convention = read_weights(path, 'VGG-16')
    left = {name for name in entries if not re.match('(fc1|fc2|predictions)/|classifier[.]', name)}
    network = VGG16(width, strides=(2,) * 5, fully_connected=3 * classifier)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 224, 224, 3)))
    params = {}
    for layer, arrays in variables['params'].items():
        params[layer] = {}
        for array, leaf in arrays.items():
            names = _names(convention, layer, array)
            name = next((name for name in names if name in entries), None)
            if name is None:
                kind = f'a VGG-16 of {convention}{", with its classifier" if classifier else ""}'
                raise ValueError(f'{path} has no entry {" or ".join(names)} (is it {kind}?)')
            params[layer][array] = _take(
                entries[name], convention, leaf.shape, f'{path}: entry {name}'
            )
            left.discard(name)
    if left:
        raise ValueError(
            f'{path} has an entry {min(left)} that a VGG-16 of {convention} does not have'
        )
    return Backbone(params, convention, f'{path.name} sha256:{sha256(path)}')


def shortened(params: dict, fully_connected: int) -> dict:
    """Keep a VGG-16's convolutions and its first `fully_connected` fully connected layers, if it has them."""
    without = FULLY_CONNECTED[fully_connected:]
    return {name: value for name, value in params.items() if name not in without}


def _names(convention: str, layer: str, array: str) -> tuple[str, ...]:
    """Return the names of conv1_1/kernel etc. in the file; Keras has names of 2016 and the names it writes now."""
    if layer in FULLY_CONNECTED:
        stored = STORED[convention][layer]
    else:
        block, conv = map(int, re.fullmatch(r'conv(\d)_(\d)', layer).groups())
        place = (
            2 * (sum(DEPTHS[: block - 1]) + conv - 1) + block - 1
        )  # each with a ReLU; a pooling ends each block
        stored = {'keras': f'block{block}_conv{conv}', 'torchvision': f'features.{place}'}[
            convention
        ]
    if convention == 'torchvision':
        return (f'{stored}.{"weight" if array == "kernel" else array}',)
    return f'{stored}/{stored}_{"W" if array == "kernel" else "b"}_1', f'{stored}/{array}'


def _take(stored, convention, shape, entry):
    """Return an array in this package's layout; files store the classifier's kernels as matrices, input flattened."""
    order = (3, 2, 0, 1) if convention == 'torchvision' and len(shape) == 4 else range(len(shape))
    there = tuple(shape[axis] for axis in order)
    value = np.asarray(stored, np.float32)
    if value.ndim == 2 and value.size == math.prod(shape):
        value = value.reshape(there)
    if value.shape != there:
        raise ValueError(f'{entry} should have shape {there}, has {value.shape}')
    return value.transpose(np.argsort(order))
