"""Read files by name from a folder or, without unpacking it, from a tar; safe to use from many threads."""

import os
import tarfile
from pathlib import Path, PurePosixPath


class Folder:
    """Files below a folder."""

    def __init__(self, root: Path):
        self.root = root

    def has(self, name: str) -> bool:
        """Whether the file `name`, relative to the root, is there."""
        return (self.root / name).is_file()

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in `folder` that are not hidden, sorted; empty if there is no such folder."""
        path = self.root / folder
        found = path.iterdir() if path.is_dir() else ()
        return sorted(p.name for p in found if p.is_file() and not p.name.startswith('.'))

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return (self.root / name).read_bytes()

    def where(self, name: str) -> str:
        """The file's place, for messages."""
        return str(self.root / name)


class Tar:
    """Files below `root` inside an uncompressed tar, e.g. VOCtrainval_11-May-2012.tar."""

    def __init__(self, path: Path):
        """Raises: ValueError: not an uncompressed tar, or one that ends too early."""
        self.path = path
        self.root = PurePosixPath('.')
        try:
            with tarfile.open(path, 'r:') as tar:
                members = [member for member in tar if member.isfile()]
        except tarfile.TarError as error:
            raise ValueError(f'{path} cannot be read as an uncompressed tar: {error}') from error
        self._places = {PurePosixPath(m.name): (m.offset_data, m.size) for m in members}
        # pread does not move the shared file position, so threads need no lock.
        self._file = os.open(path, os.O_RDONLY)

    def below(self, marker: str) -> 'Tar | None':
        """Return this tar, rooted at the file `marker` at any depth; None if it was not found."""
        parts = PurePosixPath(marker).parts
        found = [p for p in self._places if p.parts[-len(parts) :] == parts]
        if not found:
            return None
        self.root = PurePosixPath(*min(found).parts[: -len(parts)])
        return self

    def has(self, name: str) -> bool:
        """Whether the file `name`, relative to the root, is there."""
        return self.root / name in self._places

    def names(self, folder: str) -> list[str]:
        """Names of the files directly in `folder`, sorted; empty if there is no such folder."""
        return sorted(p.name for p in self._places if p.parent == self.root / folder)

    def read(self, name: str) -> bytes:
        """The file's bytes.

        Raises:
          ValueError: the tar ends before the file does.
        """
        offset, size = self._places[self.root / name]
        data = os.pread(self._file, size, offset)
        if len(data) < size:
            raise ValueError(f'{self.where(name)} is cut short: the tar ends before it does')
        return data

    def where(self, name: str) -> str:
        """The file's place, for messages."""
        return f'{self.path}:{self.root / name}'
