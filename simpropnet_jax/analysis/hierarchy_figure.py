"""Draw pairs of every H-PASCAL-5i partition, after Figure 4 of Improved Similarity Propagation."""

from collections.abc import Mapping, Sequence

import numpy as np

from simpropnet_jax.episodes.hpascal import describe
from simpropnet_jax.episodes.loader import binary_label
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.io import overlay
from simpropnet_jax.io.labels import VOID

SPACE = 8  # pixels between pairs


def draw(
    source, partitions: Mapping[str, Sequence[Episode]], size: int = 257, backend: str = 'auto'
) -> np.ndarray:
    """Draw a row per partition with each class's first pair: support, query, objects in blue; u8 [H, W, 3].

    Args:
      source: source of the images.
      partitions: name -> episodes; an empty partition has none.
      size: side of an image in pixels.
      backend: backend of the loader.
    """
    firsts = {
        name: list({e.class_id: e for e in reversed(found)}.values())[::-1]
        for name, found in partitions.items()
    }
    sets = {(1, i): found for i, found in enumerate(firsts.values())}
    bank = load_bank(source, sets, size=size, label_sizes=('square',), backend=backend)

    def picture(number, class_id):
        row = bank.positions([number])[0]
        label = binary_label(bank.labels[row], class_id)
        return overlay.tinted(bank.images[row], label == 1, overlay.TRUTH, label == VOID)

    space = np.full((size, SPACE, 3), 255, np.uint8)

    def pair(e):
        return overlay.beside(
            [picture(e.supports[0], e.class_id), picture(e.query, e.class_id), space]
        )

    rows = {name: [pair(e) for e in found] for name, found in firsts.items()}
    across = max(1, *(len(pairs) for pairs in rows.values()))
    blank = np.full((size, 2 * (size + overlay.GAP) + SPACE, 3), 255, np.uint8)
    return overlay.below(
        [
            overlay.captioned(
                overlay.beside(pairs + [blank] * (across - len(pairs))), _caption(name, pairs)
            )
            for name, pairs in rows.items()
        ]
    )


def _caption(name, pairs):
    return f'{name}: {describe(name)}' + ('' if pairs else ' (empty)')
