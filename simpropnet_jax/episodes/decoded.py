"""Training images in files, decoded: written once at the sizes that training reads, and read by all processes.

The loader decodes and resizes the images, so a batch has exactly the bytes that the loader would have made. Threads
read each image from the page cache into its place in the batch (`os.preadv`), without holding Python's lock. A memory
map is no faster, and kills the process without a word where a file was cut short or a disk fails.

A file holds a hash of what it was made from, the CRC-32 of each row, and one row per image: the image, then its label.
"""

import collections
import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import weakref
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import PIL
from PIL import features

from simpropnet_jax.episodes import resident
from simpropnet_jax.episodes.loader import (
    BATCHES_AHEAD,
    binary_label,
    image_batches,
    worker_count,
)
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.progress import Progress

logger = logging.getLogger(__name__)

FORMAT = 1
LARGEST_SHARE = 0.25  # share of the free disk space that 'auto' takes; others need it, too
READ_TOGETHER = 32  # images that are decoded and written at a time
HEADER = 64  # bytes of a SHA-256 in hexadecimal


def folder() -> Path:
    """Return the folder of decoded images on this machine: in SIMPROPNET_CACHE."""
    return paths.cache() / 'decoded'


class DecodedFile:
    """Images and labels of one size in an open file; safe to read from many threads."""

    def __init__(self, path: Path, ids: Sequence[str], rows: np.ndarray, crc32: np.ndarray):
        """Open a file after its head is verified.

        Args:
          path: the file.
          ids: M image ids, by image number.
          rows: i32 [M], image number -> row.
          crc32: u32 [N], CRC-32 of each row.
        """
        self._path, self._ids, self._rows, self._crc32 = path, ids, rows, crc32
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._begin = HEADER + crc32.nbytes
        self._verified = np.zeros(len(crc32), bool)

    def read(self, number: int, image: np.ndarray, label: np.ndarray) -> None:
        """Read an image u8 [size,size,3] and its label u8 [size,size] (class ids, 255 = void) into these arrays.

        The first read of an image in a process compares its checksum.

        Raises:
          ValueError: it is not as it was written.
        """
        row = self._rows[number]
        length = image.nbytes + label.nbytes
        found = os.preadv(self._file, [image, label], self._begin + int(row) * length)
        if found == length and self._verified[row]:
            return
        if found != length or zlib.crc32(label, zlib.crc32(image)) != self._crc32[row]:
            raise ValueError(
                f'{self._path} is damaged: image {self._ids[number]} is not as it was written. Delete the file and '
                're-run the same command to resume'
            )
        self._verified[row] = True


