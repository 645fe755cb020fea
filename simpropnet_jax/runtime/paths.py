"""Folders of a run on this machine or in a cloud's storage, by one interface: pathlib's.

Local paths are pathlib's own, with all that a file system promises. URLs (gs://bucket/runs/fold2) go through
etils.epath, as in orbax, which writes the checkpoints: by TensorFlow if installed, else by gcsfs.
"""

import contextlib
import glob
import hashlib
import itertools
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etils import epath

logger = logging.getLogger(__name__)

_numbers = itertools.count()  # of the unfinished folders of this process

SCHEMES = ('gs', 's3')

AnyPath = Path | epath.Path


def parse(text: str | os.PathLike) -> AnyPath:
    """The path that a user gave: a file system's, ~ being the home folder, or an epath with the same interface.

    Raises:
      ValueError: a URL of another kind, or ~USER of an unknown user.
    """
    scheme, separator, _ = os.fspath(text).partition('://')
    if not separator:
        return expanded(text)
    if scheme not in SCHEMES:
        kinds = ' and '.join(f'{one}://' for one in SCHEMES)
        raise ValueError(
            f'{os.fspath(text)} cannot be read or written: of URLs only {kinds} can, or give a folder'
        )
    return epath.Path(text)


def expanded(text: str | os.PathLike) -> Path:
    """Return a path of the file system, with the home folder in place of ~ or ~USER.

    Raises:
      ValueError: there is no such user.
    """
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f'{path} begins with {path.parts[0]}, but there is no such user. Write ./{path} for a file of that name'
        ) from error


def cache() -> Path:
    """Return the folder of downloads and compiled programs: SIMPROPNET_CACHE, or ~/.cache/simpropnet_jax."""
    return expanded(os.environ.get('SIMPROPNET_CACHE') or '~/.cache/simpropnet_jax')


def is_url(path: AnyPath) -> bool:
    """Whether it is in a cloud's storage: no locks, no renaming in one step, no appending."""
    return '://' in os.fspath(path)


def on_this_machine(folder: AnyPath, part: str) -> AnyPath:
    """Return a local folder that holds a part of this one: itself, or for cloud storage a copy of that part.

    A copy is made once, in SIMPROPNET_CACHE (by default ~/.cache/simpropnet_jax), and then taken to be right. A part
    that is missing is missing in the copy, too.
    """
    if not is_url(folder):
        return folder
    root = cache() / hashlib.sha256(os.fspath(folder).encode()).hexdigest()[:16]
    copy = root / part
    if not copy.is_dir() and (folder / part).is_dir():
        logger.info('copying %s to %s: this once', folder / part, copy)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='unfinished_', dir=copy.parent) as unfinished:
            _copy(folder / part, Path(unfinished, copy.name))
            try:
                os.rename(Path(unfinished, copy.name), copy)
            except OSError:
                if (
                    not copy.is_dir()
                ):  # else another process of this machine was faster, with the same bytes
                    raise
    return root


@contextlib.contextmanager
def unfinished_folder(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder`, to be renamed to it when it is whole; else it is removed at the end.

    What a killed process of this machine left there is removed, too.

    Raises:
      OSError: it cannot be written.
    """
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    mark = f'unfinished_{folder.name}_{platform.node()}_'
    for left in parent.glob(f'{glob.escape(mark)}*'):
        process = left.name.removeprefix(mark).partition('_')[0]
        if process.isdecimal() and not Path('/proc', process).exists():
            shutil.rmtree(left, ignore_errors=True)
    unfinished = parent / f'{mark}{os.getpid()}_{next(_numbers)}'
    unfinished.mkdir()
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove(folder: AnyPath) -> None:
    """Removes a folder and all in it."""
    folder.rmtree() if is_url(folder) else shutil.rmtree(folder)


def _copy(folder, to):
    to.mkdir()
    for path in folder.iterdir():
        if path.is_dir():
            _copy(path, to / path.name)
        else:
            with path.open('rb') as source, (to / path.name).open('wb') as target:
                shutil.copyfileobj(source, target)
