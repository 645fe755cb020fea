"""Folders that killed preparations of TFDS left behind: the next preparation removes them."""

import contextlib
import fcntl
import glob
import os
import shutil
from collections.abc import Iterator

from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

PREFIX = 'incomplete.'  # of a folder until all is in it, then six letters or digits


@contextlib.contextmanager
def removed(folder: AnyPath) -> Iterator[None]:
    """Remove what killed preparations of `folder` left beside it, unless another process is preparing there.

    Everyone who is preparing holds a shared lock of the folder above, which ends with the process.
    """
    if paths.is_url(folder):
        yield
        return
    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    lock = os.open(parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # others prepare there, or a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            name = os.path.basename(os.path.abspath(folder))
            for left in glob.glob(f'{glob.escape(parent)}/{PREFIX}??????_{glob.escape(name)}'):
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)
