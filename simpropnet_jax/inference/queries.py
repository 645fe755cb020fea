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

from simpropnet_jax.io import images

AHEAD = 2  # pictures that are read or being read while the network has another: more would only take memory
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
        base = Path(*_before_wildcards(path))
        matches = (Path(match) for match in glob.iglob(value, recursive=True))
        found = sorted(
            one for one in matches if images.is_picture(one) and out not in one.resolve().parents
        )
        if not found:
            raise ValueError(
                f'no picture fits {value}: no file that it means ends in {", ".join(images.ENDINGS)}'
            )
    else:
        raise FileNotFoundError(f'there is no file or folder {value} to segment')
    named = base.resolve().name if several and found != [path] else ''
    for one in found:
        place = one.relative_to(base)
        yield one, Path(named, place.name if '..' in place.parts else place)


def _before_wildcards(path):
    for part in path.parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def output_names(
    places: Sequence[Path], kept: Mapping[Path, str] | None = None, others: Iterable[str] = ()
) -> list[str]:
    """How the output of each query is called: its place without the ending; with it where two would have one name.

    Args:
      places: of the queries, each another one.
      kept: names of places that have output already, and keep it.
      others: names that nobody gets.
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
    """Each picture, or why it cannot be read; threads read those that come next."""
    with ThreadPoolExecutor(2) as pool:
        reading = collections.deque()
        try:
            for path in paths:
                reading.append(pool.submit(images.read_image, path))
                if len(reading) > AHEAD:
                    yield _result(reading.popleft())
            while reading:
                yield _result(reading.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _result(future):
    try:
        return future.result()
    except (ValueError, OSError) as error:
        return error
