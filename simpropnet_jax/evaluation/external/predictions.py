"""Scores masks that any program wrote, as PNG files in a folder, on the episodes that our own methods are evaluated on.

    simpropnet eval --config simpropnet:fold=2 --workdir runs/theirs --predictions masks

Files are named in one of two ways:

  - by episode, `simpropnet_f1_s0_k1_0007.png`: protocol, fold 1, seed 0, 1-shot, episode 7. A file of episodes says for
    each name which query, supports and class it is: `simpropnet episodes --help`. What a
    mask may be is in `images`; where it is void, the object is not predicted;
  - by image, `2007_000033.png`, for methods that need no support: class ids, gray or with a palette, of which
    the episode's class is taken. Files of images that are not asked for are left aside.

A file has the size of its query's label; where the protocol compares masks on a square, that of the square will do too.
A label, and a mask at a label's size, is stretched to the square by nearest neighbour. The name of the folder is the
method's name in tables.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.episodes.episode_files import Sets, episode_name
from simpropnet_jax.episodes.loader import binary_label, own_labels
from simpropnet_jax.episodes.protocols import Protocol, protocol_hash
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.results import bootstrap, result_file, tables
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.naming import protocol_word
from simpropnet_jax.io import images
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import UnclearMaskError
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.data import data_word, evaluation_episodes, open_data

SHOWN = 3  # files of each mistake that a message names


class Predictions:
    """The masks in a folder, for some episodes.

    Attributes:
      by_image: whether the files are named by image, and not by episode.
      seen: the class ids in the files that were read, where they are named by image.

    Raises:
      ValueError, OSError: there is no such folder, or files are missing or not expected; names the first of them.
    """

    def __init__(self, folder: Path, index: Index, episodes: Sets, protocol: str, fold: int):
        """Args: index: of the data set; episodes: {(shot, seed): episodes} of the protocol of this name."""
        if not folder.is_dir():
            raise FileNotFoundError(f'there is no folder {folder} with predictions')
        ids = index.ids
        self.folder, self._index, self._set = folder, index, (protocol, fold)
        self.seen: set[int] = set()
        by_episode = {
            f'{episode_name(protocol, fold, shot, seed, number)}.png'
            for (shot, seed), drawn in episodes.items()
            for number in range(len(drawn))
        }
        by_image = {f'{ids[episode.query]}.png' for drawn in episodes.values() for episode in drawn}
        there = {path.name for path in folder.iterdir() if not path.name.startswith('.')}
        self.by_image = bool(there & by_image) and not there & by_episode
        expected, known = (
            (by_image, {f'{name}.png' for name in ids})
            if self.by_image
            else (by_episode, by_episode)
        )
        _refuse(folder, {'missing': expected - there, 'not expected': there - known})

    def path(self, shot: int, seed: int, number: int, query: int) -> Path:
        """The file of an episode, by its set, its number in it, and the number of its query's image."""
        name = (
            self._index.ids[query]
            if self.by_image
            else episode_name(*self._set, shot, seed, number)
        )
        return self.folder / f'{name}.png'

    def read(self, path: Path, sizes: Sequence[tuple[int, int]]) -> UInt8[np.ndarray, 'H W']:
        """Class ids, or 1 where the object is, of a file.

        Args:
          sizes: (height, width) that it may have.
        Raises:
          ValueError: the file cannot be read, or has another size; without its name.
        """
        if self.by_image:
            values = _read_classes(path, len(self._index.class_names))
            self.seen |= set(np.unique(values).tolist())
        else:
            values = _read_object(path)
        if values.shape not in sizes:
            wanted = ' or '.join(f'{width} x {height}' for height, width in dict.fromkeys(sizes))
            raise ValueError(f'{values.shape[1]} x {values.shape[0]}, not {wanted}')
        return values


