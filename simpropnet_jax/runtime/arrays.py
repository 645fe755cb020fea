"""NumPy's files, read with their checksums compared: NumPy alone does not notice a flipped bit."""

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection

import numpy as np

from simpropnet_jax.runtime.paths import AnyPath

DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged file raises."""


def read_npz(path: AnyPath, again: str, needed: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file, by name.

    Args:
      path: the file.
      again: how to get the file back, as a sentence: 'Evaluate again'.
      needed: names that it must have.
    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is damaged; names it, and `again`.
    """
    try:
        # All of a member is read at once: only at its end its checksum is compared.
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as file:
            members = {name.removesuffix('.npy'): file.read(name) for name in file.namelist()}
        arrays = {name: _array(data) for name, data in members.items()}
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        raise ValueError(f'{path} is damaged ({_short(error)}). {again}') from error
    missing = sorted(set(needed) - set(arrays))
    if missing:
        raise ValueError(f'{path} is damaged: it has no {", ".join(missing)}. {again}')
    return arrays


def read_npy(path: AnyPath, again: str) -> np.ndarray:
    """Return the array of an .npy file. Arguments and errors are those of `read_npz`."""
    try:
        return _array(path.read_bytes())
    except FileNotFoundError:
        raise
    except DAMAGED as error:
        raise ValueError(f'{path} is damaged ({_short(error)}). {again}') from error


def _array(data: bytes) -> np.ndarray:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError('it holds several arrays')
    return array


def _short(error: Exception) -> str:
    return ' '.join(str(error).split())[:200] or type(error).__name__
