"""Compare labels from elsewhere with VOC's own, where both have an image: a subset has no counts that would notice."""

import logging
from collections.abc import Callable, Iterable

import numpy as np

from simpropnet_jax.io.labels import VOID

logger = logging.getLogger(__name__)

ENOUGH = 20  # images that are compared
AGREE = 0.9  # share of pixels
Read = Callable[[str], np.ndarray | None]


def check(ids: Iterable[str], read_voc: Read, read_other: Read, place: str) -> None:
    """Refuse labels of other values than VOC's, and warn of labels without void.

    Args:
      ids: image ids.
      read_voc, read_other: the label u8 [H, W] of an id, or None.
      place: where the other labels are, for messages.
    Raises:
      ValueError: their class ids are shifted by one, or they have one class only.
    """
    pairs = []
    for image_id in ids:
        pair = read_voc(image_id), read_other(image_id)
        if pair[0] is not None and pair[1] is not None and pair[0].shape == pair[1].shape:
            pairs.append(pair)
        if len(pairs) == ENOUGH:
            break
    if not pairs:
        return
    voc, other = (
        np.concatenate([one[part].ravel() for one in pairs]).astype(np.int16) for part in (0, 1)
    )
    known = (voc > 0) & (voc != VOID) & (other != VOID)
    if not known.any() or (voc[known] == other[known]).mean() >= AGREE:
        _warn_of_missing_void(voc, other, place)
        return
    for shift in (1, -1):
        if (voc[known] + shift == other[known]).mean() >= AGREE:
            raise ValueError(
                f"the labels in {place} are shifted by {shift:+} from VOC's own: class ids go from 1 to 20, and 0 is "
                'the background'
            )
    values = np.unique(other[known])
    if len(values) == 1 < len(np.unique(voc[known])):
        raise ValueError(
            f"the labels in {place} have one class only, {values[0]}, where VOC's own have more: give labels of class "
            'ids, not binary masks'
        )
    share = (voc[known] == other[known]).mean()
    logger.warning(
        "the labels in %s agree with VOC's own on %.0f %% of the objects' pixels",
        place,
        100 * share,
    )


def _warn_of_missing_void(voc, other, place) -> None:
    if (voc == VOID).any() and not (other == VOID).any():
        logger.warning(
            "the labels in %s have no void (255), unlike VOC's own: borders count as background there",
            place,
        )
