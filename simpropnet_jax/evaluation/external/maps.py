"""What a Python callable may answer: a mask or a probability map of NumPy, JAX, PyTorch or any other array library."""

from collections.abc import Collection
from typing import Any

import numpy as np

MASK_VALUES = ({0, 1}, {0, 255})
SLACK = 1e-3  # of a probability, for rounding


def as_map(value: Any, sizes: Collection[tuple[int, int]]) -> np.ndarray:
    """Return a mask, bool [H, W], or probabilities, float32 [H, W] from 0 to 1.

    Args:
      value: an array [H, W] or [1, H, W] (and more axes of length one): bool; whole numbers, 0 and 1 or 0 and 255; or
        floating-point numbers from 0 to 1.
      sizes: (height, width) that it may have; any square is allowed, too.
    Raises:
      ValueError: it is something else; without the name of the callable.
    """
    if hasattr(value, 'detach'):  # PyTorch's, perhaps on a GPU, perhaps with a gradient
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.dtype == object:
        raise ValueError(
            f'an array of shape {list(array.shape)}: return one mask or probability map [H, W] of the query'
        )
    height, width = array.shape
    if height != width and array.shape not in sizes:
        wanted = ' or '.join(f'{h} x {w}' for h, w in dict.fromkeys(sizes))
        raise ValueError(
            f'{height} x {width} (height x width), but the query has {wanted}: return its size or any square'
        )
    if array.dtype == bool:
        return array
    return _of_numbers(array) if array.dtype.kind in 'iu' else _of_floats(array)


def _of_numbers(array):
    values = np.unique(array).tolist()
    if not any(set(values) <= allowed for allowed in MASK_VALUES):
        raise ValueError(
            f'whole numbers from {values[0]} to {values[-1]}: a mask has 0 and 1, or 0 and 255'
        )
    return array > 0


def _of_floats(array):
    array = array.astype(np.float32)  # JAX's bfloat16, too
    low, high = float(array.min()), float(array.max())
    if not (-SLACK <= low and high <= 1 + SLACK):  # nan, too
        raise ValueError(
            f'values from {low:g} to {high:g}: return probabilities from 0 to 1 (of logits, the sigmoid), or a mask'
        )
    return array