class DecodedFiles:
    """The files of a list of images, one for each size; nothing is read before `open`.

    Attributes:
      folder: their folder.
      bytes: bytes of all files.
      missing_bytes: bytes that are still to be written.
    """

    def __init__(self, source, numbers: np.ndarray, sizes: Iterable[int], folder: Path):
        """Name the files.

        Args:
          source: a datasets Source.
          numbers: image numbers.
          sizes: sides in pixels.
          folder: for the files.
        """
        self.folder, self._source, self._numbers = folder, source, numbers
        self._paths = {size: folder / self._name(size) for size in sorted(set(sizes))}
        needed = {path: self._bytes(size) for size, path in self._paths.items()}
        self.bytes = sum(needed.values())
        self.missing_bytes = sum(
            size - _size(_unfinished(path)) for path, size in needed.items() if _size(path) != size
        )

    def open(
        self, backend: str = 'auto', workers: int | None = None, progress: Progress | None = None
    ) -> dict[int, DecodedFile]:
        """Return the open files by size; write those that are missing, damaged, or made from other images.

        One process writes while others of this machine wait for it.

        Args:
          backend, workers: arguments of the loader.
          progress: is told how many images have been written.
        Raises:
          ValueError: names an image that cannot be decoded.
          OSError: the files cannot be written.
        """
        encoded, result = self._checksums(workers), {}
        for size, path in self._paths.items():
            crc32 = self._head(path, size, encoded)
            if crc32 is None:
                with _naming(path), _alone(path):
                    crc32 = self._head(path, size, encoded)  # another process may have written it
                    if crc32 is None:
                        crc32 = self._write(path, size, encoded, backend, workers, progress)
            rows = np.full(len(self._source.ids), -1, np.int32)
            rows[self._numbers] = np.arange(len(self._numbers))
            result[size] = DecodedFile(path, self._source.ids, rows, crc32)
        logger.info('decoded training images: %s bytes in %s', f'{self.bytes:,}', self.folder)
        return result

    def _name(self, size: int) -> str:
        """Name a file by all that is known of its images before they are read."""
        made = hashlib.sha256(
            repr((FORMAT, size, PIL.__version__, features.version('libjpeg_turbo'))).encode()
        )
        index = self._source.index
        made.update(repr([self._source.ids[number] for number in self._numbers]).encode())
        for table in (index.pixels, index.height, index.width):
            made.update(np.ascontiguousarray(table[self._numbers]))
        name = self._source.name.replace('/', '_')
        return f'{name}_{size}px_{made.hexdigest()[:16]}.u8'

    def _bytes(self, size: int) -> int:
        count = len(self._numbers)
        return HEADER + 4 * count + resident.bytes_of(count, (size,))

    def _checksums(self, workers: int | None) -> np.ndarray:
        """Return the CRC-32 of each encoded image with its label, u32 [N]."""

        def checksum(number):
            image, label = self._source.example(number)
            return zlib.crc32(label, zlib.crc32(image))

        with ThreadPoolExecutor(worker_count(workers)) as pool:
            return np.array(list(pool.map(checksum, self._numbers.tolist())), np.uint32)

    def _head(self, path: Path, size: int, encoded: np.ndarray) -> np.ndarray | None:
        """Return the CRC-32 of each row, if the file is whole and was made from these images."""
        if not path.exists():
            return None
        with path.open('rb') as file:
            told = file.read(HEADER)
            crc32 = np.frombuffer(file.read(encoded.nbytes), np.uint32)
        if _size(path) == self._bytes(size) and told == _made_from(path, encoded, crc32):
            return crc32
        logger.warning('%s is damaged or of other images: it is written again', path)
        return None

    def _write(self, path, size, encoded, backend, workers, progress) -> np.ndarray:
        """Write a file under another name, and rename it when all of it is on the disk."""
        unfinished, crc32 = _unfinished(path), []
        path.unlink(missing_ok=True)
        batches = image_batches(
            self._source,
            self._numbers,
            size=size,
            batch=READ_TOGETHER,
            backend=backend,
            workers=workers,
        )
        try:
            with unfinished.open('wb') as file:
                file.seek(HEADER + encoded.nbytes)
                for batch in batches:
                    crc32 += _write_rows(file, batch)
                    if progress:
                        stage = f'decode training images at {size} x {size}'
                        progress(stage, len(crc32), len(encoded))
                table = np.array(crc32, np.uint32)
                file.seek(0)
                file.write(_made_from(path, encoded, table))
                file.write(table)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        finally:
            batches.close()
            unfinished.unlink(missing_ok=True)
        return table


def is_wanted(mode: str, files: DecodedFiles) -> bool:
    """Whether to read decoded images.

    Args:
      mode: 'always'; 'never'; or 'auto': on an accelerator, if what is missing takes at most `LARGEST_SHARE` of the
        free disk space. A CPU computes for longer than it decodes.
    Raises:
      ValueError: mode is 'always' and the disk has too little room.
    """
    if mode == 'never':
        return False
    place = next(one for one in (files.folder, *files.folder.parents) if one.exists())
    free = shutil.disk_usage(place).free
    if mode == 'always':
        if files.missing_bytes > free:
            raise ValueError(
                f"config.data.decoded is 'always', but the decoded training images take {files.missing_bytes:,} bytes "
                f"and {files.folder} has {free:,} free. Set it to 'never', or SIMPROPNET_CACHE to another disk"
            )
        return True
    writable = not files.missing_bytes or os.access(place, os.W_OK)
    on_accelerator = jax.local_devices()[0].platform != 'cpu'
    return on_accelerator and writable and files.missing_bytes <= LARGEST_SHARE * free


