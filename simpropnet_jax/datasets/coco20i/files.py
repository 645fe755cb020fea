"""The official files of COCO 2014: images and annotations in archives or folders."""

import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

LAYOUT = 'give the folder with train2014/ and val2014/, or with the archives train2014.zip and val2014.zip'
ANNOTATIONS = (
    'give annotations_trainval2014.zip, or the folder with it or with instances_train2014.json and '
    'instances_val2014.json'
)


class ImageFolder:
    """Images of a folder, by file name."""

    def __init__(self, root: Path):
        self._root = root
        self._sizes = {path.name: path.stat().st_size for path in root.iterdir() if path.is_file()}

    def has(self, name: str) -> bool:
        """Return whether the image is there."""
        return name in self._sizes

    def size(self, name: str) -> int:
        """Return the file's size in bytes."""
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """Return the file's bytes."""
        return (self._root / name).read_bytes()

    def where(self, name: str = '') -> str:
        """Return the file's place, for messages."""
        return str(self._root / name)


class ImageArchive:
    """Images of a zip, by file name, whatever folder they have in it; safe to read from many threads.

    Raises:
      ValueError: it is no zip, or a damaged one.
    """

    def __init__(self, path: Path):
        self._path, self._zip = path, _open_zip(path)
        self._members = {
            PurePosixPath(info.filename).name: info
            for info in self._zip.infolist()
            if not info.is_dir() and '__MACOSX' not in info.filename
        }

    def has(self, name: str) -> bool:
        """Return whether the image is there."""
        return name in self._members

    def size(self, name: str) -> int:
        """Return the file's size in bytes."""
        return self._members[name].file_size

    def read(self, name: str) -> bytes:
        """Return the file's bytes.

        Raises:
          ValueError: they are damaged.
        """
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(f'{self.where(name)} is damaged ({error}): copy it again') from error

    def where(self, name: str = '') -> str:
        """Return the file's place, for messages."""
        return f'{self._path}:{name}' if name else str(self._path)


Images = ImageFolder | ImageArchive


def open_images(folder: Path, part: str) -> Images:
    """Open the images of 'train2014' or 'val2014'.

    Raises:
      FileNotFoundError, ValueError: they are not there, or the archive is damaged.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'--images {folder} is no folder: {LAYOUT}')
    if (folder / part).is_dir():
        return ImageFolder(folder / part)
    if (folder / f'{part}.zip').is_file():
        return ImageArchive(folder / f'{part}.zip')
    raise FileNotFoundError(f'there is neither {part}/ nor {part}.zip in {folder}: {LAYOUT}')


def read_annotations(given: Path, part: str) -> tuple[Any, str]:
    """Return what instances_train2014.json or instances_val2014.json holds, and its place for messages.

    Raises:
      FileNotFoundError, ValueError: the file is missing, or not JSON.
    """
    name = f'instances_{part}.json'
    data, place = _annotation_bytes(given, name)
    try:
        return json.loads(data), place
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{place} cannot be read as COCO's JSON ({error}): copy it again"
        ) from error


def _annotation_bytes(given: Path, name: str) -> tuple[bytes, str]:
    for folder in (given, given / 'annotations'):
        if (folder / name).is_file():
            return (folder / name).read_bytes(), str(folder / name)
    archive = given / 'annotations_trainval2014.zip' if given.is_dir() else given
    if archive.is_file():
        files = ImageArchive(archive)
        if files.has(name):
            return files.read(name), files.where(name)
    raise FileNotFoundError(f'there is no {name} in {given}: {ANNOTATIONS}')


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f'{path} cannot be read as a zip archive ({error})') from error
