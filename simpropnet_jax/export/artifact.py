"""A folder of exported functions: reading it needs only JAX and NumPy."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
from jax import export

from simpropnet_jax.runtime import records

NAMES = ('encode', 'probe', 'decode')
MANIFEST = 'manifest.json'
ENDING = '.jaxexport'
AGAIN = 'Write it again with `simpropnet export`'


class Manifest(TypedDict):
    """Content of MANIFEST; earlier versions wrote no `files`, the SHA-256 of each file."""

    method: str
    size: int
    entry_points: dict[str, dict[str, Any]]
    files: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class Exported:
    """A method's functions, each from arrays to a dict of arrays; each new batch size is compiled once.

    encode(images=): pictures u8 RGB [batch, S, S, 3] -> features, one array or, by name, several.
    probe(**features, labels=): supports, [batch, shots, ...] -> their probe.
    decode(**features, **probe): -> logits [batch, S, S, 2], probability [batch, S, S].
    """

    manifest: dict  # types and shapes, sizes, versions
    encode: Callable[..., dict[str, jax.Array]]
    probe: Callable[..., dict[str, jax.Array]]
    decode: Callable[..., dict[str, jax.Array]]

    @property
    def size(self) -> int:
        """Return S, the side in pixels of the square to which pictures must be stretched."""
        return self.manifest['size']


def load(folder: str | os.PathLike) -> Exported:
    """Load a folder that `simpropnet export` wrote.

    Raises:
      ValueError: the folder is not an export, its export was interrupted, or a file is damaged.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f'{folder} is not an export: it has no {MANIFEST}; write it with `simpropnet export`'
        )
    manifest = records.read(folder / MANIFEST, Manifest, AGAIN)
    sums = manifest.get('files', {})
    functions = {}
    for name in NAMES:
        path = folder / f'{name}{ENDING}'
        functions[name] = _function(path, sums.get(path.name))
    return Exported(manifest, **functions)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _function(path: Path, expected: str | None) -> Callable[..., dict[str, jax.Array]]:
    if not path.is_file():
        raise ValueError(f'{path} is missing. {AGAIN}')
    # JAX may crash on a damaged file, so that its sum comes first.
    if expected is not None and sha256(path) != expected:
        raise ValueError(f'{path} is damaged: not as it was written. {AGAIN}')
    try:
        exported = export.deserialize(bytearray(path.read_bytes()))
    except Exception as error:  # a file of an earlier version, without a sum
        raise ValueError(f'{path} cannot be read as an export of JAX ({error}). {AGAIN}') from error
    program = jax.jit(exported.call)
    return lambda **arrays: program(arrays)
