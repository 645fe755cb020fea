"""Training images in device memory: they are read once, and batches are gathered from image numbers on the device.

The loader decodes and resizes the images, so a batch has exactly the bytes that the loader would have made.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.io.labels import VOID, label_value
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress

logger = logging.getLogger(__name__)

LARGEST_SHARE = (
    0.4  # share of an accelerator's memory that 'auto' gives to images; training needs the rest
)
READ_TOGETHER = 32  # images that are decoded and sent at a time


class Resident(NamedTuple):
    """N images and labels on every device, at one or two sizes.

    Attributes:
      rows: i32 [M], image number -> row; -1 for an image that is not resident.
      squares: side S in pixels -> images u8 [N, S*S*3] and labels u8 [N, S*S] (class ids, 255 = void). They are
        flat because a TPU pads the last axes of an array, here the three colours.
    """

    rows: jax.Array
    squares: dict[int, tuple[jax.Array, jax.Array]]


def bytes_of(images: int, sizes: Sequence[int]) -> int:
    """Return the bytes of images and labels on each device, with a copy at every size (side in pixels)."""
    return sum(images * 4 * size**2 for size in set(sizes))


def is_wanted(mode: str, needed: int) -> bool:
    """Whether to keep images of `needed` bytes in device memory.

    Args:
      mode: 'always'; 'never'; or 'auto': on an accelerator, if they take at most `LARGEST_SHARE` of its memory.
    Raises:
      ValueError: mode is 'always' and the images do not fit the device's memory.
    """
    device = jax.local_devices()[0]
    memory = (device.memory_stats() or {}).get('bytes_limit')  # a CPU does not report it
    if mode == 'always' and memory and needed > memory:
        raise ValueError(
            f"config.data.resident is 'always', but the training images take {needed:,} bytes and the device has "
            f"{memory:,}: set it to 'never', or make config.train.size smaller"
        )
    if mode == 'auto':
        return device.platform != 'cpu' and memory is not None and needed <= LARGEST_SHARE * memory
    return mode == 'always'


def load(
    source,
    numbers: np.ndarray,
    sizes: Sequence[int],
    mesh: Mesh,
    *,
    backend: str = 'auto',
    workers: int | None = None,
    progress: Progress | None = None,
) -> Resident:
    """Read images once at every size and keep them on all devices of the mesh; every host reads all images.

    Args:
      source: a datasets Source.
      numbers: image numbers.
      sizes: sides in pixels.
      backend, workers: arguments of the loader.
    Raises:
      ValueError: names an image that cannot be decoded.
    """
    rows = np.full(len(source.ids), -1, np.int32)
    rows[numbers] = np.arange(len(numbers))
    squares = {}
    for size in sorted(set(sizes)):
        batches = image_batches(
            source, numbers, size=size, batch=READ_TOGETHER, backend=backend, workers=workers
        )
        squares[size] = _fill(batches, len(numbers), size, mesh, progress)
    logger.info(
        '%s training images are on the device: %s bytes',
        f'{len(numbers):,}',
        f'{bytes_of(len(numbers), sizes):,}',
    )
    return Resident(sharding.place(rows, sharding.replicated(mesh)), squares)


def _fill(batches, count, size, mesh, progress):
    """Send batch by batch, so that neither the host nor the device ever holds the images twice."""
    everywhere = sharding.replicated(mesh)

    def blank():
        return (
            jnp.zeros((count, 3 * size**2), jnp.uint8),
            jnp.zeros((count, size**2), jnp.uint8),
        )

    def write(whole, part, at):
        return tuple(
            jax.lax.dynamic_update_slice(one, new, (at, 0))
            for one, new in zip(whole, part, strict=True)
        )

    write = jax.jit(write, donate_argnums=0, out_shardings=everywhere)
    whole, done = jax.jit(blank, out_shardings=everywhere)(), 0
    for batch in batches:
        new = [batch[name][batch['valid']] for name in ('image', 'label')]
        part = sharding.place([one.reshape(len(one), -1) for one in new], everywhere)
        whole = write(whole, part, done)
        done += len(new[0])
        if progress:
            progress(f'load training images at {size} x {size}', done, count)
    return whole


def gather_episodes(
    images: Resident, numbers: Mapping[str, jax.Array], *, query_size: int, support_size: int
) -> dict[str, jax.Array]:
    """Gather the batch of `loader.train_batches` from its numbers (`loader.train_numbers`)."""
    class_id = numbers['class_id']
    queries, query_classes = _square(images, query_size, numbers['query_id'])
    supports, support_labels = _square(images, support_size, numbers['support_id'])
    return {
        'query_image': queries,
        'query_label': _binary(query_classes, class_id[:, None, None]),
        'query_classes': query_classes,
        'support_image': supports,
        'support_label': _binary(support_labels, class_id[:, None, None, None]),
        **numbers,
    }


def gather_labelled(
    images: Resident, numbers: Mapping[str, jax.Array], *, size: int
) -> dict[str, jax.Array]:
    """Gather the batch of `loader.supervised_batches` from its numbers (`loader.supervised_numbers`)."""
    image, label = _square(images, size, numbers['image_id'])
    return {'image': image, 'label': label, **numbers}


def _square(images, size, numbers):
    image, label = (flat[images.rows[numbers]] for flat in images.squares[size])
    return image.reshape(*numbers.shape, size, size, 3), label.reshape(*numbers.shape, size, size)


def _binary(label, class_id):
    """Compute `loader.binary_label` on the device."""
    return jnp.where(
        label == VOID, jnp.uint8(VOID), (label == label_value(class_id)).astype(jnp.uint8)
    )
