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

    Args: x [B,H,W,3], normalised by the convention 'keras' (normalise.py).
    Returns: dict of the post-ReLU features that end each block, conv1 [B,H,W,width] to conv5 (conv5_3 of the paper)
      [B,H/16,W/16,8*width], sizes rounded down.
    """

    width: int = 64  # filters of the first block
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w 3']) -> dict[str, Float[Array, 'b _ _ _']]:
        features = {}
        for block, (depth, filters) in enumerate(zip(DEPTHS, FILTERS, strict=True), 1):
            if block > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for i in range(1, depth + 1):
                x = nn.relu(Conv(filters * self.width, 3, dtype=self.dtype, name=f'conv{block}_{i}')(x))
            features[f'conv{block}'] = x
        return features


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
