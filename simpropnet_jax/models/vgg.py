"""VGG-16 (Simonyan and Zisserman 2015, configuration D) without its classifier, and its ImageNet weights."""

import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.pretrained import Backbone, download, read_weights, sha256
from simpropnet_jax.models.resnet import Conv

# keras.applications.VGG16(include_top=False), as Keras itself downloads it; the hash is Keras' own (MD5).
KERAS_URL = (
    'https://storage.googleapis.com/tensorflow/keras-applications/vgg16/'
    'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5'
)
KERAS_HASH = '6d6bbae143d832006294945121d1f1fc'
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block
FILTERS = (1, 2, 4, 8, 8)  # of each block, in widths
# Entries of whole files that the convolutions have no need of.
CLASSIFIER = {'keras': r'(fc1|fc2|predictions)/.*', 'torchvision': r'classifier\..*'}


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions in five blocks, with max pooling between them.

    Args: x [B,H,W,3], normalised by the convention that came with the weights (normalise.py).
    Returns: dict of the post-ReLU features that end each block, conv1 [B,H,W,width] to conv5 (conv5_3 of the paper)
      [B,H/16,W/16,8*width], and of what each pooling makes of them, pool1 to pool4. Sizes are rounded down; with other
      fields they are others.
    """

    width: int = 64  # filters of the first block
    pool: int = 2  # side of the pooling; 3 is padded, so that sizes are rounded up
    ceil: bool = False  # a pooling of 2 rounds sizes up too, as Caffe's does
    strides: tuple[int | None, ...] = (2, 2, 2, 2)  # of the pooling behind each block; None, or no fifth: there is none
    dilations: tuple[int | tuple[int, ...], ...] = (1, 1, 1, 1, 1)  # of each block; a tuple: of its convolutions
    last_relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w 3']) -> dict[str, Float[Array, 'b _ _ _']]:
        features, strides = {}, (*self.strides, None)
        for block, (depth, filters, dilation) in enumerate(zip(DEPTHS, FILTERS, self.dilations, strict=True), 1):
            each = (dilation,) * depth if isinstance(dilation, int) else dilation
            for i, own in zip(range(1, depth + 1), each, strict=True):
                name = f'conv{block}_{i}'
                x = Conv(filters * self.width, 3, dilation=own, dtype=self.dtype, name=name)(x)
                x = x if name == 'conv5_3' and not self.last_relu else nn.relu(x)
            features[f'conv{block}'] = x
            if strides[block - 1]:
                features[f'pool{block}'] = x = self._pooled(x, strides[block - 1])
        return features

    def _pooled(self, x, stride):
        padding = ((1, 1), (1, 1)) if self.pool == 3 else 'SAME' if self.ceil else 'VALID'
        return nn.max_pool(x, (self.pool, self.pool), (stride, stride), padding)


def load_vgg16(path: str | Path, width: int = 64) -> Backbone:
    """VGG-16 weights from a file of Keras or torchvision, or from Keras' own download.

    Args:
      path: Keras' .h5, torchvision's .pth (needs torch) or .safetensors (does not), with or without the classifier; or
        the word 'keras': the file that keras.applications downloads, from the same place and checked by its hash.
      width: filters of the first block, 64 in every published file.
    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing, superfluous or of the wrong shape, or the file is of another kind.
      ImportError: the library that reads this kind of file is not installed.
      OSError: the weights could not be downloaded.
    """
    path = download(KERAS_URL, KERAS_HASH) if str(path) == 'keras' else Path(path)
    entries, convention = read_weights(path, 'VGG-16')
    left = {name for name in entries if not re.fullmatch(CLASSIFIER[convention], name)}
    variables = jax.eval_shape(VGG16(width).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    params = {}
    for layer, arrays in variables['params'].items():
        params[layer] = {}
        for array, leaf in arrays.items():
            name = _found(entries, _names(convention, layer, array), convention, path)
            params[layer][array] = _take(entries[name], convention, leaf.shape, f'{path}: entry {name}')
            left.discard(name)
    if left:
        raise ValueError(f'{path} has an entry {min(left)} that a VGG-16 of {convention} does not have')
    return Backbone(params, convention, f'{path.name} sha256:{sha256(path)}')


def _names(convention: str, layer: str, array: str) -> tuple[str, ...]:
    """Of conv1_1/kernel and so on in the file; Keras has those of the file of 2016 and those that it writes now."""
    block, conv = map(int, re.fullmatch(r'conv(\d)_(\d)', layer).groups())
    if convention == 'torchvision':
        place = 2 * (sum(DEPTHS[: block - 1]) + conv - 1) + block - 1  # each with a ReLU; a pooling ends each block
        return (f'features.{place}.{"weight" if array == "kernel" else array}',)
    stored = f'block{block}_conv{conv}'
    return f'{stored}/{stored}_{"W" if array == "kernel" else "b"}_1', f'{stored}/{array}'


def _found(entries, names, convention, path):
    for name in names:
        if name in entries:
            return name
    raise ValueError(f'{path} has no entry {" or ".join(names)} (is it a VGG-16 of {convention}?)')


def _take(stored, convention, shape, entry):
    value = np.asarray(stored, np.float32)
    if convention == 'torchvision' and value.ndim == 4:
        value = value.transpose(2, 3, 1, 0)
    if value.shape != shape:
        raise ValueError(f'{entry} should have shape {shape}, has {value.shape} (height, width, in, out)')
    return value
