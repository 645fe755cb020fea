"""What one user of the page has: examples, pictures, and what the network says of them; nothing of the page itself."""

import contextlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from simpropnet_jax.inference import Segmenter, read_support
from simpropnet_jax.io import formats, images
from simpropnet_jax.io import overlay as visualize
from simpropnet_jax.io.labels import FOREGROUND, VOID

SIDE = 800  # pixels: the longer side of what is kept, shown and given to the network, whose own input is smaller
MOST_PIXELS = 120_000_000  # of a picture; reading it takes some fifteen bytes each, for a moment
MOST_SUPPORTS, MOST_QUERIES = 10, 50  # of one user: all are kept in memory


class UploadedPicture(NamedTuple):
    """A picture that was given, made smaller where it is larger than `SIDE`."""

    name: str  # of the file, without its folder
    image: UInt8[np.ndarray, 'h w 3']
    size: tuple[int, int]  # height and width in the file, as it is shown


class PageSupport(NamedTuple):
    """An example: a picture and its label, both at the smaller size."""

    name: str
    image: UInt8[np.ndarray, 'h w 3']
    label: UInt8[np.ndarray, 'h w']  # 1 foreground, 0 background, 255 void


class Session:
    """The examples and pictures of one user. All errors are a ValueError of one sentence, and then nothing has changed.

    Attributes:
      supports: the examples.
      queries: the pictures to be segmented.
      probabilities: of the foreground, float32 [h, w] of the first queries: of those that are segmented already.
      draft: the picture whose mask is being painted.
    """

    def __init__(self, segmenter: Segmenter):
        self.supports: list[PageSupport] = []
        self.queries: list[UploadedPicture] = []
        self.probabilities: list[Float32[np.ndarray, 'h w']] = []
        self.draft: UploadedPicture | None = None
        self._segmenter = segmenter
        self._probe = None

    def set_supports(self, supports: Sequence[PageSupport]) -> None:
        """Takes these examples in place of those before, and looks at them; `segment` is to follow.

        Raises:
          ValueError: there are too many, or the network cannot see the object in one.
        """
        if len(supports) > MOST_SUPPORTS:
            raise ValueError(
                f'{MOST_SUPPORTS} examples are the most that are taken: remove one first'
            )
        if supports:
            self._probe = self._segmenter.probe(
                [(support.image, support.label) for support in supports]
            )
        self.supports, self.probabilities = list(supports), []

    def add_queries(self, paths: Sequence[str | os.PathLike]) -> list[str]:
        """Adds the pictures in files; `segment` is to follow. Returns a sentence on each file that is left out."""
        mistakes, room = [], MOST_QUERIES - len(self.queries)
        for path in paths[:room]:
            try:
                self.queries.append(read_picture(path))
            except ValueError as error:
                mistakes.append(str(error))
        if len(paths) > room:
            mistakes.append(
                f'{MOST_QUERIES} pictures are the most at once: {len(paths) - room} are left out'
            )
        return mistakes

    def clear_queries(self) -> None:
        """Forgets the pictures, and keeps the examples."""
        self.queries, self.probabilities = [], []

    def segment(self) -> Iterator[int]:
        """Segments what is not yet, once there is an example; says after each picture how many are left."""
        while self.supports and len(self.probabilities) < len(self.queries):
            query = self.queries[len(self.probabilities)]
            self.probabilities.append(
                self._segmenter.segment_with(self._probe, query.image).probability
            )
            yield len(self.queries) - len(self.probabilities)

    def overlays(self, threshold: float) -> list[UInt8[np.ndarray, 'h w 3']]:
        """The segmented pictures with their masks: where the probability is above the threshold."""
        return [
            visualize.overlay(query.image, probability > threshold, visualize.PREDICTION)
            for query, probability in self._segmented()
        ]

    def masks(self, threshold: float) -> Iterator[Bool[np.ndarray, 'H W']]:
        """The mask of each segmented picture, at the size of its file."""
        for query, probability in self._segmented():
            big = Image.fromarray(probability).resize(query.size[::-1], Image.BILINEAR)
            yield np.asarray(big) > threshold

    def write_zip(self, path: Path, threshold: float) -> None:
        """Writes NAME_mask.png (0 and 255, at the size of the file) and NAME_overlay.jpg (smaller) of each picture.

        Raises:
          ValueError: nothing is segmented yet.
        """
        if not self.probabilities:
            raise ValueError('there is no mask to download yet: add an example and a picture first')
        names = _names(self.queries)
        with zipfile.ZipFile(path, 'w') as archive:
            for name, overlay, mask in zip(
                names, self.overlays(threshold), self.masks(threshold), strict=False
            ):
                for array, ending in (
                    (mask.astype(np.uint8) * 255, 'mask.png'),
                    (overlay, 'overlay.jpg'),
                ):
                    with archive.open(f'{name}_{ending}', 'w', force_zip64=True) as file:
                        Image.fromarray(array).save(
                            file, 'PNG' if ending == 'mask.png' else 'JPEG', quality=90
                        )

    def _segmented(self):
        return zip(self.queries, self.probabilities, strict=False)