def episode_batches(
    files: Mapping[int, DecodedFile],
    numbers: Iterable[Mapping[str, np.ndarray]],
    *,
    query_size: int,
    support_size: int,
    workers: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of `loader.train_batches` from their numbers (`loader.train_numbers`)."""
    queries, supports = files[query_size], files[support_size]

    def start(pool, one):
        class_ids, query_ids, support_ids = (
            one[name].tolist() for name in ('class_id', 'query_id', 'support_id')
        )
        query_image, query_classes = _blank(one['query_id'].shape, query_size)
        support_image, support_label = _blank(one['support_id'].shape, support_size)
        query_label = np.empty_like(query_classes)

        def fill(slot):
            queries.read(query_ids[slot], query_image[slot], query_classes[slot])
            query_label[slot] = binary_label(query_classes[slot], class_ids[slot])
            for shot, number in enumerate(support_ids[slot]):
                label = support_label[slot, shot]
                supports.read(number, support_image[slot, shot], label)
                label[...] = binary_label(label, class_ids[slot])

        batch = {
            'query_image': query_image,
            'query_label': query_label,
            'query_classes': query_classes,
            'support_image': support_image,
            'support_label': support_label,
        }
        return batch | one, [pool.submit(fill, slot) for slot in range(len(query_ids))]

    return _ahead(start, numbers, workers)


def labelled_batches(
    files: Mapping[int, DecodedFile],
    numbers: Iterable[Mapping[str, np.ndarray]],
    *,
    size: int,
    workers: int | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the batches of `loader.supervised_batches` from their numbers (`loader.supervised_numbers`)."""

    def start(pool, one):
        image, label = _blank(one['image_id'].shape, size)
        tasks = [
            pool.submit(files[size].read, number, image[slot], label[slot])
            for slot, number in enumerate(one['image_id'].tolist())
        ]
        return {'image': image, 'label': label, **one}, tasks

    return _ahead(start, numbers, workers)


def _ahead(start, numbers, workers):
    """Yield batches in order, while threads fill the next ones."""
    pool = ThreadPoolExecutor(worker_count(workers), thread_name_prefix='decoded')
    waiting = collections.deque()
    try:
        for one in numbers:
            waiting.append(start(pool, one))
            if len(waiting) > BATCHES_AHEAD:
                yield _filled(*waiting.popleft())
        while waiting:
            yield _filled(*waiting.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def _filled(batch, tasks):
    for task in tasks:
        task.result()
    return batch


def _write_rows(file, batch) -> list[int]:
    """Write the images of a batch, and return the CRC-32 of each row."""
    result = []
    for image, label, valid in zip(batch['image'], batch['label'], batch['valid'], strict=True):
        if valid:
            file.write(image)
            file.write(label)
            result.append(zlib.crc32(label, zlib.crc32(image)))
    return result


def _blank(shape, size) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((*shape, size, size, 3), np.uint8), np.empty((*shape, size, size), np.uint8)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name a file that cannot be written, and what helps."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error.strerror or error}). Set config.data.decoded to 'never', or "
            'SIMPROPNET_CACHE to another disk'
        ) from error


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for the lock of a file and hold it; the system releases the lock of a killed process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix('.lock').open('ab') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info('waiting for another process that writes %s', path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unfinished(path: Path) -> Path:
    return path.with_suffix('.unfinished')


def _size(path: Path) -> int:
    """Return the bytes of a file; 0: there is none."""
    return path.stat().st_size if path.exists() else 0


def _made_from(path: Path, encoded: np.ndarray, crc32: np.ndarray) -> bytes:
    """Return the head of a file: a hash of its name, of the encoded images, and of the checksums of its rows."""
    made = hashlib.sha256(path.name.encode())
    made.update(encoded)
    made.update(crc32)
    return made.hexdigest().encode()
