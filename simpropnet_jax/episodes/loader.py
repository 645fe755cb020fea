"""From image numbers to uint8 batches on the host: decode and resize, nothing more.

Two backends give the same bytes: tf.data, and a thread pool where TensorFlow is absent. They share the
sampler and the resize (Pillow's); their JPEG decoders agree because TensorFlow is told to use the accurate
integer DCT. PNGs, which a user's data may contain, are read by the same functions.
"""

import collections
import contextlib
import importlib.util
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from simpropnet_jax.episodes.options import BACKENDS
from simpropnet_jax.io import formats
from simpropnet_jax.io.labels import VOID, label_value

BATCHES_AHEAD = 2  # decoded in advance: bounds the memory, and is enough to keep the workers busy


def binary_label(label: np.ndarray, class_id: int) -> np.ndarray:
    """Return uint8 of the same shape: 1 for the class, 255 for void (255), 0 elsewhere."""
    shown, void = label == label_value(class_id), label == VOID
    # In eight bits -1 is 255. This takes a sixth of the time of np.where.
    return shown.view(np.uint8) | np.negative(void.view(np.uint8))


def worker_count(workers: int | None) -> int:
    """Return the number of threads that read images: by default one per core and at most 16."""
    return workers or min(os.cpu_count() or 1, 16)


