"""Episodes in a JSON file: the same for every method, in any language, with any later version of this package.

`simpropnet episodes` writes the file and --config.eval.episodes_file reads it. It holds

    format      2
    data        name of the data set, e.g. 'pascal5i/sbd'
    fold        0 to 3
    hash        of the episodes, as in results: see `protocols.protocol_hash`
    protocol    the fields of `protocols.Protocol`, with the size at which masks are compared and the void rule
    episodes    a list: name (of the episode's prediction, without .png), shot, seed, class_id, class, query, supports
    file_hash   sha256 in hexadecimal of all of the above as JSON in ASCII, keys sorted, without blanks

Query and supports are image ids. An episode of several classes (`protocols`: ways) is as many in turn, one for each
class, with the same query; each has a mask of its own.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from simpropnet_jax.datasets.index import Index
from simpropnet_jax.episodes.protocols import Protocol, named_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.runtime import records

FORMAT = 2
AGAIN = 'Write it again with `simpropnet episodes`'


class OneEpisode(TypedDict):
    """An episode in the file; its name and class are for people."""

    shot: int
    seed: int
    class_id: int
    query: str
    supports: list[str]


class EpisodesContent(TypedDict):
    """Content of the file."""

    format: int
    data: str
    fold: int
    hash: str
    protocol: dict[str, Any]
    episodes: list[OneEpisode]
    file_hash: str


Sets = dict[tuple[int, int], list[Episode]]
"""{(shot, seed): episodes}."""


def episode_name(protocol: str, fold: int, shot: int, seed: int, number: int) -> str:
    """Return the name of an episode's prediction, without .png.

    It consists of protocol, fold, the seed and the shot of the set, and the number in the set, from 0. So predictions
    of different protocols or folds cannot be confused.
    """
    return f'{protocol}_f{fold}_s{seed}_k{shot}_{number:04d}'


def write_episodes(
    path: str | os.PathLike,
    protocol: Protocol,
    fold: int,
    episodes: Mapping[tuple[int, int], Sequence],
    index: Index,
    more: Callable[[Episode], Mapping[str, Any]] | None = None,
) -> str:
    """Write the episodes of an evaluation to a file atomically.

    Args:
      episodes: {(shot, seed): episodes}.
      index: index of their data set.
      more: further entries of an episode.
    Returns:
      Their hash.
    """
    listed = [
        {
            'name': episode_name(protocol.name, fold, shot, seed, number),
            'shot': shot,
            'seed': seed,
            'class_id': episode.class_id,
            'class': index.class_names[episode.class_id],
            'query': index.ids[episode.query],
            'supports': [index.ids[support] for support in episode.supports],
            **(more(episode) if more else {}),
        }
        for (shot, seed), drawn in episodes.items()
        for number, episode in enumerate(drawn)
    ]
    head = {
        'format': FORMAT,
        'data': index.name,
        'fold': fold,
        'hash': _hash(listed),
        'protocol': asdict(protocol),
    }
    head['file_hash'] = _file_hash(head | {'episodes': listed})
    lines = [f' {json.dumps(name)}: {json.dumps(value)},' for name, value in head.items()]
    rows = ',\n'.join(
        f'  {json.dumps(one)}' for one in listed
    )  # one line per episode, easy to read and compare
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + '.unfinished')
    unfinished.write_text('\n'.join(['{', *lines, ' "episodes": [', rows, ' ]', '}', '']))
    unfinished.replace(path)
    return head['hash']


def read_episodes(
    path: str | os.PathLike, index: Index, fold: int, shots: Sequence[int] | None = None
) -> tuple[Protocol, Sets]:
    """Read the protocol and the episodes of a file, {(shot, seed): episodes}, with the image numbers of this index.

    Args:
      index: index of the data set to evaluate on.
      fold: the fold; all episodes must be of its novel classes.
      shots: the shots to read; by default all.
    Raises:
      FileNotFoundError, ValueError: the file is missing, damaged or was changed, is of another fold, lacks one of the
        shots, or has an image that the data set lacks.
    """
    read = _read(path)
    if read['fold'] != fold:
        raise ValueError(
            f'{path} has episodes of fold {read["fold"]}, not of fold {fold}: evaluate that fold on them'
        )
    numbers = {image_id: number for number, image_id in enumerate(index.ids)}
    sets: Sets = {}
    novel = index.novel_classes(fold)
    for one in read['episodes']:
        if one['class_id'] not in novel:
            raise ValueError(
                f'{path} has an episode of class {one["class_id"]}, which fold {fold} does not hold out '
                f'(its classes are {", ".join(map(str, novel))})'
            )
        if len(one['supports']) != one['shot']:
            raise ValueError(
                f'{path} has a {one["shot"]}-shot episode with {len(one["supports"])} supports: {one}'
            )
        absent = [
            image_id for image_id in (one['query'], *one['supports']) if image_id not in numbers
        ]
        if absent:
            raise ValueError(
                f'{path} names the image {absent[0]}, which {index.name} lacks: it is of {read["data"]}'
            )
        supports = tuple(numbers[image_id] for image_id in one['supports'])
        episode = Episode(
            numbers[one['query']], supports, one['class_id'], -1
        )  # it is not a position in a list of pairs
        sets.setdefault((one['shot'], one['seed']), []).append(episode)
    missing = sorted(set(shots or ()) - {shot for shot, _ in sets})
    if missing:
        there = ', '.join(str(shot) for shot in sorted({shot for shot, _ in sets}))
        raise ValueError(
            f'{path} has no {missing[0]}-shot episodes, only {there}-shot: change config.eval.shots'
        )
    return _protocol(path, read['protocol']), {
        k: e for k, e in sets.items() if shots is None or k[0] in shots
    }


def _read(path) -> dict[str, Any]:
    """Read and check the content of the file."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'there is no file of episodes {path}: write one with `simpropnet episodes`'
        )
    read = records.read(Path(path), EpisodesContent, AGAIN, FORMAT)
    found = {'hash': _hash(read['episodes']), 'file_hash': _file_hash(read)}
    for name, value in found.items():
        if value != read[name]:
            raise ValueError(
                f'{path} says that its {name} is {read[name]}, but it is {value}: it was changed after it was written; '
                'write it again'
            )
    return read


def _protocol(path, fields) -> Protocol:
    try:
        protocol = Protocol(**{**fields, 'seeds': tuple(fields['seeds'])})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{path} does not say its protocol in full ({error}): write it again'
        ) from error
    square = isinstance(protocol.resolution, int) and protocol.resolution > 0
    if not square and protocol.resolution != 'own' or protocol.void not in ('ignore', 'background'):
        raise ValueError(
            f"{path} must have a side in pixels or 'own' as resolution and 'ignore' or 'background' as void, got "
            f'{protocol.resolution!r} and {protocol.void!r}'
        )
    return protocol


def _hash(listed) -> str:
    return named_hash((one['class_id'], one['query'], one['supports']) for one in listed)


def _file_hash(content: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != 'file_hash'}
    return hashlib.sha256(
        json.dumps(rest, sort_keys=True, separators=(',', ':')).encode()
    ).hexdigest()
