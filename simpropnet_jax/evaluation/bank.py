"""Images and labels of a set of episodes: read once, however many episodes and evaluations use them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.episodes.loader import own_labels as load_own_labels

LABEL_SIZES = ('square', 'own')

Progress = Callable[[str, int, int], None]
"""Called as progress(what, done, total), e.g. ('encode images', 32, 364)."""


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Images and labels on the host.

    Attributes:
      numbers: int32 [N], ascending image numbers of the data set's index.
      images: uint8 [N,S,S,3], RGB, stretched to the network's input size.
      labels: uint8 [N,L,L], class ids 0..20 and 255 (void), stretched to a square.
      own_labels: N uint8 arrays at each label's own size, or None where only the square is scored.
    """

    numbers: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    own_labels: Sequence[np.ndarray] | None

    def positions(self, numbers) -> np.ndarray:
        """Rows of the bank of these image numbers. Raises ValueError for an image that was not loaded."""
        rows = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        absent = np.asarray(numbers)[self.numbers[rows] != numbers]
        if absent.size:
            raise ValueError(
                f'image {absent[0]} of an episode is not in the image bank: load it with the same episodes'
            )
        return rows.astype(np.int32)


def load_bank(
    source, episodes: Mapping[tuple[int, int], Sequence], *, size: int, label_size: int | None = None,
    label_sizes: Sequence[str] = LABEL_SIZES, batch: int = 32, backend: str = 'auto',
    progress: Progress | None = None,
) -> ImageBank:  # fmt: skip
    """Loads every image that an episode uses, once.

    Args:
      source: where images and labels are read from.
      episodes: {(shot, seed): episodes}.
      size: input side in pixels; images are stretched to it.
      label_size: side of the square labels, by default `size`.
      label_sizes: with 'own' among them the labels are kept at their own sizes too.
      batch: images decoded at a time.
      backend: of the loader, 'tfdata', 'threads' or 'auto'.
    """
    used = {number for listed in episodes.values() for e in listed for number in (e.query, *e.supports)}
    numbers = np.array(sorted(used), np.int32)
    images = np.empty((len(numbers), size, size, 3), np.uint8)
    label_size = label_size or size
    labels = np.empty((len(numbers), label_size, label_size), np.uint8)
    done = 0
    for loaded in image_batches(source, numbers, size=size, label_size=label_size, batch=batch, backend=backend):
        valid = loaded['valid']
        rows = slice(done, done + int(valid.sum()))
        images[rows], labels[rows] = loaded['image'][valid], loaded['label'][valid]
        done = rows.stop
        if progress:
            progress('load images', done, len(numbers))
    own = load_own_labels(source, numbers) if 'own' in label_sizes else None
    return ImageBank(numbers, images, labels, own)
