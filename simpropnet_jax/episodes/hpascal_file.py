"""The JSON file of an H-PASCAL-5i: every fold's episodes by partition, with image ids, and how they were made.

format, name, data, image_list, tiny_rule, parameters
oracle                              folder, miou on images of the val list, weak: whether miou is below 0.5
features                            network, layer, source (with its weights), size in pixels
folds / "0" / classes / "bird"      pairs; difficulty and size: the rule that split them and its bounds; cells
            / partitions / "L0"     what, queries of each class, fewest_supports, hash, episodes, each
                                    "CLASS_ID QUERY SUPPORT ..."
sha256                              of everything else
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes.hpascal import Parameters, Partition, Split, cell_counts, describe
from simpropnet_jax.episodes.protocols import Protocol, get_protocol, protocol_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.records import write_json

FORMAT, NAME = 2, 'H-PASCAL-5i'
PROTOCOL = 'hpascal'  # name of the protocol in the names of masks and results
PAPERS_NETWORK = 'resnet101'
AGAIN = 'Build it again with `simpropnet hpascal build`'


class PartitionContent(TypedDict):
    """A partition of a fold."""

    what: str
    queries: dict[str, int]
    fewest_supports: int
    hash: str
    episodes: list[str]


class FoldContent(TypedDict):
    """A fold."""

    classes: dict[str, dict[str, Any]]
    partitions: dict[str, PartitionContent]


class HPascalContent(TypedDict):
    """Content of the file."""

    format: int
    name: str
    data: str
    image_list: str
    tiny_rule: str
    parameters: dict[str, Any]
    oracle: dict[str, Any]
    features: dict[str, Any]
    folds: dict[str, FoldContent]


def fold_record(
    pairs: Pairs,
    classes: Sequence[int],
    scores: np.ndarray,
    sizes: np.ndarray,
    splits: dict[int, Split],
    found: dict[str, Partition],
    ids: Sequence[str],
) -> dict[str, Any]:
    """Return the file's record of a fold.

    Args:
      classes: classes of the fold, including classes without a pair.
      pairs, scores, sizes: arguments of `hpascal.partitions`; splits, found: its results.
      ids: image ids, by number.
    """
    named = {}
    for class_id in classes:
        where = pairs.class_id == class_id
        facts = {'pairs': int(where.sum())}
        if class_id in splits:
            split = splits[class_id]
            facts |= {
                'difficulty': {
                    'rule': split.difficulty_rule,
                    **_bounds(scores[where], split.hard, 'hard', 'easy'),
                },
                'size': {
                    'rule': split.size_rule,
                    **_bounds(sizes[where], split.small, 'small', 'large'),
                },
                'cells': cell_counts(split.hard, split.small),
            }
        named[pairs.class_names[class_id]] = facts
    return {
        'classes': named,
        'partitions': {
            name: {
                'what': describe(name),
                'queries': {pairs.class_names[c]: n for c, n in one.queries.items()},
                'fewest_supports': min((len(e.supports) for e in one.episodes), default=0),
                'hash': protocol_hash(one.episodes, ids),
                'episodes': [_line(e, ids) for e in one.episodes],
            }
            for name, one in found.items()
        },
    }


def write(
    path: Path, parameters: Parameters, folds: dict[int, dict], **facts: Any
) -> dict[str, Any]:
    """Write the file atomically.

    Args:
      folds: fold -> the result of `fold_record`.
      facts: data, image_list, tiny_rule; oracle and features: the sources of scores and distances, as above.
    Returns:
      The record as written.
    """
    record = {
        'format': FORMAT,
        'name': NAME,
        **facts,
        'parameters': asdict(parameters),
        'folds': {str(fold): one for fold, one in folds.items()},
    }
    record['sha256'] = _sha256(record)
    write_json(path, record)
    return record


def read(path: Path) -> dict[str, Any]:
    """Read the record that `write` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is of another kind or format, or was changed.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {NAME} file {path}: `simpropnet hpascal build` makes one'
        )
    record = records.parse(path, AGAIN)
    if not isinstance(record, dict) or record.get('name') != NAME:
        raise ValueError(f'{path} is not an {NAME} file: `simpropnet hpascal build` makes one')
    if record.get('format') != FORMAT:
        raise ValueError(
            f'{path} has format {record.get("format")}, of another version, not {FORMAT}: build it again'
        )
    records.check(record, HPascalContent, path, AGAIN)
    if record.get('sha256') != _sha256(record):
        raise ValueError(
            f'{path} is damaged or was changed by hand (its sha256 is another): build it again'
        )
    return record


