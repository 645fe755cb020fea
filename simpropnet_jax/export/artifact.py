"""A folder of exported functions: reading it needs only JAX and NumPy."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
from jax import export

NAMES = ('encode', 'probe', 'decode')
MANIFEST = 'manifest.json'
ENDING = '.jaxexport'


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
      ValueError: the folder is not an export, or its export was interrupted.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ValueError(
            f'{folder} is not an export: it has no {MANIFEST}; write it with `simpropnet export`'
        )
    functions = {name: _function(folder / f'{name}{ENDING}') for name in NAMES}
    return Exported(json.loads((folder / MANIFEST).read_text()), **functions)


def _function(path: Path) -> Callable[..., dict[str, jax.Array]]:
    program = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    return lambda **arrays: program(arrays)
