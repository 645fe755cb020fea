"""What --write coco says of a picture: annotations with run lengths or polygons, of classes or connected parts."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from simpropnet_jax.io import outlines, run_lengths


class Style(NamedTuple):
    """How annotations are written.

    Attributes:
      polygons: outlines instead of run lengths.
      components: an annotation for each connected part, instead of one for each class.
    """

    polygons: bool = False
    components: bool = False

    def check(self, kinds: Sequence[str]) -> 'Style':
        """Return itself; ValueError if the outputs of these kinds have no annotations."""
        if any(self) and 'coco' not in kinds:
            raise ValueError('--polygons and --components are for COCO annotations: --write coco')
        return self


def annotations(
    label: UInt8[np.ndarray, 'H W'], scores: Float[np.ndarray, ' N'], style: Style
) -> Iterator[dict[str, Any]]:
    """Yield the annotations of a picture, without ids of image and annotation.

    Args:
      label: 0 background, 1 the first class and so on.
      scores: of the classes; a connected part has the score of its class.
      style: how they are written.
    """
    for number, score in enumerate(scores.tolist(), 1):
        mask = label == number
        if not mask.any():
            continue
        for part in outlines.components(mask) if style.components else [mask]:
            row = {
                'category_id': number,
                'iscrowd': 0,
                'score': round(score, 4),
                **run_lengths.encode(part),
            }
            if style.polygons:
                row['segmentation'] = outlines.polygons(part)
            yield row