def episodes(
    record: dict[str, Any], fold: int, ids: Sequence[str], shot: int = 1
) -> dict[str, list[Episode]]:
    """Return partition -> its episodes, with the first `shot` supports. Their `pair` is -1. Empty partitions have none.

    Args:
      record: the result of `read`.
      ids: image ids of the data set, by number.
    Raises:
      ValueError: the fold or an image is missing, a query has fewer supports, or all partitions are empty.
    """
    if str(fold) not in record['folds']:
        raise ValueError(f'the {NAME} file has the folds {", ".join(record["folds"])}, not {fold}')
    numbers = {image_id: number for number, image_id in enumerate(ids)}
    found = {}
    for name, partition in record['folds'][str(fold)]['partitions'].items():
        if partition['episodes'] and partition['fewest_supports'] < shot:
            raise ValueError(
                f'{name} of fold {fold} has queries with {partition["fewest_supports"]} supports, not {shot}: '
                f'use fewer shots, or build an {NAME} with more supports'
            )
        found[name] = [_episode(line, numbers, shot) for line in partition['episodes']]
    if not any(found.values()):
        raise ValueError(
            f'all partitions of fold {fold} in the {NAME} file are empty: build it from more data'
        )
    return found


def protocol(
    record: dict[str, Any], found: Mapping[str, Sequence[Episode]], side: int, void: str
) -> Protocol:
    """Return the protocol that evaluates all partitions in order, as one set of seed 0.

    Args:
      record, found: the results of `read` and `episodes`.
      side: side of the square on which masks are compared; 0 takes the side of the protocol 'simpropnet'.
      void: 'ignore' or 'background'.
    """
    return Protocol(
        PROTOCOL,
        image_list=record['image_list'],
        tiny_rule=record['tiny_rule'],
        order='partitions',
        episodes=sum(map(len, found.values())),
        seeds=(0,),
        resolution=side or get_protocol('simpropnet').resolution,
        void=void,
    )


def basis(facts: dict[str, Any]) -> str:
    """Describe the basis of the partitions and the differences from the paper, in two sentences for every table.

    Args:
      facts: `oracle` and `features`, as in the file and in results.
    """
    oracle, features = facts['oracle'], facts['features']
    part = (
        ''
        if oracle['images'] == oracle['listed']
        else f' on {oracle["images"]} of {oracle["listed"]} images'
    )
    quality = f'val mIoU {100 * oracle["miou"]:.1f} %{part}' + (
        ': a weak oracle' if oracle['weak'] else ''
    )
    paper = '' if features['network'] == PAPERS_NETWORK else ' (the paper: ResNet-101)'
    return f'Oracle {oracle["folder"]}, {quality}. Similarity by {features["layer"]}{paper}.\n'


def _bounds(values, levels, low, high):
    """Return the values at which a class's low and high pairs begin; None if it has no such pairs."""
    lows, highs = values[levels == 1], values[levels == 0]
    return {
        f'{low}_to': float(lows.max()) if len(lows) else None,
        f'{high}_from': float(highs.min()) if len(highs) else None,
    }


def _line(episode: Episode, ids):
    return ' '.join(
        [str(episode.class_id), ids[episode.query], *(ids[s] for s in episode.supports)]
    )


def _episode(line, numbers, shot):
    class_id, *images = line.split(' ')
    absent = [image for image in images if image not in numbers]
    if absent:
        raise ValueError(
            f'the {NAME} file has an image {absent[0]}, which the data set lacks: build it for this data'
        )
    query, *supports = (numbers[image] for image in images)
    return Episode(query, tuple(supports[:shot]), int(class_id), -1)


def _sha256(record):
    rest = {name: value for name, value in record.items() if name != 'sha256'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
