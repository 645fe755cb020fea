"""Read DINOv2's weights: the official files, Hugging Face's and timm's, by the names in them."""

import os
import re
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.vit import PATCH, ViT
from simpropnet_jax.backbones.weight_files import read_weights, sha256
from simpropnet_jax.backbones.weights import Backbone
from simpropnet_jax.runtime.download import Remote, fetch

CONVENTION = 'torchvision'  # DINOv2 sees images as ImageNet's classifiers of PyTorch do
FIRST = (
    'embeddings.cls_token',
    'cls_token',
)  # a name of each layout; what stands before is a prefix
UNUSED = r'mask_token|(head|classifier)\..*'  # the mask of the training, and classifiers
# Names of Hugging Face and timm, as regular expressions -> official names.
TO_OFFICIAL = {
    r'embeddings\.(cls_token|mask_token|register_tokens)': r'\1',
    r'embeddings\.position_embeddings': 'pos_embed',
    r'embeddings\.patch_embeddings\.projection\.(\w+)': r'patch_embed.proj.\1',
    r'encoder\.layer\.(\d+)\.attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.(\w+)': (
        r'blocks.\1.attn.\2.\3'
    ),
    r'encoder\.layer\.(\d+)\.attention\.(?:output\.dense|o_proj)\.(\w+)': r'blocks.\1.attn.proj.\2',
    r'encoder\.layer\.(\d+)\.layer_scale(\d)\.lambda1': r'blocks.\1.ls\2.gamma',
    r'encoder\.layer\.(\d+)\.(.*)': r'blocks.\1.\2',
    r'layernorm\.(\w+)': r'norm.\1',
    r'reg_token': 'register_tokens',
}
# Ours -> official names; blocks are counted from one here, and from zero there.
FROM_OURS = {
    r'patch/(\w+)': r'patch_embed.proj.\1',
    r'class_token': 'cls_token',
    r'positions': 'pos_embed',
    r'registers': 'register_tokens',
    r'norm/(\w+)': r'norm.\1',
    r'block(\d+)/scale(\d)': r'blocks.\1.ls\2.gamma',
    r'block(\d+)/qkv/(\w+)': r'blocks.\1.attn.qkv.\2',
    r'block(\d+)/project/(\w+)': r'blocks.\1.attn.proj.\2',
    r'block(\d+)/fc(\d)/(\w+)': r'blocks.\1.mlp.fc\2.\3',
    r'block(\d+)/norm(\d)/(\w+)': r'blocks.\1.norm\2.\3',
}


def load_network(path: str | os.PathLike, network: ViT, fully_connected: int = 0) -> Backbone:
    """Load weights for this ViT from a file, or from the official download.

    Args:
      path: an official .pth (needs torch); .safetensors of Hugging Face or timm (needs none); or the word 'download',
        for the file in PyTorch's folder of downloads, which is fetched if missing and checked by its SHA-256.
      network: a ViT.
      fully_connected: of a VGG-16.
    Raises:
      FileNotFoundError: no such file.
      ValueError: an entry is missing, superfluous or of the wrong shape, or the file is of another kind.
      ImportError: the library that reads this kind of file is not installed.
      OSError: the weights could not be downloaded.
    """
    del fully_connected
    path = download(network) if str(path) == registry.DOWNLOAD else Path(path)
    entries, _ = read_weights(path, 'ViT')
    params = params_of(official(entries), network, path)
    return Backbone(params, CONVENTION, f'{path.name} sha256:{sha256(path)}')


def download(network: ViT) -> Path:
    """Return the path of the official file in PyTorch's folder of downloads; fetch it if missing.

    Raises:
      OSError: it cannot be fetched, or is not what was published.
    """
    own = {'heads': network.heads, 'registers': network.registers}
    found = next(one for one in registry.ENCODERS.values() if one.fields == own and one.sha256)
    cache = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache'))
    folder = Path(os.environ.get('TORCH_HOME', cache / 'torch')) / 'hub' / 'checkpoints'
    remote = Remote(found.weights.split('/')[-1], (found.weights,), sha256=found.sha256)
    try:
        return fetch(remote, folder)
    except OSError as error:
        raise OSError(
            f'the weights of the ViT could not be downloaded ({error}); download {found.weights} elsewhere and give '
            'its path as --config.model.weights'
        ) from error


def official(entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the entries under the names of DINOv2's own files, without a prefix and the entries of other parts."""
    prefix = _prefix(entries)
    renamed = {
        _renamed(name.removeprefix(prefix), TO_OFFICIAL): value
        for name, value in entries.items()
        if name.startswith(prefix)
    }
    for name in [name for name in renamed if '.attn.q.' in name]:
        parts = [name.replace('.q.', f'.{part}.') for part in 'qkv']
        if all(part in renamed for part in parts):
            joint = np.concatenate([renamed.pop(part) for part in parts])
            renamed[name.replace('.q.', '.qkv.')] = joint
    return renamed


def params_of(entries: dict[str, np.ndarray], network: ViT, path: Path) -> dict:
    """Return the network's params from official entries; each must be known, present and of the right shape.

    Raises:
      ValueError: names the entry that is not.
    """
    side = 2 * PATCH
    variables = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, side, side, 3)))
    registers = 'register_tokens' in entries
    if registers != (network.registers > 0):
        raise ValueError(
            f'{path} has {"" if registers else "no "}registers. Choose an encoder that has '
            f'{"them too, such as dinov2_vits14_reg" if registers else "none, such as dinov2_vits14"}'
        )
    left = {name for name in entries if not re.fullmatch(UNUSED, name)}
    params = {}
    for ours, leaf in traverse_util.flatten_dict(variables['params'], sep='/').items():
        name = _official_name(ours)
        if name not in entries:
            raise ValueError(f'{path} has no entry {name} (is it a ViT of {network.depth} blocks?)')
        left.discard(name)
        value = _in_our_layout(name, np.asarray(entries[name], np.float32), leaf.shape)
        if value.shape != leaf.shape:
            raise ValueError(
                f'{path}: entry {name} has shape {entries[name].shape}, which does not fit {leaf.shape} of this ViT; '
                'choose the encoder that the file is of'
            )
        params[ours] = value
    if left:
        raise ValueError(
            f'{path} has an entry {min(left)} that this ViT does not have ({len(left)} such entries)'
        )
    return traverse_util.unflatten_dict(params, sep='/')


def _prefix(entries) -> str:
    for first in FIRST:
        for name in entries:
            if name == first or name.endswith(f'.{first}'):
                return name.removesuffix(first)
    return ''


def _renamed(name: str, rules: dict[str, str]) -> str:
    for pattern, replacement in rules.items():
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def _official_name(ours: str) -> str:
    name = _renamed(ours, FROM_OURS)
    name = re.sub(r'^blocks\.(\d+)', lambda found: f'blocks.{int(found[1]) - 1}', name)
    return re.sub(r'\.(kernel|scale)$', '.weight', name)


def _in_our_layout(name: str, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Transpose kernels, and drop axes of one; timm adds the first position to the class token and drops it."""
    if name == 'patch_embed.proj.weight' and value.ndim == 4:
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    if name in ('cls_token', 'pos_embed', 'register_tokens'):
        value = value.reshape(-1, value.shape[-1])
        if name == 'pos_embed' and len(value) == shape[0] - 1:
            value = np.concatenate([np.zeros_like(value[:1]), value])
        return value
    return value.T if value.ndim == 2 else value
