"""Prepare a run from a config, once; everything downstream takes it.

    run = prepare_training(config, workdir)      for `training.loop.train`
    run = with_episodes(prepare(config, workdir))      for `evaluation.run.evaluate`

The order is: check the config, open the data, list the episodes, and only then read or download weights.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config.rules import plain, stored_config
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.published import header
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup import data, number_type, refusals, weights
from simpropnet_jax.setup.method import Method, require_few_shot

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A method with the data it is trained or evaluated on, and the folder that its results go to."""

    method: Method
    source: Source
    workdir: AnyPath

    @property
    def config(self) -> ConfigDict:
        """The checked config, with model.convention and model.dtype resolved."""
        return self.method.config


class LoadingPlan(NamedTuple):
    """How training images are read.

    Attributes:
      sizes: sides of the squares that images are resized to, by the loader's argument.
      batch: episodes (or images) of one step over all hosts.
      seed: seed of all randomness on the device.
      backend, workers: arguments of the loader.
      residency: whether images stay in device memory, one of `episodes.options.RESIDENCY`.
      decoded: whether streamed images come from decoded files, one of `episodes.options.DECODED`.
      image_list: name of the list of training images.
      steps_per_dispatch: most steps in one call of the device.
    """

    sizes: dict[str, int]
    batch: int
    seed: int
    backend: str
    workers: int
    residency: str
    decoded: str
    image_list: str
    steps_per_dispatch: int


class SelectionPlan(NamedTuple):
    """How the best checkpoint is selected.

    Attributes:
      rule: 'novel_val', 'base_val', 'val' or 'last'.
      classes, episodes: of the validation; empty for a supervised network, which is scored on whole images.
      size: side of the square that images are stretched to.
      batch: images and episodes at a time, over all devices.
      memory: GiB of a device's memory for features.
      void: 'ignore' or 'background'.
      backend: argument of the loader.
      convention: convention of the backbone's input.
    """

    rule: str
    classes: tuple[int, ...]
    episodes: Sequence[Episode]
    size: int
    batch: int
    memory: float
    void: str
    backend: str
    convention: str


@dataclass(frozen=True)
class TrainingRun(Run):
    """A run to train: its episode sampler, and the plans for reading images and selecting a checkpoint."""

    sampler: TrainSampler
    loading: LoadingPlan
    selection: SelectionPlan


@dataclass(frozen=True)
class EvaluationRun(Run):
    """A run to evaluate on episodes.

    Attributes:
      inputs: what the method is given, one of `refusals.INPUTS`.
      protocol: the rules of the evaluation.
      episodes: {(shot, seed): episodes}.
      classes: the fold's novel classes, which the mIoU averages over.
      support_class: class -> class of its supports, if they differ.
    """

    inputs: str
    protocol: Protocol
    episodes: Mapping[tuple[int, int], Sequence[Episode]]
    classes: tuple[int, ...]
    support_class: Mapping[int, int] | None


def prepare(config: ConfigDict | None, workdir: AnyPath) -> Run:
    """Prepare a method and its data.

    Args:
      config: the config; None takes the run folder's own.
      workdir: the run folder.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    config = stored_config(workdir) if config is None else config
    config = refusals.check_config(config, workdir, evaluates=True)
    source = data.open_data(config)
    return Run(_read_method(config, workdir), source, workdir)


def prepare_method(config: ConfigDict | None, workdir: AnyPath) -> Method:
    """Prepare a method without a data set. See `prepare`."""
    config = stored_config(workdir) if config is None else config
    config = refusals.check_config(config, workdir, evaluates=True)
    return _read_method(config, workdir)


def prepare_training(config: ConfigDict, workdir: AnyPath) -> TrainingRun:
    """Prepare a training.

    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    config = refusals.check_config(config, workdir)
    refusals.check_training(config)
    source = data.open_data(config)
    sampler = data.training_sampler(config, source)
    method = _read_method(config, workdir)
    refusals.check_dispatch(config, method.episodic, sampler)
    refusals.check_frozen(method)
    return TrainingRun(
        method, source, workdir, sampler, _loading(method), _selection(method, source)
    )


def _loading(method: Method) -> LoadingPlan:
    config = method.config
    return LoadingPlan(
        data.image_sizes(config.train, method.episodic),
        config.train.batch,
        config.seed,
        config.data.loader,
        config.data.workers,
        config.data.resident,
        config.data.decoded,
        config.data.train_list,
        config.train.steps_per_dispatch,
    )


def _selection(method: Method, source: Source) -> SelectionPlan:
    config, classes, episodes = method.config, (), ()
    if method.few_shot:
        classes, episodes = data.selection_episodes(config, source)
    return SelectionPlan(
        config.select.on,
        classes,
        episodes,
        config.train.size,
        config.eval.batch,
        config.eval.memory,
        config.data.void,
        config.data.loader,
        config.model.convention,
    )


def with_episodes(run: Run, inputs: str = 'episodes', several: bool = False) -> EvaluationRun:
    """Add the episodes of `config.eval`.

    Args:
      inputs: what the method is given, one of `refusals.INPUTS`.
      several: whether an episode may have several classes, as PANet's two-way test has.
    Raises:
      ValueError, OSError: the method takes no supports, a class has too few images, or a file of episodes is damaged.
    """
    refusals.check_inputs(inputs)
    require_few_shot(run.method, run.workdir)
    config, index = run.config, run.source.index
    protocol, episodes = data.evaluation_episodes(config, run.source, inputs == 'identical')
    refusals.check_ways(protocol, several and inputs == 'episodes')
    classes, support_class = index.novel_classes(config.fold), None
    if inputs == 'other_class':
        support_class = protocols.next_class(classes)
        episodes = {
            key: protocols.other_class_episodes(drawn, protocol, index, config.fold)
            for key, drawn in episodes.items()
        }
    return EvaluationRun(
        run.method, run.source, run.workdir, inputs, protocol, episodes, classes, support_class
    )


def _read_method(config: ConfigDict, workdir: AnyPath) -> Method:
    """Read the weights that a method starts from, if the run folder has no checkpoint, and build its module."""
    if config.model.dtype == 'auto':
        config.model.dtype = number_type.faster()
    loaded, convention = None, 'torchvision'
    if not weights.exist(workdir):
        train = config.train
        loaded = weights.fine_tuned(config) if train.start else weights.pretrained(config.model)
    if loaded:
        convention = loaded.convention
        logger.info('weights: %s', loaded.source)
    if config.model.convention == 'auto':
        config.model.convention = convention
    params, source = (loaded.params, loaded.source) if loaded else ({}, None)
    return Method.from_config(config, params, source)


def store_config(config: ConfigDict, workdir: AnyPath) -> None:
    """Write config.json into a run folder, once."""
    if not header.config_file(workdir).exists() and jax.process_index() == 0:
        records.write(workdir / 'config.json', plain(config))
