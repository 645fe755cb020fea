"""Scores masks that any program wrote, as PNG files in a folder, on the episodes that our own methods are evaluated on.

    simpropnet eval --config simpropnet:fold=2 --workdir runs/theirs --predictions masks

Files are named in one of two ways:

  - by episode, `simpropnet_f1_s0_k1_0007.png`: protocol, fold 1, seed 0, 1-shot, episode 7. A file of episodes says for
    each name which query, supports and class it is: `simpropnet episodes --help`. What a
    mask may be is in `images`; void pixels do not predict the object;
  - by image, `2007_000033.png`, for methods that need no support: class ids, gray or with a palette; only
    the episode's class counts. Files of other images are ignored.

A file has the size of its query's label; where the protocol compares masks on a square, the square's size also works.
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
from simpropnet_jax.episodes.loader import own_labels
from simpropnet_jax.episodes.protocols import Protocol, protocol_hash
from simpropnet_jax.evaluation import shared_pictures
from simpropnet_jax.evaluation.external import scoring
from simpropnet_jax.evaluation.results import bootstrap, result_file, tables
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.naming import protocol_word
from simpropnet_jax.io import images
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import MaskOptions, UnclearMaskError
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.data import data_word, evaluation_episodes, open_data

SHOWN = 3  # files of each mistake that a message names


class Predictions:
    """The masks in a folder, for some episodes.

    Attributes:
      by_image: whether the files are named by image, and not by episode.
      seen: the class ids in the files that were read, if files are named by image.

    Raises:
      ValueError, OSError: there is no such folder, or files are missing or not expected; names the first of them.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        episodes: Sets,
        protocol: str,
        fold: int,
        threshold: float | int | None = None,
    ):
        """Look for the files.

        Args:
          folder: with the masks.
          index: of the data set.
          episodes: {(shot, seed): episodes} of the protocol of this name.
          protocol, fold: of the episodes.
          threshold: for probability maps: the object has this value or more; None: masks have two values.
        """
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
        if self.by_image and threshold is not None:
            raise ValueError(
                f'{folder} has masks named by image, which hold class ids: leave out --mask_threshold'
            )
        self._options = MaskOptions(mask_threshold=threshold).check()

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
            values = _read_object(path, self._options)
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
    threshold: float | int | None = None,
) -> tuple[dict[str, Any], dict[int, EpisodeCounts]]:
    """Compares the masks of a folder with the labels, as the protocol says.

    Args:
      source: where labels are read from.
      episodes: {(shot, seed): episodes}.
      protocol: `name`, `resolution` and `void` are read.
      classes: class ids that the mIoU averages over, the fold's novel ones by default; each needs an episode in every
        set.
      threshold: of probability maps, see `Predictions`.
    Returns:
      What `evaluation.engine.evaluator` returns, without `size`; and every shot's counts, with image ids.
    Raises:
      ValueError, OSError: files are missing, not expected, of another size or unreadable; names the first of them.
    """
    predictions = Predictions(folder, source.index, episodes, protocol.name, fold, threshold)
    counts = {key: [[]] * len(drawn) for key, drawn in episodes.items()}
    asked: dict[int, list[tuple]] = {}
    for key, drawn in episodes.items():
        for number, episode in enumerate(drawn):
            place = (key, number, predictions.path(*key, number, episode.query), episode.class_id)
            asked.setdefault(episode.query, []).append(place)
    wrong: set[str] = set()
    for done, (query, wanted) in enumerate(asked.items(), 1):
        label = own_labels(source, [query])[0]
        for group in scoring.split_episodes(wanted, protocol.ways):
            key, first, *_ = group[0]
            try:
                found = _counts(predictions, [one[2:] for one in group], label, protocol)
                counts[key][first : first + protocol.ways] = found
            except ValueError as error:
                wrong.add(str(error))
        if progress:
            progress('read predictions', done, len(asked))
    _refuse(folder, {'unreadable or of a wrong size': wrong})
    classes = classes or source.index.novel_classes(fold)
    if predictions.by_image:
        _refuse_binary(folder, predictions.seen, classes)
    shots, kept = scoring.of_shots(episodes, counts, protocol, source, classes)
    side = None if protocol.resolution == 'own' else protocol.resolution
    names = [source.class_names[c] for c in classes]
    return {
        'shots': shots,
        'classes': names,
        'void': protocol.void,
        'label_size': side,
        'images': len(asked),
    }, kept


