"""Published files: downloads that resume and are checked; unpacking that is complete or absent."""

import fcntl
import hashlib
import http.client
import logging
import os
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

logger = logging.getLogger(__name__)

TIMEOUT_S = 30  # without a byte
ATTEMPTS = 4  # in a row that bring nothing new, for each address
PAUSE_S = 2.0  # before the second attempt; twice, three times that before the next ones
MOST_BYTES = 1 << 34  # of a file whose size nobody says
NUMBER = '[0-9]{1,18}'
_BLOCK = 1 << 16  # bytes


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
      name: the file's name on this machine.
      urls: addresses of the same bytes; the next is tried if one fails.
      md5: its hash in hexadecimal, for publishers that give no SHA-256.
      size: in bytes; None if only the server knows it.
      sha256: its hash in hexadecimal; compared instead of `md5`.
    """

    name: str
    urls: tuple[str, ...]
    md5: str = ''
    size: int | None = None
    sha256: str = ''

    def problem(self, file: BinaryIO) -> str:
        """Return how the hash of a file differs from the published one; '' if it does not."""
        kind, expected = ('SHA-256', self.sha256) if self.sha256 else ('MD5', self.md5)
        file.seek(0)
        found = hashlib.file_digest(file, hashlib.sha256 if self.sha256 else _md5).hexdigest()
        return '' if found == expected else f'its {kind} is {found}, expected {expected}'


class _BrokenOffError(Exception):
    """Worth another attempt at this address."""


class _RefusedError(Exception):
    """Not worth another attempt at this address."""


def fetch(remote: Remote, folder: Path) -> Path:
    """Return the file in `folder`; download it, or its missing part, if needed.

    What has come is kept in NAME.part until all of it is there and its hash is right. Processes that fetch the same
    file wait for each other.

    Raises:
      OSError: no address gave the file, it cannot be written, or it is not what was published; one sentence.
    """
    target = folder / remote.name
    folder.mkdir(parents=True, exist_ok=True)
    if not target.is_file():
        with _open_alone(_part(target)) as file:
            if not target.is_file():
                _complete(remote, file, target)
                return target
            _part(target).unlink()  # another process was faster
    with open(target, 'rb') as file:
        if problem := remote.problem(file):
            raise OSError(
                f'{target} is not the file that was published: {problem}; '
                'delete it to download it anew'
            )
    return target


def fetched(remote: Remote, folder: Path) -> int:
    """How many bytes of the file, complete or not, are in `folder`."""
    target = folder / remote.name
    return max(
        (path.stat().st_size for path in (target, _part(target)) if path.is_file()), default=0
    )


def unpack(archive: Path, target: Path, wanted: Callable[[str], bool]) -> None:
    """Unpacks files of a .tar.gz so that the folder `target` is there complete or not at all.

    Args:
      archive: its top folder is called as `target` is.
      target: left alone if it exists.
      wanted: whether to unpack the file of this name.

    Raises:
      OSError: the archive is damaged, has a file that would lie outside, or has no wanted file; one sentence.
    """
    if target.is_dir():
        return
    temporary = target.with_name(f'{target.name}.unpacking')
    shutil.rmtree(temporary, ignore_errors=True)  # what an interruption left
    try:
        with open(archive, 'rb') as file, tarfile.open(fileobj=file, mode='r|gz') as tar:
            with _bar(f'unpacking {archive.name}', archive.stat().st_size) as bar:
                for member in tar:
                    if member.isfile() and wanted(member.name):
                        _extract(tar, member, temporary)
                    bar.update(file.tell() - bar.n)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise OSError(f'{archive} cannot be unpacked: {error}') from error
    if not (temporary / target.name).is_dir():
        raise OSError(f'{archive} has no file of {target.name} that is needed')
    os.replace(temporary / target.name, target)
    shutil.rmtree(temporary)


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Write a regular file of an archive below a folder.

    `tarfile` has a filter for this, but not before Python 3.11.4, and Debian 12 has 3.11.2.

    Raises:
      tarfile.ExtractError: the file would lie outside the folder.
    """
    target = folder / member.name
    if not target.resolve().is_relative_to(folder.resolve()):
        raise tarfile.ExtractError(f'{member.name!r} would lie outside of it')
    target.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as content, open(target, 'wb') as file:
        shutil.copyfileobj(content, file)


def _part(target: Path) -> Path:
    return target.with_name(f'{target.name}.part')


@contextmanager
def _open_alone(path: Path) -> Iterator[BinaryIO]:
    """The file, opened to append and to read, once no other process has it so."""
    while True:
        file = open(path, 'a+b')
        with suppress(OSError):  # some file systems know no locks: then without
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning('waiting for another process that downloads %s', path)
                fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()  # renamed or deleted by the one who had it
    with file:
        yield file


def _complete(remote: Remote, file: BinaryIO, target: Path) -> None:
    """Downloads what `file` lacks and renames it to `target`; a wrong one is deleted."""
    part = _part(target)
    try:
        _download(remote, file)
    except OSError:
        if not _size(file):
            part.unlink()
        raise
    os.replace(part, target)


