"""How much visitors of the page may store, and the folder that it goes to."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path

PREFIX = 'simpropnet_jax_app_'
KEPT = 4200  # seconds after which Gradio has deleted an upload
SHARE = 4  # one visitor may use the total divided by this


class Storage:
    """Counts what visitors upload.

    Args:
      folder: of all uploads.
      most: bytes that all visitors together may store; one may store a quarter.
      clock: seconds.
    """

    def __init__(self, folder: Path, most: int, clock: Callable[[], float] = time.monotonic):
        self.folder = folder
        self.most = most
        self._clock = clock
        self._uploads: deque[tuple[float, str, int]] = deque()  # time, visitor, bytes
        self._sizes: Counter[str] = Counter()  # bytes of each visitor

    def room(self, visitor: str) -> int:
        """Return how many bytes a visitor may still send."""
        return min(self._counted_room(visitor), self.most - size_of(self.folder))

    def add(self, visitor: str, size: int) -> bool:
        """Count bytes that came; return whether there was room for them."""
        if size > self._counted_room(visitor):
            return False
        self._uploads.append((self._clock(), visitor, size))
        self._sizes[visitor] += size
        return True

    def _counted_room(self, visitor: str) -> int:
        while self._uploads and self._clock() - self._uploads[0][0] > KEPT:
            _, name, size = self._uploads.popleft()
            self._sizes[name] -= size
            if not self._sizes[name]:
                del self._sizes[name]
        return min(self.most // SHARE - self._sizes[visitor], self.most - self._sizes.total())


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # deleted meanwhile
                total += os.lstat(os.path.join(path, name)).st_size
    return total


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder that is deleted at the end; folders that killed programs left are deleted before."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    folder, lock = _locked_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with contextlib.suppress(FileNotFoundError):  # another start took it for abandoned
            lock = os.open(folder, os.O_RDONLY)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    """Delete this user's folders that ended programs left behind: no process holds their lock."""
    for folder in parent.glob(f'{PREFIX}*'):
        with contextlib.suppress(
            OSError
        ):  # in use, deleted meanwhile, or a file system without locks
            if folder.is_symlink() or folder.lstat().st_uid != os.getuid():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