def _counts(predictions, group, label, protocol) -> list[list[int]]:
    """The four counts of `metrics` for each file of an episode.

    Raises:
      ValueError: names the file that cannot be read or has another size.
    """
    side = None if protocol.resolution == 'own' else protocol.resolution
    sizes = [label.shape] if side is None else [label.shape, (side, side)]
    masks = []
    for path, class_id in group:
        try:
            values = predictions.read(path, sizes)
        except ValueError as error:
            raise ValueError(f'{path.name}: {error}') from error
        masks.append(values == (class_id if predictions.by_image else FOREGROUND))
    return scoring.count(masks, label, [class_id for _, class_id in group], protocol)


def _read_object(path: Path, options: MaskOptions) -> UInt8[np.ndarray, 'H W']:
    """The label of a mask of one object; ValueError for anything but two values, unless there is a threshold."""
    try:
        return images.read_mask(path, options, binary=True)
    except UnclearMaskError as error:
        raise ValueError(
            f'{error.reason}; save 0 and 255, or give a threshold, for instance --mask_threshold 128'
        ) from error


def _refuse_binary(folder, seen, classes):
    """Refuse masks of one object that are named by image: their class is unknown."""
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
    config: ConfigDict,
    workdir: AnyPath,
    folder: Path,
    progress: Progress | None = None,
    threshold: float | int | None = None,
) -> dict[str, Any]:
    """Scores a folder of masks on the episodes of `config.eval` and writes the result to eval/ in a work directory.

    Args:
      threshold: for probability maps: pixels of this value and above are the object.
    Returns:
      The record that was written.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is written.
    """
    config_rules.validate(config, devices=1)
    source = open_data(config)
    protocol, episodes = evaluation_episodes(config, source)
    result, counts = score_predictions(
        folder, source, episodes, protocol, config.fold, progress, threshold=threshold
    )
    if threshold is not None:
        result['mask_threshold'] = threshold
    result |= {'inputs': 'predictions', 'size': None}
    path = result_path(config, workdir, folder)
    about = provenance(config, folder)
    record = write_record(path, result, counts, config, (protocol, episodes, source), about)
    files = Predictions(folder, source.index, episodes, protocol.name, config.fold, threshold)
    for shown in shared_pictures.choose(protocol, config.fold, episodes):
        _draw(files, shown, source, protocol, shared_pictures.folder_beside(path))
    return record


def _draw(files, shown, source, protocol, out) -> None:
    """Draw an episode with its mask, see `shared_pictures`."""
    query, side = shown.episode.query, protocol.resolution
    file = files.path(*shown.key, shown.number, query)
    index = source.index
    sizes = [(int(index.height[query]), int(index.width[query]))]
    values = files.read(file, sizes if side == 'own' else [*sizes, (side, side)])
    wanted = shown.episode.class_id if files.by_image else FOREGROUND
    shared_pictures.write(out, source, shown, values == wanted)


def write_record(
    path: AnyPath,
    result: dict[str, Any],
    counts: dict[int, EpisodeCounts],
    config: ConfigDict,
    measured: tuple[Protocol, Sets, Any],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the result of another program's masks, and print its table.

    Args:
      path: result file.
      result: what was measured, with `inputs` and `size`.
      counts: every shot's counts, with image ids.
      config: of the evaluation.
      measured: protocol, episodes, and source of the images.
      about: see `provenance`.
    Returns:
      The record that was written.
    """
    protocol, episodes, source = measured
    every = (episode for drawn in episodes.values() for episode in drawn)
    result = result | {
        'eval': config_rules.plain(config.eval),
        'resolution': protocol.resolution,
        'folds': len(source.index.held_out),
        'shots': bootstrap.with_intervals(result['shots'], counts),
    }
    record = result_file.write_result(
        path,
        result,
        episodes=counts,
        protocol=protocol.name,
        protocol_hash=protocol_hash(every, source.ids),
        **about,
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
