"""Images and labels in a folder's images/ and labels/, compared with their checksums when they are read."""

import zlib
from collections.abc import Mapping, Sequence

from simpropnet_jax.runtime.paths import AnyPath

IMAGES, LABELS = 'images', 'labels'


class StoredFiles:
    """Encoded images and labels of one list, by their position.

    Args:
      folder: with images/ and labels/.
      files: of the images, by position.
      crc32: of image and label, by file; earlier versions wrote none.
      again: how to get the files back, as a sentence.
    """

    def __init__(self, folder: AnyPath, files: Sequence[str], crc32: Mapping[str, int], again: str):
        self._folder, self._files, self._crc32, self._again = folder, files, crc32, again

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> dict[str, bytes]:
        """Return the 'image', a JPEG or a PNG, and the PNG 'label'.

        Raises:
          ValueError: they are not as they were written.
        """
        file = self._files[place]
        example = _example(self._folder, file)
        if file in self._crc32 and self._crc32[file] != _crc32(example):
            raise ValueError(
                f'{self._folder / IMAGES / file} or {_label(file)} is damaged: not as it was written. {self._again}'
            )
        return example


def checksums(folder: AnyPath) -> dict[str, int]:
    """Return the CRC-32 of each image with its label, by the image's file."""
    files = sorted(path.name for path in (folder / IMAGES).iterdir())
    return {file: _crc32(_example(folder, file)) for file in files}


def _label(file: str) -> str:
    return f'{LABELS}/{file[:-4]}.png'


def _example(folder: AnyPath, file: str) -> dict[str, bytes]:
    return {
        'image': (folder / IMAGES / file).read_bytes(),
        'label': (folder / _label(file)).read_bytes(),
    }


def _crc32(example: Mapping[str, bytes]) -> int:
    return zlib.crc32(example['label'], zlib.crc32(example['image']))