def _download(remote: Remote, file: BinaryIO) -> None:
    """Download what `file` lacks from the first address that gives the right bytes.

    Raises:
      OSError: none does; names each, and why.
    """
    reasons, wrong = [], ''
    for url in remote.urls:
        for resumes in (_size(file) > 0, False):
            try:
                _download_from(url, remote, file)
            except _RefusedError as error:
                reasons.append(f'{urllib.parse.urlsplit(url).netloc or url}: {error}')
                break
            wrong = remote.problem(file)
            if not wrong:
                return
            file.truncate(0)
            if not resumes:  # else the bytes that were there already may be the wrong ones
                reasons.append(f'{urllib.parse.urlsplit(url).netloc or url}: {wrong}')
                break
    if wrong and not _size(file):
        others = f' ({"; ".join(reasons)})' if len(remote.urls) > 1 else ''
        raise OSError(
            f'{remote.name} was downloaded, but it is not the file that was published: {wrong}{others}. It was '
            'deleted; re-run the same command to download it again'
        )
    of = '' if remote.size is None else f' of {remote.size:,}'
    raise OSError(
        f'{remote.name} could not be downloaded ({"; ".join(reasons)}); {_size(file):,}{of} bytes are there, '
        'and the same command goes on from them'
    )


def _download_from(url: str, remote: Remote, file: BinaryIO) -> None:
    attempts, most = 0, _size(file)
    while True:
        try:
            return _request(url, remote, file)
        except _BrokenOffError as error:
            attempts = 1 if _size(file) > most else attempts + 1
            most = max(most, _size(file))
            if attempts >= ATTEMPTS:
                raise _RefusedError(error) from error
            logger.warning(
                '%s at %s bytes: %s; trying again', remote.name, f'{_size(file):,}', error
            )
            time.sleep(PAUSE_S * attempts)


def _request(url: str, remote: Remote, file: BinaryIO) -> None:
    """Request the missing part and append it to `file`; start over if the server cannot send a part."""
    have = _size(file)
    if remote.size is not None and have > remote.size:
        file.truncate(have := 0)
    if have == remote.size:
        return
    headers = {'User-Agent': 'simpropnet_jax'} | ({'Range': f'bytes={have}-'} if have else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if (
            error.code == 416
            and error.headers.get('Content-Range') == f'bytes */{have}'
            and remote.size is None
        ):
            return
        kind = _BrokenOffError if error.code in (408, 429) or error.code >= 500 else _RefusedError
        raise kind(f'HTTP status {error.code} {error.reason}') from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(getattr(error, 'reason', error))) from error
    with response:
        start, total = _extent(response, have)
        if remote.size not in (
            None,
            total,
        ):  # a web page that excuses itself must not replace what is there
            raise _RefusedError(
                f'its file has {total or "an unknown number of"} bytes, expected {remote.size}'
            )
        if start == 0:
            file.truncate(0)
        with _bar(remote.name, total, start) as bar:
            most = MOST_BYTES if total is None else total
            _copy(response, file, bar, most)
    if total is not None and _size(file) < total:
        raise _BrokenOffError('the connection ended too early')


def _extent(response, have: int) -> tuple[int, int | None]:
    """Where the bytes that are sent start, and how many the whole file has; None where the server does not say."""
    if response.status != 206:  # the whole file, or no HTTP at all
        length = response.headers.get('Content-Length')
        if length and not re.fullmatch(NUMBER, length):
            raise _RefusedError(f'its Content-Length is {length[:40]!r}, which is no number')
        return 0, int(length) if length else None
    sent = response.headers.get('Content-Range', '')
    match = re.fullmatch(f'bytes ({NUMBER})-{NUMBER}/({NUMBER})', sent)
    if not match or int(match[1]) != have:
        raise _RefusedError(f'asked for the bytes from {have} on, it sent {sent or "others"!r}')
    return have, int(match[2])


def _copy(response, file: BinaryIO, bar: tqdm, most: int) -> None:
    """Append what is sent, until the file has `most` bytes.

    Raises:
      _RefusedError: more is sent; the file is as long as it was.
    """
    before = _size(file)
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(str(error)) from error
        if not block:
            return
        if _size(file) + len(block) > most:
            file.truncate(before)
            raise _RefusedError(f'it sends more than {most:,} bytes')
        try:
            file.write(block)
            file.flush()
        except OSError as error:
            raise OSError(
                f'{file.name} cannot be written ({error.strerror}) after {_size(file):,} bytes; '
                'mend that, and the same command goes on from them'
            ) from error
        bar.update(len(block))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _md5():
    return hashlib.md5(usedforsecurity=False)


def _bar(what: str, total: int | None, done: int = 0) -> tqdm:
    pause = 0.1 if sys.stderr.isatty() else 30  # seconds between two updates; a log file needs few
    return tqdm(desc=what, total=total, initial=done, unit='B', unit_scale=True, mininterval=pause)
