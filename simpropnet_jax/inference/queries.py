"""What --query means: pictures, folders, patterns; how the output of each is called; reading ahead of the network."""

import collections
import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from simpropnet_jax.io import images, opening

AHEAD = 2  # pictures that are read or being read while the network has another: more would only take memory
LARGE = 30_000_000  # pixels
LONGEST = (
    200  # bytes of a file's name that the names of its output take over; file systems allow 255
)


class Query(NamedTuple):
    """A picture to segment, and its place below the folder that was given, which the output takes over."""

    path: Path
    place: Path


def find(given: Sequence[str | os.PathLike], out: Path) -> list[Query]:
    """The pictures that are meant, each once, in the order given and then by name.

    A folder means its pictures, without its subfolders; a pattern (*, ?, [..], and ** for all subfolders) the pictures
    that fit; neither means hidden files, or what lies in `out`. A place begins below the folder, or below what precedes
    the first wildcard; where several values are given, with the name of that folder.

    Raises:
      FileNotFoundError, ValueError: there is no such file, or no picture in a folder or of a pattern.
    """
    found, places, several = {}, set(), len(given) > 1
    for value in given:
        for path, place in _expanded(os.path.expanduser(value), several, out.resolve()):
            own = Path(
                os.path.abspath(path)
            )  # links stay: two may lead to one picture, and each gets its mask
            if own not in found:
                parents = list(own.parts[1:-1])
                while (
                    place in places
                ):  # 1.jpg of another folder: as many of its own folders as tell them apart
                    place = Path(parents.pop() if parents else '_', place)
                places.add(place)
                found[own] = Query(path, place)
    return list(found.values())


def _expanded(value, several, out) -> Iterator[tuple[Path, Path]]:
    """The pictures of one value, with their places."""
    path = Path(value)
    if path.is_dir():
        base, found = path, images.pictures_in(path)
    elif path.exists():
        base, found = path.parent, [path]
    elif glob.has_magic(value):
        base = _before_wildcards(path)
        pattern = os.path.join(glob.escape(str(base)), path.relative_to(base))
        matches = {Path(match) for match in _matches(pattern)}
        found = sorted(one for one in matches if images.is_picture(one) and not _inside(one, out))
        if not found:
            hint = '; for a bracket itself write [[]' if '[' in value else ''
            raise ValueError(
                f'no picture fits {value}: no file that it means ends in {", ".join(images.ENDINGS)}{hint}'
            )
    elif path.is_symlink():
        raise FileNotFoundError(f'{value} is a link to {os.readlink(path)}, which does not exist')
    else:
        raise FileNotFoundError(f'there is no file or folder {value} to segment')
    named = base.resolve().name if several and found != [path] else ''
    for one in found:
        place = one.relative_to(base)
        yield one, Path(named, place.name if '..' in place.parts else place)


def _before_wildcards(path) -> Path:
    """The folder that precedes the first wildcard; a name with brackets is none if a folder has it."""
    base = Path(path.anchor)
    for part in path.relative_to(base).parts[:-1]:
        if glob.has_magic(part) and not (base / part).is_dir():
            break
        base /= part
    return base


def _inside(path, folder) -> bool:
    return folder in Path(os.path.realpath(path)).parents  # `resolve` fails for links in a circle


def _matches(pattern: str) -> Iterator[str]:
    """Yield what fits a pattern; glob would follow links that lead back to a folder above, again and again."""
    parts = Path(pattern).parts
    if '**' not in parts:
        yield from glob.iglob(pattern)
        return
    place = parts.index('**')
    rest = parts[place + 1 :] or ('*',)
    for top in glob.iglob(os.path.join(*parts[:place])) if place else ['.']:
        for folder in _folders(top):
            yield from _matches(os.path.join(glob.escape(folder), *rest))


def _folders(folder: str, above: frozenset = frozenset()) -> Iterator[str]:
    """Yield a folder and all below it but hidden ones, also through links that do not lead back to one above."""
    try:
        found = os.stat(folder)
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # no folder, or not to be read: glob leaves it out, too
        return
    here = (found.st_dev, found.st_ino)
    if here in above:
        return
    yield folder
    for entry in entries:
        if not entry.name.startswith('.') and os.path.isdir(entry.path):
            yield from _folders(entry.path, above | {here})


def output_names(
    places: Sequence[Path], kept: Mapping[Path, str] | None = None, others: Iterable[str] = ()
) -> list[str]:
    """How the output of each query is called: its place without the ending; with it where two would have one name.

    Args:
      places: of the queries, each another one.
      kept: names of places that have output already, and keep it.
      others: names that no query may get.
    """
    kept = kept or {}

    def short(place):
        return place.parent / os.fsdecode(os.fsencode(place.stem)[:LONGEST])

    def key(name):
        return name.as_posix().lower()  # a.jpg and A.jpg are one file on some systems

    counts = collections.Counter(key(short(place)) for place in places)
    taken = {name.lower() for name in (*kept.values(), *others)}
    free = {name for name, count in counts.items() if count == 1 and name not in taken}
    taken |= free
    names = []
    for place in places:
        name = kept.get(place)
        if name is None:
            name = short(place)
            if key(name) not in free:
                name = name.with_name(f'{name.name}{place.suffix}')
                while key(name) in taken:
                    name = name.with_name(f'{name.name}_')
                taken.add(key(name))
            name = name.as_posix()
        names.append(name)
    return names


def read_ahead(paths: Sequence[Path]) -> Iterator[UInt8[np.ndarray, 'H W 3'] | Exception]:
    """Each picture, or why it cannot be read; threads read those that come next, but a large one alone."""
    with ThreadPoolExecutor(2) as pool:
        reading = collections.deque()
        try:
            for path in paths:
                ahead = 0 if _is_large(path) else AHEAD
                while len(reading) > ahead:
                    yield _result(reading.popleft())
                reading.append(pool.submit(images.read_image, path))
                while len(reading) > ahead:
                    yield _result(reading.popleft())
            while reading:
                yield _result(reading.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _is_large(path) -> bool:
    """Whether a picture takes so much memory that no other one is read meanwhile."""
    try:
        with opening.checked(path) as image:  # a pipe would never end
            return image.width * image.height > LARGE
    except Exception:  # reading says why
        return False


def _result(future):
    try:
        return future.result()
    except (ValueError, OSError) as error:
        return error
