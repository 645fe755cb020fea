"""Several classes on one picture: which class gets a pixel?

Each class has its own probability of being present; the probabilities do not sum to one. A pixel goes to the class
with the highest probability if it exceeds the threshold, and to the background otherwise. Of equal classes, the one
named first wins.
"""

import math

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from simpropnet_jax.ops.resize import host_interpolation_matrix

MOST_CLASSES = 254  # 0 is the background, 255 void
BAND = (
    1 << 20
)  # pixels that are decided at a time, so that a large picture needs little memory for many classes


def winners(
    log_odds: Float32[np.ndarray, 'N h w'], size: tuple[int, int], threshold: float = 0.5
) -> tuple[UInt8[np.ndarray, 'H W'], Float64[np.ndarray, ' N']]:
    """Return the class of each pixel, and the mean probability of each class over its pixels.

    Args:
      log_odds: of each class, as `Segmenter.log_odds` has them.
      size: height and width of the answer; the log odds are resized to it, corners aligned.
      threshold: probability that a class must exceed, between 0 and 1.
    Returns:
      The label, 0 background, 1 the first class and so on; and for each class the mean of its probability over its
      pixels, 0 without pixels.
    """
    least = math.log(threshold) - math.log1p(-threshold)
    rows, columns = (
        host_interpolation_matrix(*n) for n in zip(log_odds.shape[1:], size, strict=True)
    )
    label = np.zeros(size, np.uint8)
    sums, counts = np.zeros(len(log_odds) + 1), np.zeros(len(log_odds) + 1)
    step = max(1, BAND // size[1])
    for start in range(0, size[0], step):
        won = label[start : start + step]
        best = np.full(won.shape, least, np.float32)
        for number, one in enumerate(log_odds, 1):
            values = rows[start : start + step] @ one @ columns.T
            better = values > best  # so that the first of equals stays
            np.copyto(best, values, where=better)
            np.copyto(won, np.uint8(number), where=better)
        probability = 0.5 + 0.5 * np.tanh(0.5 * best)
        sums += np.bincount(won.ravel(), probability.ravel(), len(sums))
        counts += np.bincount(won.ravel(), minlength=len(counts))
    return label, sums[1:] / np.maximum(counts[1:], 1)
