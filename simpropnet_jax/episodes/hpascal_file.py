"""The file of an H-PASCAL-5i: every fold's episodes by partition, and how they were made. JSON, by image ids.

format, name, data, image_list, tiny_rule, parameters
oracle                              folder, miou on images of those listed on val, weak: whether that is below 0.5
features                            network, layer, source (with its weights), size in pixels
folds / "0" / classes / "bird"      pairs; difficulty and size: the rule that split them and its bounds; cells
            / partitions / "L0"     what, queries of each class, fewest_supports, hash, episodes:
                                    "CLASS_ID QUERY SUPPORT ..." each
sha256                              of all the rest
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes.hpascal import Parameters, Partition, Split, cell_counts, describe
from simpropnet_jax.episodes.protocols import Protocol, get_protocol, protocol_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.runtime.checkpoint import write_json

FORMAT, NAME = 2, 'H-PASCAL-5i'
PROTOCOL = 'hpascal'  # what the protocol is called, in names of masks and of results
PAPERS_NETWORK = 'resnet101'


def fold_record(
    pairs: Pairs,
    classes: Sequence[int],
    scores: np.ndarray,
    sizes: np.ndarray,
    splits: dict[int, Split],
    found: dict[str, Partition],
    ids: Sequence[str],
) -> dict[str, Any]:
    """What the file says of a fold.

    Args:
      classes: of the fold; those without a pair are mentioned, too.
      pairs, scores, sizes: as `hpascal.partitions` takes them; splits, found: what it returns.
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
    """Writes the file, all of it or none of it.

    Args:
      folds: fold -> what `fold_record` returned.
      facts: data, image_list, tiny_rule; oracle and features: what gave scores and distances, as above.
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
    """The record that `write` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is of another kind or format, or not as it was written.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {NAME} file {path}: `simpropnet hpascal build` makes one'
        )
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f'{path} is not a readable {NAME} file ({error}): build it again'
        ) from error
    if not isinstance(record, dict) or record.get('name') != NAME:
        raise ValueError(f'{path} is not an {NAME} file: `simpropnet hpascal build` makes one')
    if record.get('format') != FORMAT:
        raise ValueError(
            f'{path} has format {record.get("format")}, of another version, not {FORMAT}: build it again'
        )
    if record.get('sha256') != _sha256(record):
        raise ValueError(
            f'{path} is damaged or was changed by hand (its sha256 is another): build it again'
        )
    return record


def episodes(
    record: dict[str, Any], fold: int, ids: Sequence[str], shot: int = 1
) -> dict[str, list[Episode]]:
    """Partition -> its episodes, with the first `shot` supports; none where it is empty. Their `pair` is -1.

    Args:
      record: what `read` returned.
      ids: image ids of the data set, by number.
    Raises:
      ValueError: the fold, an image, or that many supports are not there, or all partitions are empty.
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
    """The rules by which all partitions are evaluated, one after the other, as one set of seed 0.

    Args:
      record, found: what `read` and `episodes` returned.
      side: of the square at which masks are compared; 0: that of the protocol 'simpropnet'.
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
    """What the partitions stand on, and what is not as in the paper, in two sentences: every table says it.

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
    """Between which values of the class its low and its high pairs begin; None where there are none."""
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
