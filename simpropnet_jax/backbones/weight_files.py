"""Read files of weights as arrays by name: HDF5 of Keras, state dicts of PyTorch, safetensors; by their content."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HDF5, ZIP, PICKLE = b'\x89HDF\r\n\x1a\n', b'PK\x03\x04', b'\x80'  # how files begin
WRAPPERS = (
    'state_dict',
    'model_state_dict',
    'model',
    'net',
)  # of a training's state around the weights
FIRST = ('conv1.weight', 'features.0.weight')  # of torchvision's ResNet and VGG-16
VARIANCE = ('running_var', 'moving_variance')
NAMED_BY_HASH = (
    r'.*-([0-9a-f]{8})\.pth'  # torchvision's files end in the beginning of their SHA-256
)


def read_weights(path: Path, of: str) -> tuple[dict[str, np.ndarray], str]:
    """Return the arrays of a file by their names there, and the convention of the weights.

    Prefixes such as `module.` and `backbone.` are removed, with the entries of other parts.

    Args:
      path: Keras' HDF5, or a state dict of PyTorch or safetensors with torchvision's names.
      of: the network, for messages.
    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is of another kind, damaged, or holds values that no weight has.
      ImportError: the library that reads this kind of file is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'{of} weights not found: {path} '
            "(give a Keras .h5, a torchvision .pth or .safetensors, or 'keras' to download them)"
        )
    _check_hash(path)
    with path.open('rb') as file:
        head = file.read(16)
    if head.startswith(HDF5):
        entries, convention = read_h5(path), 'keras'
    elif head.startswith((ZIP, PICKLE)):
        entries, convention = _without_prefix(read_pth(path)), 'torchvision'
    elif head[8:9] == b'{':
        entries, convention = _without_prefix(read_safetensors(path)), 'torchvision'
    else:
        raise ValueError(
            f'{path} is not a file of weights: it is neither HDF5 (Keras), nor a state dict of PyTorch, nor '
            'safetensors. Download it again'
        )
    check_values(entries, path)
    return entries, convention


def check_values(entries: Mapping[str, np.ndarray], path: Path) -> None:
    """Refuse values that no weight has.

    Raises:
      ValueError: names an entry with NaN, infinity or a negative variance.
    """
    for name, value in entries.items():
        if value.dtype.kind == 'f' and not np.isfinite(value).all():
            raise ValueError(
                f'{path}: entry {name} holds NaN or infinity, so that the file is damaged; download it again'
            )
        if name.endswith(VARIANCE) and (value < 0).any():
            raise ValueError(
                f'{path}: entry {name} holds negative variances, so that the file is damaged; download it again'
            )


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Return arrays by 'layer/array', from layouts with and without `model_weights` around the layers."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f'reading {path} needs h5py: pip install h5py') from error
    entries = {}
    try:
        with h5py.File(path, 'r') as file:
            for layer, group in file.get('model_weights', file).items():

                def collect(name, item, layer=layer):
                    if isinstance(item, h5py.Dataset):
                        entries[f'{layer}/{name.split("/")[-1].removesuffix(":0")}'] = item[()]

                group.visititems(collect)
    except Exception as error:  # the library raises many types for a damaged file
        raise ValueError(
            f'{path} is not a readable HDF5 file of layers ({_short(error)}); download it again'
        ) from error
    return entries


def read_pth(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict of PyTorch by name, also one within a training's state."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f'reading {path} needs PyTorch: pip install torch, or give the same weights as .safetensors'
        ) from error
    try:
        state = _unwrapped(torch.load(path, map_location='cpu', weights_only=True))
        tensors = {name: one for name, one in state.items() if isinstance(one, torch.Tensor)}
        narrow = (torch.bfloat16, torch.float16)
        return {
            name: (tensor.float() if tensor.dtype in narrow else tensor).numpy()
            for name, tensor in tensors.items()
        }
    except Exception as error:  # zip, pickle and attribute errors alike
        raise ValueError(
            f'{path} is not a state dict of PyTorch ({_why_not_loaded(error)})'
        ) from error


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a .safetensors file, by name."""
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(f'reading {path} needs safetensors: pip install safetensors') from error
    import ml_dtypes  # noqa: F401 (NumPy then knows bfloat16)

    try:
        entries = load_file(path)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f'{path} is not a readable safetensors file ({_short(error)}); download it again'
        ) from error
    return {
        name: one.astype(np.float32) if one.dtype.itemsize == 2 else one
        for name, one in entries.items()
    }


def sha256(path: str | os.PathLike) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _check_hash(path: Path) -> None:
    """Compare a file with the beginning of its SHA-256 in its name, as torchvision names its files."""
    named = re.fullmatch(NAMED_BY_HASH, path.name)
    if named and not sha256(path).startswith(named[1]):
        raise ValueError(
            f'{path} is damaged: its SHA-256 does not begin with {named[1]}, as its name says. Download it again, or '
            'rename it if it is another file'
        )


def _unwrapped(state: Any) -> Mapping[str, Any]:
    """Return the state dict itself, of a training's state that has it as an entry."""
    for _ in range(2):
        name = next((one for one in WRAPPERS if isinstance(state.get(one), Mapping)), None)
        if name is None:
            break
        state = state[name]
    return state


def _without_prefix(entries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the entries below the prefix of the first layer: module., backbone., module.backbone., ..."""
    prefixes = {
        name.removesuffix(first)
        for name in entries
        for first in FIRST
        if name == first or name.endswith(f'.{first}')
    }
    # In a bottleneck there is a conv1, too: layer1.0.conv1.weight.
    prefixes = {one for one in prefixes if not re.search(r'(^|\.)layer\d\.\d+\.$', one)}
    if '' in prefixes or len(prefixes) != 1:
        return entries
    (prefix,) = prefixes
    return {
        name.removeprefix(prefix): value
        for name, value in entries.items()
        if name.startswith(prefix)
    }


def _why_not_loaded(error: Exception) -> str:
    """Return why PyTorch refuses a file; its own advice, to run the file's programs, is not repeated."""
    if 'weights_only' in str(error) or 'Unpickling' in type(error).__name__:
        return 'it holds other objects than tensors, or is damaged: save only the state dict'
    return _short(error)


def _short(error: Exception) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