def train_batches(
    source,
    sampler,
    *,
    batch: int,
    first_step: int,
    support_size: int,
    query_size: int,
    backend: str = 'auto',
    process_index: int = 0,
    process_count: int = 1,
    workers: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield one host's share of the training batches from `first_step` on, without end.

    Slot s of step n is episode i = n * batch + s for any number of hosts; host p of P has the slots from
    p * batch / P on. So a run can resume with a different number of hosts.

    Args:
      source: a datasets Source.
      sampler: i -> Episode.
      batch: episodes of a step over all hosts.
      support_size, query_size: images and labels are stretched to squares of these sides, in pixels.
      backend: 'tfdata', 'threads', or 'auto': tf.data if TensorFlow is installed, else threads.
      workers: decoding threads, by default one per core and at most 16.

    Yields:
      With b = batch / process_count and K shots: support_image u8 [b,K,Hs,Ws,3], support_label u8
      [b,K,Hs,Ws], query_image u8 [b,H,W,3], query_label u8 [b,H,W] (labels 0, 1, 255), query_classes u8 [b,H,W]
      (class ids, 255 = void), class_id, episode, query_id, pair_id i32 [b], support_id i32 [b,K], valid bool [b].

    Raises:
      ValueError: unknown backend or a batch that is not a multiple of the hosts, at once; names an image that cannot
        be decoded, when its batch is due.
    """

    def numbers():
        return train_numbers(
            sampler,
            batch=batch,
            first_step=first_step,
            process_index=process_index,
            process_count=process_count,
        )

    def requests():
        for one in numbers():
            for query, supports in zip(
                one['query_id'].tolist(), one['support_id'].tolist(), strict=True
            ):
                yield query, query_size, query_size
                for support in supports:
                    yield support, support_size, support_size

    ahead = BATCHES_AHEAD * batch // process_count * (1 + len(sampler(0).supports))
    return _collate_episodes(_read(source, requests, backend, workers, ahead), numbers())


def train_numbers(
    sampler, *, batch: int, first_step: int, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the numbers of `train_batches`, with its arguments: everything in a batch except images and labels.

    Raises:
      ValueError: a batch that is not a multiple of the hosts, at once.
    """
    shares = _shares(batch, first_step, process_index, process_count)

    def one(share):
        episodes = [sampler(i) for i in share]

        def numbers(values):
            return np.array(list(values), np.int32)

        return {
            'class_id': numbers(episode.class_id for episode in episodes),
            'episode': numbers(share),
            'query_id': numbers(episode.query for episode in episodes),
            'pair_id': numbers(episode.pair for episode in episodes),
            'support_id': numbers(episode.supports for episode in episodes),
            'valid': np.ones(len(episodes), bool),
        }

    return map(one, shares)


def supervised_batches(
    source,
    sampler,
    *,
    batch: int,
    first_step: int,
    size: int,
    backend: str = 'auto',
    process_index: int = 0,
    process_count: int = 1,
    workers: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches for supervised training, without end: the queries of `train_batches`, with labels of all classes.

    Yields:
      With b = batch / process_count: image u8 [b,size,size,3], label u8 [b,size,size] (class ids, 255 = void),
      image_id i32 [b], valid bool [b].
    """

    def numbers():
        return supervised_numbers(
            sampler,
            batch=batch,
            first_step=first_step,
            process_index=process_index,
            process_count=process_count,
        )

    def requests():
        return ((number, size, size) for one in numbers() for number in one['image_id'].tolist())

    ahead = BATCHES_AHEAD * batch // process_count
    return _collate_labelled(_read(source, requests, backend, workers, ahead), numbers())


def supervised_numbers(
    sampler, *, batch: int, first_step: int, process_index: int = 0, process_count: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """The numbers of `supervised_batches`, with its arguments: image_id and valid.

    Raises:
      ValueError: a batch that the hosts do not divide, at once.
    """
    shares = _shares(batch, first_step, process_index, process_count)
    return (
        {
            'image_id': np.array([sampler(i).query for i in share], np.int32),
            'valid': np.ones(len(share), bool),
        }
        for share in shares
    )


def _shares(batch, first_step, process_index, process_count) -> Iterator[range]:
    """The episodes of one host, step for step."""
    if batch % process_count:
        raise ValueError(
            f'batch must be a multiple of the number of hosts, {process_count}, got {batch}'
        )
    share = batch // process_count
    begin = process_index * share
    return (
        range(step * batch + begin, step * batch + begin + share)
        for step in itertools.count(first_step)
    )


def image_batches(
    source,
    numbers: Sequence[int] | np.ndarray,
    *,
    size: int,
    batch: int,
    label_size: int | None = None,
    backend: str = 'auto',
    workers: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield each image once, in the order of `numbers`, for encoding or supervised evaluation.

    Args:
      size: side in pixels of the squares that images are stretched to; label_size: side of labels, by default the same.

    Yields:
      With L = label_size: image u8 [batch,size,size,3], label u8 [batch,L,L] (class ids, 255 = void), number i32
      [batch], valid bool [batch]. The last batch is padded with its last image, marked not valid.

    Raises:
      ValueError: unknown backend, at once; names an image that cannot be decoded, when its batch is due.
    """
    numbers = [int(number) for number in numbers]

    def requests():
        return ((number, size, label_size or size) for number in numbers)

    images = _read(source, requests, backend, workers, BATCHES_AHEAD * batch)
    return _collate_images(images, numbers, batch)


def own_images(source, numbers: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Read images (u8, RGB) at their original sizes, [height, width, 3] each."""
    return [np.asarray(_open_image(source.example(int(number))[0])) for number in numbers]


def own_labels(source, numbers: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Read labels (u8, class ids, 255 = void) at their original sizes, [height, width] each."""
    return [_open_label(source.example(int(number))[1]) for number in numbers]


def _collate_episodes(images, numbers):
    with contextlib.closing(images):
        for one in numbers:
            shots = one['support_id'].shape[1]
            rows = []
            for class_id in one['class_id'].tolist():
                query, query_classes = next(images)
                supports, support_labels = zip(*itertools.islice(images, shots), strict=True)
                rows.append(
                    {
                        'query_image': query,
                        'query_label': binary_label(query_classes, class_id),
                        'query_classes': query_classes,
                        'support_image': np.stack(supports),
                        'support_label': binary_label(np.stack(support_labels), class_id),
                    }
                )
            yield {field: np.stack([row[field] for row in rows]) for field in rows[0]} | one


def _collate_labelled(images, numbers):
    with contextlib.closing(images):
        for one in numbers:
            rows = list(itertools.islice(images, len(one['image_id'])))
            yield {
                'image': np.stack([image for image, _ in rows]),
                'label': np.stack([label for _, label in rows]),
                **one,
            }


def _collate_images(images, numbers, batch):
    with contextlib.closing(images):
        for first in range(0, len(numbers), batch):
            held = numbers[first : first + batch]
            rows = list(itertools.islice(images, len(held)))
            padding = batch - len(held)
            rows += rows[-1:] * padding
            yield {
                'image': np.stack([image for image, _ in rows]),
                'label': np.stack([label for _, label in rows]),
                'number': np.array(held + held[-1:] * padding, np.int32),
                'valid': np.arange(batch) < len(held),
            }


Requests = Callable[[], Iterator[tuple[int, int, int]]]
"""(image number, side of the image, side of the label), in order."""


def _read(
    source, requests: Requests, backend, workers, ahead
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield image u8 [size,size,3] and label u8 [label_size,label_size] of each request, in order."""
    if backend not in BACKENDS:
        raise ValueError(f'backend must be one of {", ".join(BACKENDS)}, got {backend!r}')
    if backend == 'auto':
        backend = 'tfdata' if importlib.util.find_spec('tensorflow') else 'threads'
    return (_read_tfdata if backend == 'tfdata' else _read_threads)(
        source, requests, worker_count(workers), ahead
    )


def _read_threads(source, requests, workers, ahead):
    pool = ThreadPoolExecutor(workers, thread_name_prefix='loader')
    waiting = collections.deque()
    try:
        for number, *sizes in requests():
            waiting.append(pool.submit(_decode, source, number, *sizes))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_tfdata(source, requests, workers, ahead):
    import tensorflow as tf

    tf.config.set_visible_devices([], 'GPU')  # else TensorFlow takes the memory that JAX needs

    def load(number, size, label_size):
        jpeg, png = tf.numpy_function(
            lambda n: source.example(int(n)), [number], (tf.string, tf.string)
        )
        image = tf.io.decode_jpeg(jpeg, channels=3, dct_method='INTEGER_ACCURATE')
        label = tf.io.decode_png(png, channels=1)[..., 0]
        return tf.numpy_function(
            _resize_arrays, [image, label, size, label_size], (tf.uint8, tf.uint8)
        )

    scalar = tf.TensorSpec((), tf.int32)
    dataset = tf.data.Dataset.from_generator(requests, output_signature=(scalar, scalar, scalar))
    dataset = dataset.map(load, num_parallel_calls=workers, deterministic=True).prefetch(ahead)
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    iterator = dataset.with_options(options).as_numpy_iterator()
    for number, *sizes in requests():
        try:
            loaded = next(iterator)
        except tf.errors.OpError as error:
            _decode(source, number, *sizes)  # TensorFlow does not know which image failed
            raise ValueError(
                f'image {source.ids[number]} cannot be decoded: {error.message}'
            ) from error
        yield loaded


def _decode(source, number, size, label_size):
    try:
        jpeg, png = source.example(number)
        return _resize(_open_image(jpeg), Image.fromarray(_open_label(png)), size, label_size)
    except Exception as error:
        raise ValueError(f'image {source.ids[number]} cannot be decoded: {error}') from error


def _open_image(jpeg: bytes) -> Image.Image:
    """Open a colour, gray or CMYK JPEG as RGB."""
    image = Image.open(io.BytesIO(jpeg), formats=formats.STORED)
    if image.mode != 'CMYK':
        return image.convert('RGB')
    light = 255 - np.asarray(image, np.uint16)
    rgb = (
        light[..., :3] * light[..., 3:] // 255
    )  # rounded down as TensorFlow does; Pillow rounds to nearest
    return Image.fromarray(rgb.astype(np.uint8))


def _open_label(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png), formats=('PNG',)))


def _resize(
    image: Image.Image, label: Image.Image, size, label_size
) -> tuple[np.ndarray, np.ndarray]:
    """Stretch to squares: the image bilinear (Pillow's, which averages when it shrinks), the label nearest."""

    def square(side):
        return (int(side), int(side))

    return (
        np.asarray(image.resize(square(size), Image.BILINEAR)),
        np.asarray(label.resize(square(label_size), Image.NEAREST)),
    )


def _resize_arrays(image, label, size, label_size):
    return _resize(Image.fromarray(image), Image.fromarray(label), size, label_size)
