"""Predicted masks of episodes, from a work directory's method or from any program's PNG files in a folder."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, UInt8
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes.loader import binary_label, own_labels
from simpropnet_jax.episodes.protocols import Protocol, protocol_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.external.predictions import Predictions
from simpropnet_jax.evaluation.results.naming import method_name, method_words
from simpropnet_jax.evaluation.run import prepare_evaluator
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.data import evaluation_episodes, open_data
from simpropnet_jax.setup.run import EvaluationRun, prepare, with_episodes
from simpropnet_jax.setup.weights import load_variables

Mask = Bool[np.ndarray, 'H W']
Masks = Iterator[tuple[tuple[int, int], int, Mask]]
"""(shot, seed), number of the episode in its set, and its mask at the size of the query's label."""


class Segmented(NamedTuple):
    """An episode, its truth and its prediction, both at the size of the query's label."""

    episode: Episode
    label: UInt8[
        np.ndarray, 'H W'
    ]  # 1 object, 0 background, 255 void (none if the protocol counts void as background)
    prediction: Mask


@dataclass(frozen=True, eq=False)
class Predictor:
    """Masks for the first episodes of one set of one fold.

    Attributes:
      name: name of the method in tables.
      source: source of images and labels.
      fold: 0 to 3.
      protocol: protocol of the episodes.
      episodes: episodes to segment.
      predict: makes their masks.
      checkpoint: `path`, `step` and `selection`, as in result files.
    """

    name: str
    source: object
    fold: int
    protocol: Protocol
    episodes: Sequence[Episode]
    predict: Callable[[], Masks]
    checkpoint: dict

    def __iter__(self) -> Iterator[Segmented]:
        """Yield every episode with its truth and its mask, in order."""
        for episode, (_, _, mask) in zip(self.episodes, self.predict(), strict=True):
            label = binary_label(own_labels(self.source, [episode.query])[0], episode.class_id)
            if self.protocol.void == 'background':
                label = np.where(label == VOID, np.uint8(0), label)
            yield Segmented(episode, label, mask)

    def facts(self) -> dict:
        """Return the predictor's entries of a result file."""
        return {
            'method': self.name,
            'fold': self.fold,
            'data': self.source.name,
            'void': self.protocol.void,
            'protocol': {
                'name': self.protocol.name,
                'hash': protocol_hash(self.episodes, self.source.ids),
            },
            'checkpoint': self.checkpoint,
        }


def open_predictors(
    workdirs: Sequence[Path],
    predictions: Sequence[Path] = (),
    config: ConfigDict | None = None,
    which: str = 'best',
    pairs: int | None = None,
    progress: Progress | None = None,
) -> list[Predictor]:
    """Open a predictor for each work directory; all arguments are checked here.

    The episodes are the first of the first set in `config.eval`: of its fewest shots and its first seed.

    Args:
      workdirs: one work directory per fold.
      predictions: if empty, the methods in the work directories segment. Otherwise a folder of PNG files for each work
        directory, with all episodes of `config.eval`, as for `simpropnet eval --predictions`.
      config: config for a single work directory; None takes the stored config.
      which: checkpoint, 'best', 'latest' or a step.
      pairs: episodes (pairs of query and supports) over all work directories, the same number for each; None: all.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if config is not None and len(workdirs) > 1:
        raise ValueError(
            f'--config is of one fold, but there are {len(workdirs)} work directories: give only one'
        )
    if predictions and len(predictions) != len(workdirs):
        raise ValueError(
            f'there are {len(predictions)} folders of predictions for {len(workdirs)} work directories'
        )
    if pairs is not None and (pairs < 1 or pairs % len(workdirs)):
        raise ValueError(
            f'the pairs must be a multiple of the work directories, {len(workdirs)}, got {pairs}'
        )
    opened = []
    for i, workdir in enumerate(workdirs):
        own = stored_config(workdir) if config is None else config
        count = None if pairs is None else pairs // len(workdirs)
        opened.append(
            _of_files(own, predictions[i], count)
            if predictions
            else _of_run(own, workdir, which, count, progress)
        )
    folds = [one.fold for one in opened]
    if len(set(folds)) < len(folds):
        raise ValueError(f'the work directories are of the folds {folds}: give one of each fold')
    if len({(one.name, one.source.name) for one in opened}) > 1 and not predictions:
        found = ', '.join(f'{one.name} on {one.source.name}' for one in opened)
        raise ValueError(
            f'the work directories do not hold one method on one data set, but {found}'
        )
    return opened


def _of_run(config, workdir, which, count, progress) -> Predictor:
    run = with_episodes(prepare(config, workdir))
    variables, step = load_variables(run.method, workdir, which, sharding.make_mesh())
    config = run.config
    key, episodes = _first(run.episodes, count)
    first = replace(run, episodes={key: episodes})
    checkpoint = {
        'path': None if step is None else str(workdir),
        'step': step,
        'selection': 'none' if step is None else config.select.on,
    }
    words = {'method': method_name(config), 'eval': config.eval.to_dict()}
    return Predictor(
        method_words(words),
        run.source,
        config.fold,
        run.protocol,
        episodes,
        partial(predict_episodes, first, variables, progress),
        checkpoint,
    )


def _of_files(config, folder, count) -> Predictor:
    config_rules.validate(config, jax.device_count(), jax.process_count())
    source = open_data(config)
    protocol, sets = evaluation_episodes(config, source)
    key, episodes = _first(sets, count)
    files = Predictions(folder, source.index, sets, protocol.name, config.fold)
    predict = partial(_read, files, source, key, episodes, protocol)
    checkpoint = {'path': str(folder), 'step': None, 'selection': 'none'}
    return Predictor(
        folder.resolve().name, source, config.fold, protocol, episodes, predict, checkpoint
    )


def predict_episodes(
    run: EvaluationRun, variables: dict, progress: Progress | None = None
) -> Masks:
    """Segment episodes like an evaluation: at `config.eval.size`, `scales` etc., with each image encoded once.

    Args:
      run: its protocol's `void` and `resolution` determine the supports' masks.
      variables: {'params': ...}.
    """
    config = ConfigDict(run.config.to_dict())
    config.eval.own_size = True  # masks have this size, whatever the protocol compares
    classes = set.intersection(*({e.class_id for e in drawn} for drawn in run.episodes.values()))
    own_size = replace(
        run, method=replace(run.method, config=config), classes=tuple(sorted(classes))
    )
    evaluator = prepare_evaluator(own_size, sharding.make_mesh(), progress)
    return evaluator.predict(variables, progress)


def _read(files, source, key, episodes: Iterable[Episode], protocol) -> Masks:
    """Read masks from files; masks on the protocol's square are stretched back, nearest neighbour."""
    index, side = source.index, protocol.resolution
    for number, episode in enumerate(episodes):
        path = files.path(*key, number, episode.query)
        own = (int(index.height[episode.query]), int(index.width[episode.query]))
        try:
            values = files.read(path, [own] if side == 'own' else [own, (side, side)])
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        mask = values == (episode.class_id if files.by_image else FOREGROUND)
        if mask.shape != own:
            mask = (
                np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(own[::-1], Image.NEAREST))
                > 0
            )
        yield key, number, mask


def _first(sets, count):
    """Return the first set, by shot and seed as listed, and its first episodes."""
    shot = min(shot for shot, _ in sets)
    key = next(key for key in sets if key[0] == shot)
    if count is not None and len(sets[key]) < count:
        raise ValueError(
            f'there are {len(sets[key])} episodes of a fold for {count} pairs: give fewer --pairs, or more '
            'config.eval.episodes'
        )
    return key, sets[key][:count]
