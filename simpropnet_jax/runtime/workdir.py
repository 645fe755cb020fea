"""A work directory as such: one training at a time, and one plain sentence when it cannot be written."""

import contextlib
import errno
import fcntl
import logging
import os
import platform
import re
import tempfile
from collections.abc import Iterator

import jax

from simpropnet_jax.runtime import hosts, paths
from simpropnet_jax.runtime.paths import AnyPath

logger = logging.getLogger(__name__)

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # errors that only writing meets


class WriteError(OSError):
    """The work directory does not take what a run must write; says in one sentence what, and why."""

    exit_status = 1  # of a command; no mistake in what the user typed


@contextlib.contextmanager
def writing(what: str | AnyPath) -> Iterator[None]:
    """Turn every library's own error while writing into WriteError."""
    try:
        yield
    except Exception as error:
        raise WriteError(f'{what} could not be written ({reason(error)})') from error


def is_about_writing(error: OSError) -> bool:
    """Whether writing failed, and not reading."""
    return isinstance(error, WriteError) or error.errno in NO_ROOM


def reason(error: Exception) -> str:
    """Why, in a few words: an operating system's error without the library's words around it."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # TensorStore's
    if code:
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return (
        re.sub(r'{{.*?}} ', '', str(error).partition('\n')[0])[:500] or type(error).__name__
    )  # {{}}: TensorFlow's


@contextlib.contextmanager
def only_run(workdir: AnyPath) -> Iterator[None]:
    """Makes a work directory, and keeps other trainings off until the process ends, in whatever way.

    Raises:
      WriteError: another training has it, or it cannot be written.
      ValueError: the processes of a multi-host run do not share it.
    """
    if jax.process_index() != 0:
        hosts.check_shared(workdir)
        yield
        return
    if paths.is_url(workdir):
        with writing(workdir):
            (workdir / 'lock').write_text(f'process {os.getpid()} on {platform.node()}')
        logger.warning(
            "%s is in a cloud's storage, without locks: do not start a second training there",
            workdir,
        )
        hosts.check_shared(workdir)
        yield
        return
    with _open_lock(workdir) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().decode(errors='replace') or 'of unknown number'
            raise WriteError(
                f'another training ({owner}) is using {workdir}; stop it, or wait for its end, or use another --workdir'
            ) from error
        except OSError:
            logger.warning(
                '%s is on a file system without locks: do not start a second training there',
                workdir,
            )
        with writing(lock.name):
            lock.truncate(0)
            lock.write(f'process {os.getpid()} on {platform.node()}'.encode())
        hosts.check_shared(workdir)
        yield


def _open_lock(workdir: AnyPath):
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(
            dir=workdir
        ).close()  # the lock of an earlier run can be open to writing by itself
        return (workdir / 'lock').open('a+b', buffering=0)
    except OSError as error:
        raise WriteError(
            f'{workdir} cannot be written ({reason(error)}); make it writable, or use another --workdir'
        ) from error
