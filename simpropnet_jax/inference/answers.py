"""What a `Segmenter` keeps of supports, and what it says of a query."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Float32


class _MaskAndProbability(NamedTuple):
    mask: Bool[np.ndarray, 'H W']  # where foreground is the more probable
    probability: Float32[np.ndarray, 'H W']  # of the foreground


class Segmentation(_MaskAndProbability):
    """What `Segmenter` says of a query, at the query's own size: `mask, probability = ...`.

    Attributes:
      presence: how likely the object is in the picture at all, 0 to 1; None unless `absent_below` is given. Below it,
        the mask is empty and the probability zero.
    """

    presence: float | None = None


class Examples(NamedTuple):
    """What the network keeps of the supports of one class, on the device.

    Attributes:
      probe: of the method.
      close: probe of the supports magnified like the tiles of a query; None without tiles.
      features, masks, valid: of the whole supports; None unless presence is scored.
      labels: hashes of the masks that were given, to notice two classes with the same one.
    """

    probe: Any
    close: Any = None
    features: Any = None
    masks: Float[Array, 'k S S'] | None = None
    valid: Float[Array, 'k S S'] | None = None
    labels: frozenset[str] = frozenset()


class Answer(NamedTuple):
    """What the network says of a query.

    Attributes:
      log_odds: of foreground over background for each class, with aligned corners; constant and low for an
        absent class.
      presence: of each class; None unless `absent_below` is given.
    """

    log_odds: Float32[np.ndarray, 'N h w']
    presence: list[float] | None = None
