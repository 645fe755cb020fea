"""Weights in fewer bytes: bfloat16, or 8-bit integers with one scale per output channel."""

import ml_dtypes
import numpy as np

KINDS = ('float32', 'bfloat16', 'int8')
"""Kinds of stored weights."""

SCALE = '.scale'  # ends the name of the scales of an int8 kernel
LARGEST = 127  # of an 8-bit integer; -128 is not used, so that scales are symmetric


def pack(params: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    """Return the arrays to store.

    In int8, kernels (arrays named `kernel` with two or more axes) become integers and float32 scales, one for each
    index of the last axis; biases and the parameters of norms stay float32. In bfloat16, every array is rounded.

    Args:
      params: float32 arrays by name, 'backbone/conv1/kernel'.
      kind: one of `KINDS`.
    Raises:
      ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f'--weights must be one of {", ".join(KINDS)}, got {kind!r}')
    if kind == 'bfloat16':
        return {name: value.astype(ml_dtypes.bfloat16) for name, value in params.items()}
    stored = {}
    for name, value in params.items():
        value = np.asarray(value, np.float32)
        if kind == 'int8' and is_kernel(name, value):
            stored[name], stored[name + SCALE] = _integers(value)
        else:
            stored[name] = value
    return stored


def unpack(stored: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the float32 arrays of what `pack` returned."""
    params = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        value = value.astype(np.float32, copy=False)
        params[name] = value * stored[name + SCALE] if name + SCALE in stored else value
    return params


def is_kernel(name: str, value: np.ndarray) -> bool:
    """Whether int8 stores this array as integers."""
    return name.rpartition('/')[2] == 'kernel' and value.ndim > 1


def _integers(kernel):
    largest = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
    scale = (np.where(largest > 0, largest, 1) / LARGEST).astype(np.float32)
    return np.rint(kernel / scale).clip(-LARGEST, LARGEST).astype(np.int8), scale
