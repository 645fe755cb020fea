"""Images and labels of a set of episodes, read once for all episodes and evaluations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from simpropnet_jax.episodes.augment import scale_crop_flip, support_size
from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.episodes.loader import own_labels as load_own_labels
from simpropnet_jax.ops.grid import STRIDE_8, Grid
from simpropnet_jax.runtime.progress import Progress

LABEL_SIZES = ('square', 'own')


class Supports(NamedTuple):
    """Images as supports, if they differ from the images as queries.

    Attributes:
      images: uint8 [N,S,S,3].
      labels: uint8 [N,L,L].
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class ImageBank:
    """Images and labels on the host.

    Attributes:
      numbers: int32 [N], ascending image numbers of the data set's index.
      images: uint8 [N,S,S,3], RGB, stretched to the network's input size.
      labels: uint8 [N,L,L], class ids and 255 (void), stretched to a square.
      own_labels: N uint8 arrays at each label's original size, or None if only the square is scored.
      queries: the images at each size at which queries are segmented, uint8 [N,S',S',3] each; usually only `images`.
      supports: None if supports look like queries.
    """

    numbers: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    own_labels: Sequence[np.ndarray] | None
    queries: Sequence[np.ndarray]
    supports: Supports | None = None

    def positions(self, numbers) -> np.ndarray:
        """Return the bank's rows of these image numbers. Raises ValueError for an image that was not loaded."""
        rows = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        absent = np.asarray(numbers)[self.numbers[rows] != numbers]
        if absent.size:
            raise ValueError(
                f'image {absent[0]} of an episode is not in the image bank: load it with the same episodes'
            )
        return rows.astype(np.int32)


def load_bank(
    source,
    episodes: Mapping[tuple[int, int], Sequence],
    *,
    size: int,
    label_size: int | None = None,
    label_sizes: Sequence[str] = LABEL_SIZES,
    batch: int = 32,
    backend: str = 'auto',
    progress: Progress | None = None,
    scales: Sequence[float] = (1.0,),
    random_supports: bool = False,
    grid: Grid = STRIDE_8,
) -> ImageBank:
    """Load every image that an episode uses, once.

    Args:
      source: source of images and labels.
      episodes: {(shot, seed): episodes}.
      size: input side in pixels; images are stretched to it.
      label_size: side of the square labels, by default `size`.
      label_sizes: if they include 'own', labels are kept at their original sizes too.
      batch: images decoded at a time.
      backend: backend of the loader, 'tfdata', 'threads' or 'auto'.
      scales: factors of `size` at which queries are segmented; the predictions are averaged, as in CANet's paper. 1 is
        `size`, the others are rounded to sides that fit the features, 8n+1 for stride 8.
      random_supports: scale every support by U(1, 1.5), crop and mirror it at random, the same in all its episodes.
        This is a quirk of CANet's released code, which drew again for each episode.
      grid: of the method's features.
    """
    used = {
        number for listed in episodes.values() for e in listed for number in (e.query, *e.supports)
    }
    numbers = np.array(sorted(used), np.int32)
    label_size = label_size or size

    def read(side, label_side):
        return _read(source, numbers, side, label_side, batch, backend, progress)

    images, labels = read(size, label_size)
    sides = [size if scale == 1 else grid.nearest(scale * size) for scale in scales]
    queries = [
        images if side == size else read(side, 1)[0] for side in sides
    ]  # their labels are not used
    supports = None
    if random_supports:
        supports = _cropped(
            numbers, *read(support_size(size), support_size(size)), size, label_size
        )
    own = load_own_labels(source, numbers) if 'own' in label_sizes else None
    return ImageBank(numbers, images, labels, own, queries, supports)


def _read(source, numbers, size, label_size, batch, backend, progress):
    """Read images u8 [N,S,S,3] and labels u8 [N,L,L]."""
    images = np.empty((len(numbers), size, size, 3), np.uint8)
    labels = np.empty((len(numbers), label_size, label_size), np.uint8)
    done = 0
    for loaded in image_batches(
        source, numbers, size=size, label_size=label_size, batch=batch, backend=backend
    ):
        valid = loaded['valid']
        rows = slice(done, done + int(valid.sum()))
        images[rows], labels[rows] = loaded['image'][valid], loaded['label'][valid]
        done = rows.stop
        if progress:
            progress('load images', done, len(numbers))
    return images, labels


def _cropped(numbers, images, labels, size, label_size) -> Supports:
    """Scale, crop to `size` and mirror each image and label by its number's draw; resize labels to `label_size`."""

    @jax.jit
    def crop(number, image, label):
        image, label = scale_crop_flip(jax.random.key(number), image, label, size)
        return jnp.round(image).astype(jnp.uint8), label

    cropped = [jax.device_get(crop(*one)) for one in zip(numbers, images, labels, strict=True)]
    images, labels = (np.stack(part) for part in zip(*cropped, strict=True))
    return Supports(images, nearest(labels, label_size))


def nearest(labels: np.ndarray, side: int) -> np.ndarray:
    """Resize square labels [..., S, S] to another side, nearest neighbour."""
    rows = ((np.arange(side) + 0.5) * labels.shape[-1] / side).astype(int)
    return labels[..., rows[:, None], rows]
