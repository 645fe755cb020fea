"""Read the weights of a CANet trained by the released PyTorch code, and check them entry by entry.

https://github.com/icoz69/CaNet, one_shot_network.py, names its layers.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from simpropnet_jax.backbones import weight_files, weights
from simpropnet_jax.models.canet import CANet

# Layers of the head there -> here. The rest is the backbone, in torchvision's names.
_HEAD = {
    'layer5.0': 'project/conv',
    'layer55.0': 'fusion/comparison/conv',
    'residule1.1': 'fusion/residual1_conv1',
    'residule1.3': 'fusion/residual1_conv2',
    'residule2.1': 'fusion/residual2_conv1',
    'residule2.3': 'fusion/residual2_conv2',
    'residule3.1': 'fusion/residual3_conv1',
    'residule3.3': 'fusion/residual3_conv2',
    'layer6_0.0': 'decoder/image_pooling/conv',
    'layer6_1.0': 'decoder/conv1x1/conv',
    'layer6_2.0': 'decoder/rate6/conv',
    'layer6_3.0': 'decoder/rate12/conv',
    'layer6_4.0': 'decoder/rate18/conv',
    'layer7.0': 'decoder/fuse/conv',
    'layer9': 'decoder/logits',
}


@dataclass(frozen=True)
class TrainedCANet:
    """Weights and what is needed to use them."""

    params: dict  # nested, float32 numpy, as the 'params' of a CANet without attention
    convention: str  # key of normalise.CONVENTIONS
    source: str  # file name and sha256, for checkpoints and result files


def load_canet(path: str | os.PathLike, width: int = 64, features: int = 256) -> TrainedCANet:
    """Load all weights of CANet from a state dict of the released code, saved with or without DataParallel.

    Args:
      path: .pth (needs torch) or .safetensors (does not).
      width: filters of the stem; features: filters of the head. As released, 64 and 256.

    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing, superfluous or of the wrong shape, or the file is of another kind.
      ImportError: the library that reads this kind of file is not installed.
    """
    path = Path(path)
    entries, convention = weight_files.read_weights(path, 'CANet')
    if convention != 'torchvision':
        raise ValueError(f'{path} holds weights of Keras; give a .pth or .safetensors of CANet')
    head = {f'{layer}.{array}' for layer in _HEAD for array in ('weight', 'bias')}
    backbone = {
        name: entry
        for name, entry in entries.items()
        if re.match(r'(conv1|bn1|layer[123])\.', name)
    }
    params = _head(entries, width, features, path)
    superfluous = entries.keys() - head - backbone.keys()
    if superfluous:
        raise ValueError(
            f'{path} has an entry {min(superfluous)} that the released CANet does not have '
            f'({len(superfluous)} such entries)'
        )
    params['backbone'] = weights.fold(backbone, weights.TORCHVISION, width, path)
    return TrainedCANet(params, 'canet', f'{path.name} sha256:{weight_files.sha256(path)}')


def _head(entries: dict[str, np.ndarray], width: int, features: int, path: Path) -> dict:
    """Return CANet's params without the backbone's."""
    module = CANet(width=width, features=features)
    variables = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 17, 17, 3)), jnp.zeros((1, 17, 17))
    )
    shapes = traverse_util.flatten_dict(variables['params'], sep='/')
    params = {}
    for layer, place in _HEAD.items():
        kernel = shapes[f'{place}/kernel'].shape
        weight = _take(
            entries, f'{layer}.weight', tuple(kernel[axis] for axis in (3, 2, 0, 1)), path
        )
        params[f'{place}/kernel'] = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
        params[f'{place}/bias'] = _take(
            entries, f'{layer}.bias', shapes[f'{place}/bias'].shape, path
        )
    return traverse_util.unflatten_dict(params, sep='/')


def _take(entries, name, shape, path):
    if name not in entries:
        raise ValueError(f'{path} has no entry {name} (is it a CANet of the released code?)')
    if entries[name].shape != shape:
        raise ValueError(
            f'{path}: entry {name} should have shape {shape}, has {entries[name].shape}'
        )
    return np.asarray(entries[name], np.float32)