def read_picture(path: str | os.PathLike) -> UploadedPicture:
    """A file that a user gave; its content says what it is, not its ending.

    Raises:
      ValueError: it is no picture, is damaged, or has more than `MOST_PIXELS`; names the file without its folder.
    """
    with _plain_names(path):
        _check(path)
        image = images.read_image(path)
    return UploadedPicture(Path(path).name, _smaller(image, Image.BILINEAR), image.shape[:2])


def read_support_files(image: str | os.PathLike, mask: str | os.PathLike) -> PageSupport:
    """An example whose mask is a file, of whatever kind `images` reads.

    Raises:
      ValueError: one cannot be read, they differ in size, or nothing is foreground.
    """
    with _plain_names(image, mask):
        _check(image)
        _check(mask)
        pixels, label = read_support(image, mask)
    return PageSupport(
        Path(image).name, _smaller(pixels, Image.BILINEAR), _smaller(label, Image.NEAREST)
    )


def painted_support(
    picture: UploadedPicture, layers: Sequence[UInt8[np.ndarray, '_ _ 4']]
) -> PageSupport:
    """An example whose mask was painted: where a layer of paint is at least half as opaque as it is at most.

    Args:
      layers: RGBA, of the picture's smaller size, or near to it.
    Raises:
      ValueError: nothing is painted.
    """
    mask = np.zeros(picture.image.shape[:2], bool)
    for layer in layers:
        alpha = np.asarray(Image.fromarray(layer[..., 3]).resize(mask.shape[::-1], Image.NEAREST))
        mask |= alpha > alpha.max() // 2  # strokes have soft edges
    if not mask.any():
        raise ValueError(
            'nothing is painted yet: paint over the object, or give a mask of it, then add the example'
        )
    return PageSupport(picture.name, picture.image, mask.astype(np.uint8))


def support_overlay(support: PageSupport) -> UInt8[np.ndarray, 'h w 3']:
    """An example as it is shown: its foreground tinted, void in gray."""
    return visualize.overlay(
        support.image,
        support.label == FOREGROUND,
        visualize.TRUTH,
        support.label == VOID,
    )


@contextlib.contextmanager
def _plain_names(*paths):
    """Errors name the files as the user knows them, and not where they were put."""
    try:
        yield
    except (ValueError, OSError) as error:
        sentence = str(error)
        for path in paths:
            sentence = sentence.replace(str(path), Path(path).name)
        raise ValueError(sentence) from error
    except MemoryError as error:
        raise ValueError(
            f'there is not enough memory for {Path(paths[0]).name}: make it smaller'
        ) from error


def _check(path):
    """Refuses what is no picture, and by the file's first bytes alone what is too large."""
    try:
        with Image.open(path, formats=formats.pictures()) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise ValueError(
            f'{path} has too many pixels: {MOST_PIXELS // 10**6} million are the most'
        ) from None
    except Exception:
        raise ValueError(
            f'{path} is not a picture of a known format ({", ".join(formats.pictures())}), or damaged'
        ) from None
    if width * height > MOST_PIXELS:
        raise ValueError(
            f'{path} has {width} x {height} pixels: {MOST_PIXELS // 10**6} million are the most'
        )


def _smaller(array, method):
    """The array with its longer side at most `SIDE` pixels."""
    height, width = array.shape[:2]
    shrink = SIDE / max(height, width)
    if shrink >= 1:
        return array
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(Image.fromarray(array).resize(size, method))


def _names(pictures):
    """What the output of each picture is called: its stem, numbered where another has it too."""
    names = []
    for picture in pictures:
        name, count = Path(picture.name).stem, 1
        while name.lower() in (other.lower() for other in names):
            count += 1
            name = f'{Path(picture.name).stem}_{count}'
        names.append(name)
    return names