def score_predictions(
    folder: Path,
    source,
    episodes: Sets,
    protocol: Protocol,
    fold: int,
    progress: Progress | None = None,
    classes: Sequence[int] | None = None,
) -> tuple[dict[str, Any], dict[int, EpisodeCounts]]:
    """Compares the masks of a folder with the labels, as the protocol says.

    Args:
      source: where labels are read from.
      episodes: {(shot, seed): episodes}.
      protocol: of which `name`, `resolution` and `void` are read.
      classes: class ids that the mIoU averages over, the fold's novel ones by default; each needs an episode in every
        set.
    Returns:
      What `evaluation.engine.evaluator` returns, without `size`; and every shot's counts, with image ids.
    Raises:
      ValueError, OSError: files are missing, not expected, of another size or unreadable; names the first of them.
    """
    predictions = Predictions(folder, source.index, episodes, protocol.name, fold)
    label_size = 'own' if protocol.resolution == 'own' else 'square'
    asked: dict[int, list[tuple]] = {}
    for (shot, seed), drawn in episodes.items():
        for number, episode in enumerate(drawn):
            path = predictions.path(shot, seed, number, episode.query)
            asked.setdefault(episode.query, []).append(
                ((shot, seed, number), path, episode.class_id)
            )
    counts: dict[tuple[int, int, int], list[int]] = {}
    wrong: dict[str, str] = {}
    for done, (query, wanted) in enumerate(asked.items(), 1):
        label = own_labels(source, [query])[0]
        for key, path, class_id in wanted:
            try:
                counts[key] = _counts(predictions, path, label, class_id, protocol)
            except ValueError as error:
                wrong[path.name] = str(error)
        if progress:
            progress('read predictions', done, len(asked))
    _refuse(
        folder,
        {
            'unreadable or of a wrong size': [
                f'{name}: {problem}' for name, problem in wrong.items()
            ]
        },
    )
    shots, kept, classes = {}, {}, classes or source.index.novel_classes(fold)
    if predictions.by_image:
        _refuse_binary(folder, predictions.seen, classes)
    for shot in sorted({shot for shot, _ in episodes}):
        sets = {seed: drawn for (k, seed), drawn in episodes.items() if k == shot}
        kept[shot] = _episode_counts(sets, shot, counts, label_size).named(source.ids)
        shots[str(shot)] = _summary(kept[shot], classes, source.class_names)
    side = None if label_size == 'own' else protocol.resolution
    names = [source.class_names[c] for c in classes]
    return {
        'shots': shots,
        'classes': names,
        'void': protocol.void,
        'label_size': side,
        'images': len(asked),
    }, kept


def _counts(predictions, path, label, class_id, protocol) -> list[int]:
    """The four counts of `metrics` for one file."""
    side = None if protocol.resolution == 'own' else protocol.resolution
    sizes = [label.shape] if side is None else [label.shape, (side, side)]
    found = predictions.read(path, sizes) == (class_id if predictions.by_image else FOREGROUND)
    truth = binary_label(label, class_id)
    if protocol.void == 'background':
        truth = np.where(truth == VOID, np.uint8(0), truth)
    if side is not None:
        found, truth = _stretched(found.astype(np.uint8), side) > 0, _stretched(truth, side)
    return [int(n) for n in metrics.counts(found, truth)]


def _stretched(label, side):
    """To a square, nearest, as the loader stretches labels."""
    return np.asarray(Image.fromarray(label).resize((side, side), Image.NEAREST))


def _read_object(path: Path) -> UInt8[np.ndarray, 'H W']:
    """The label of a mask of one object; ValueError for anything but two values."""
    try:
        return images.read_mask(path, binary=True)
    except UnclearMaskError as error:
        raise ValueError(f'{error.reason}; apply a threshold first, and save 0 and 255') from error


def _refuse_binary(folder, seen, classes):
    """Refuses masks of one object that are named by image: nobody can tell which class they are of."""
    objects = seen - {0}
    if objects and objects <= {1, VOID} and not set(classes) <= {1}:
        raise ValueError(
            f'{folder} has masks named by image, which hold class ids, but they only hold '
            f'{", ".join(map(str, sorted(seen)))}; the classes of this fold are {", ".join(map(str, classes))}. '
            'Write class ids, or name binary masks by episode, as `simpropnet episodes` lists them'
        )


