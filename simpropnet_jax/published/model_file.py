"""Write and read a trained model as one .safetensors file: weights, config, model card, and where it comes from."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simpropnet_jax.published import quantise
from simpropnet_jax.published.header import AGAIN, FORMAT, About, read_about, with_checksum


class PublishedModel(NamedTuple):
    """A published model, read.

    Attributes:
      params: the method's parameters, nested, in float32.
      about: see `About`.
    """

    params: dict[str, Any]
    about: About


def write(path: Path, params: Mapping[str, Any], stored: dict, card: str, about: About) -> None:
    """Write a model.

    Args:
      path: the file.
      params: the method's parameters, nested.
      stored: the run's config, as JSON data.
      card: the model card, in Markdown.
      about: without `sha256`; `weights` says how the arrays are stored.
    Raises:
      ValueError: unknown kind of weights.
    """
    from safetensors.numpy import save_file

    arrays = quantise.pack(flat(params), about['weights'])
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    told = {**about, 'format': FORMAT, 'sha256': _checksum(arrays)}
    texts = {'config': json.dumps(stored), 'card': card, 'about': json.dumps(told)}
    temporary = path.with_name(path.name + '.tmp')
    save_file(arrays, temporary, with_checksum(texts))
    temporary.chmod(0o644)  # safetensors lets only the owner read it
    os.replace(temporary, path)


def read(path: Path) -> PublishedModel:
    """Read a model and compare its checksum.

    Raises:
      ValueError: the file is damaged, or `simpropnet publish` did not write it.
    """
    about = read_about(path)
    if about['weights'] == 'bfloat16':  # NumPy alone does not know the type
        from safetensors.flax import load_file
    else:
        from safetensors.numpy import load_file
    from safetensors import SafetensorError

    try:
        arrays = {name: np.asarray(value) for name, value in load_file(path).items()}
    except (SafetensorError, ValueError) as error:
        raise ValueError(f'{path} is damaged ({error}). {AGAIN}') from error
    if _checksum(arrays) != about.get('sha256'):
        raise ValueError(f'{path} is damaged: its sha256 is another. {AGAIN}')
    return PublishedModel(nested(quantise.unpack(arrays)), about)


def flat(params: Mapping[str, Any], prefix: str = '') -> dict[str, np.ndarray]:
    """Return nested parameters by their path, 'backbone/conv1/kernel', sorted."""
    found = {}
    for name in sorted(params):
        value = params[name]
        if isinstance(value, Mapping):
            found |= flat(value, f'{prefix}{name}/')
        else:
            found[prefix + name] = np.asarray(value)
    return found


def nested(params: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Undo `flat`."""
    found: dict[str, Any] = {}
    for path, value in params.items():
        *parents, name = path.split('/')
        functools.reduce(lambda tree, part: tree.setdefault(part, {}), parents, found)[name] = value
    return found


def _checksum(arrays):
    """SHA-256 of names, types, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        value = arrays[name]
        total.update(f'{name} {value.dtype} {value.shape}\n'.encode() + value.tobytes())
    return total.hexdigest()
