"""A run, prepared once from a config: everything downstream takes it.

    run = prepare_training(config, workdir)      for `training.loop.train`
    run = with_episodes(prepare(config, workdir))      for `evaluation.run.evaluate`

The order is: check the config, open the data, list the episodes, and only then read or download weights.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ml_collections import ConfigDict

from simpropnet_jax.config.stored import stored_config
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup import data, refusals, weights
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
        """The checked config, with model.convention resolved."""
        return self.method.config


@dataclass(frozen=True)
class TrainingRun(Run):
    """A run to train.

    Attributes:
      sampler: of the training episodes.
      selection_classes: class ids of the episodes that select a checkpoint.
      selection_episodes: these episodes; none for a supervised network.
    """

    sampler: TrainSampler
    selection_classes: tuple[int, ...]
    selection_episodes: Sequence[Episode]


@dataclass(frozen=True)
class EvaluationRun(Run):
    """A run to evaluate on episodes.

    Attributes:
      inputs: what the method is given, one of `refusals.INPUTS`.
      protocol: the rules of the evaluation.
      episodes: {(shot, seed): episodes}.
      classes: the fold's novel classes, which the mIoU averages over.
      support_class: class of the supports of each class's episodes, if it is not the same.
    """

    inputs: str
    protocol: Protocol
    episodes: Mapping[tuple[int, int], Sequence[Episode]]
    classes: tuple[int, ...]
    support_class: Mapping[int, int] | None


def prepare(config: ConfigDict | None, workdir: AnyPath) -> Run:
    """Prepare a method and its data.

    Args:
      config: None: the run folder's own.
      workdir: the run folder.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    config = refusals.check_config(stored_config(workdir) if config is None else config, workdir)
    source = data.open_data(config)
    return Run(_read_method(config, workdir), source, workdir)


def prepare_method(config: ConfigDict | None, workdir: AnyPath) -> Method:
    """Prepare a method alone, for what needs no data set. See `prepare`."""
    config = refusals.check_config(stored_config(workdir) if config is None else config, workdir)
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
    classes, episodes = (), ()
    if method.few_shot:
        classes, episodes = data.selection_episodes(method.config, source)
    return TrainingRun(method, source, workdir, sampler, classes, episodes)


def with_episodes(run: Run, inputs: str = 'episodes') -> EvaluationRun:
    """Add the episodes that `config.eval` says.

    Args:
      inputs: what the method is given, one of `refusals.INPUTS`.
    Raises:
      ValueError, OSError: the method takes no supports, a class has too few images, or a file of episodes is damaged.
    """
    refusals.check_inputs(inputs)
    require_few_shot(run.method, run.workdir)
    config, index = run.config, run.source.index
    protocol, episodes = data.evaluation_episodes(config, run.source, inputs == 'identical')
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
    loaded, convention = None, 'torchvision'
    if not checkpoint.exist(workdir):
        train = config.train
        loaded = weights.fine_tuned(config) if train.start else weights.pretrained(config.model)
    if loaded:
        convention = loaded.convention
        logger.info('weights: %s', loaded.source)
    if config.model.convention == 'auto':
        config.model.convention = convention
    params, source = (loaded.params, loaded.source) if loaded else ({}, None)
    return Method.from_config(config, params, source)
