"""VGG-16 without its classifier (Simonyan and Zisserman 2015, configuration D), and its weights as Keras has them."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.pretrained import Backbone, download, read_h5, sha256
from simpropnet_jax.models.resnet import Conv

# keras.applications.VGG16(include_top=False), as Keras itself downloads it; the hash is Keras' own (MD5).
KERAS_URL = (
    'https://storage.googleapis.com/tensorflow/keras-applications/vgg16/'
    'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5'
)
KERAS_HASH = '6d6bbae143d832006294945121d1f1fc'
DEPTHS = (2, 2, 3, 3, 3)  # convolutions of each block
FILTERS = (1, 2, 4, 8, 8)  # of each block, in widths
# In the file of 2016 and in those that Keras writes now.
NAMES = {'kernel': ('{}/{}_W_1', '{}/kernel'), 'bias': ('{}/{}_b_1', '{}/bias')}


class VGG16(nn.Module):
    """Thirteen 3x3 convolutions in five blocks, with max pooling between them.

    Args: x [B,H,W,3], normalised by the convention that came with the weights (normalise.py).
    Returns: dict of the post-ReLU features that end each block, conv1 [B,H,W,width] to conv5 (conv5_3 of the paper)
      [B,H/16,W/16,8*width], sizes rounded down. Other strides, other sizes.
    """

    width: int = 64  # filters of the first block
    pool: int = 2  # side of the pooling; 3 is padded, so that sizes are rounded up
    strides: tuple[int, ...] = (2, 2, 2, 2)  # of the pooling before blocks 2, 3, ...; a fifth: one behind the last
    dilations: tuple[int, ...] = (1, 1, 1, 1, 1)  # of the convolutions of each block
    last_relu: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w 3']) -> dict[str, Float[Array, 'b _ _ _']]:
        features = {}
        for block, (depth, filters, dilation) in enumerate(zip(DEPTHS, FILTERS, self.dilations, strict=True), 1):
            if block > 1:
                x = self._pooled(x, self.strides[block - 2])
            for i in range(1, depth + 1):
                name = f'conv{block}_{i}'
                x = Conv(filters * self.width, 3, dilation=dilation, dtype=self.dtype, name=name)(x)
                x = x if name == 'conv5_3' and not self.last_relu else nn.relu(x)
            features[f'conv{block}'] = x
        if len(self.strides) == 5:
            features['pool5'] = self._pooled(x, self.strides[4])
        return features

    def _pooled(self, x, stride):
        padding = 'VALID' if self.pool == 2 else ((1, 1), (1, 1))
        return nn.max_pool(x, (self.pool, self.pool), (stride, stride), padding)


def load_vgg16(path: str | Path, width: int = 64) -> Backbone:
    """VGG-16 weights from a file of Keras, or from Keras' own download.

    Args:
      path: .h5, with or without the classifier; or the word 'keras': the file that keras.applications downloads, from
        the same place and checked by its hash.
      width: filters of the first block, 64 in the published file.
    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing or of the wrong shape, or the file is of another kind.
      OSError: the weights could not be downloaded.
    """
    path = download(KERAS_URL, KERAS_HASH) if str(path) == 'keras' else Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"VGG-16 weights not found: {path} (give a Keras .h5, or 'keras' to download them)")
    if path.suffix not in ('.h5', '.hdf5'):
        raise ValueError(f'VGG-16 weights must end in .h5, .hdf5, got {path}')
    entries = read_h5(path)
    variables = jax.eval_shape(VGG16(width).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    params = {}
    for layer, arrays in variables['params'].items():
        stored = f'block{layer[4]}_{layer[:4]}{layer[6]}'  # conv5_3 is block5_conv3
        params[layer] = {name: _take(entries, name, stored, leaf.shape, path) for name, leaf in arrays.items()}
    return Backbone(params, 'keras', f'{path.name} sha256:{sha256(path)}')


def _take(entries, array, layer, shape, path):
    names = [name.format(layer, layer) for name in NAMES[array]]
    found = next((name for name in names if name in entries), None)
    if found is None:
        raise ValueError(f'{path} has no entry {" or ".join(names)} (is it a VGG-16 of keras?)')
    if entries[found].shape != shape:
        raise ValueError(f'{path}: entry {found} should have shape {shape}, has {entries[found].shape}')
    return np.asarray(entries[found], np.float32)