def _read_classes(path: Path, classes: int) -> UInt8[np.ndarray, 'H W']:
    """Class ids of a PNG of one channel."""
    try:
        with Image.open(path, formats=('PNG',)) as image:
            if image.mode not in ('L', 'P'):
                raise ValueError(
                    f'of mode {image.mode}, not of one channel of 8 bits, gray or with a palette'
                )
            values = np.asarray(image)
    except OSError as error:  # Pillow's, of what is no picture or a damaged one
        raise ValueError(f'not a readable PNG ({error})') from error
    strange = sorted(set(np.unique(values).tolist()) - {*range(classes), VOID})
    if strange:
        raise ValueError(f'the value {strange[0]} is no class id, which are 0 to {classes - 1}')
    return values


def _episode_counts(sets, shot, counts, label_size) -> EpisodeCounts:
    """The counts of the sets of one shot, set after set."""
    drawn = [episode for one in sets.values() for episode in one]
    rows = np.array(
        [counts[shot, seed, number] for seed, one in sets.items() for number in range(len(one))]
    )
    return EpisodeCounts(
        np.repeat(list(sets), [len(one) for one in sets.values()]),
        np.array([e.query for e in drawn]),
        np.array([e.supports for e in drawn]),
        np.array([e.class_id for e in drawn]),
        {label_size: metrics.Counts(*rows.T)},
    )


def _summary(kept, classes, class_names) -> dict[str, Any]:
    """Numbers of episodes, and {label size: mIoU and FB-IoU over the sets}."""
    seeds = np.unique(kept.seed).tolist()
    result: dict[str, Any] = {
        'episodes': {str(seed): int((kept.seed == seed).sum()) for seed in seeds}
    }
    distinct = np.column_stack([kept.query, kept.class_id.astype(str), kept.supports])
    result['distinct_episodes'] = len(np.unique(distinct, axis=0))
    for name, per_episode in kept.counts.items():
        totals = {}
        for seed in seeds:
            rows = kept.seed == seed
            part = metrics.Counts(*(values[rows] for values in per_episode))
            totals[seed] = metrics.accumulate(part, kept.class_id[rows], classes)
        result[name] = metrics.summarise(totals, class_names)
    return result


def _refuse(folder, problems: Mapping[str, Sequence[str] | set[str]]):
    """Raises ValueError if there is any file with a problem: how many, and the first of them."""
    found = []
    for problem, names in problems.items():
        if names:
            first = ', '.join(sorted(names)[:SHOWN]) + (', ...' if len(names) > SHOWN else '')
            found.append(f'{len(names)} {problem} ({first})')
    if found:
        raise ValueError(
            f'{folder} does not hold the masks of this evaluation: {" and ".join(found)}; they are named by episode, '
            'as `simpropnet episodes` lists them, or by image'
        )


def evaluate_predictions(
    config: ConfigDict, workdir: AnyPath, folder: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Scores a folder of masks on the episodes of `config.eval` and writes the result to eval/ in a work directory.

    Returns:
      The record that was written.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is written.
    """
    config_rules.validate(config, devices=1)
    source = open_data(config)
    protocol, episodes = evaluation_episodes(config, source)
    result, counts = score_predictions(folder, source, episodes, protocol, config.fold, progress)
    result |= {
        'inputs': 'predictions',
        'eval': config_rules.plain(config.eval),
        'resolution': protocol.resolution,
    }
    result |= {'folds': len(source.index.held_out)}
    result |= {'size': None, 'shots': bootstrap.with_intervals(result['shots'], counts)}
    record = result_file.write_result(
        result_path(config, workdir, folder),
        result,
        episodes=counts,
        protocol=protocol.name,
        protocol_hash=protocol_hash((e for one in episodes.values() for e in one), source.ids),
        **provenance(config, folder),
    )
    print(tables.class_table(record))
    return record


def result_path(config: ConfigDict, workdir: AnyPath, folder: Path) -> AnyPath:
    """Where the result of a folder of masks goes."""
    return (
        workdir
        / 'eval'
        / f'{protocol_word(config)}_fold{config.fold}_predictions_{folder.resolve().name}.json'
    )


def provenance(config: ConfigDict, folder: Path) -> dict[str, Any]:
    """What a result file says of method, data and weights: arguments of `report.write_result`."""
    return {
        'method': folder.resolve().name,
        'fold': config.fold,
        'data': data_word(config),
        'selection': 'none',
        'checkpoint': str(folder),
    }
