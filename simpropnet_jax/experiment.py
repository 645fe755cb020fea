"""From a config to the parts of a run or an evaluation.

All that can be refused is refused here, before anything is compiled or written.
"""

import contextlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax import checkpoint, models, parallel
from simpropnet_jax import config as config_rules
from simpropnet_jax.datasets.folds import base_classes, novel_classes
from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.models.pretrained import Backbone, load_backbone

logger = logging.getLogger(__name__)

# Episodes that select a checkpoint come from a seed that no evaluation uses.
SELECTION_SEED = 1_000_000


@dataclass(frozen=True)
class Method:
    """A module with what comes along with its weights."""

    config: ConfigDict  # with model.convention resolved
    module: object
    backbone: dict | None  # pretrained parameters; None: they are in the checkpoint, or start at random
    weights: str | None  # where they came from

    def init(self, key: jax.Array, backbone: dict | None) -> dict:
        """New variables, {'params': ...}; `backbone` replaces the random weights below 'backbone'."""
        image, mask = jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))
        params = self.module.init(key, image, mask)['params']
        if backbone is not None:
            params = {**params, 'backbone': jax.tree.map(jnp.asarray, backbone)}
        return {'params': params}

    def abstract(self) -> dict:
        """Shapes and types of the variables."""
        return jax.eval_shape(lambda: self.init(jax.random.key(0), None))


def prepare_method(config: ConfigDict, workdir: Path) -> Method:
    """Checks the config, holds it against the one the work directory was started with, and reads the weights.

    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    config_rules.validate(config, jax.device_count(), jax.process_count())
    config = ConfigDict(config.to_dict())
    stored = workdir / 'config.json'
    if stored.exists():
        before = config_rules.load(stored)
        config_rules.check_same_run(config, before, workdir)
        config.model.convention = before.model.convention
    backbone = None
    if config.model.weights and not checkpoint.exist(workdir):
        run = Path(config.model.weights).expanduser()
        read = _backbone_of_run if run.is_dir() else load_backbone
        backbone = read(config.model.weights, config.model.width)
        if config.model.convention not in ('auto', backbone.convention):
            raise ValueError(
                f'config.model.convention is {config.model.convention!r}, but {config.model.weights} has the '
                f"convention {backbone.convention!r}; leave it 'auto'"
            )
        logger.info('backbone: %s', backbone.source)
    if config.model.convention == 'auto':
        config.model.convention = backbone.convention if backbone else 'torchvision'
    weights = backbone.source if backbone else None
    return Method(config, models.build(config.model), backbone.params if backbone else None, weights)


def _backbone_of_run(weights: str, width: int) -> Backbone:
    """What the training of a work directory made of its backbone, at its latest checkpoint."""
    run = Path(weights).expanduser()
    if not (run / 'config.json').exists():
        raise ValueError(f'config.model.weights is {weights}, a folder in which nothing was trained')
    config = config_rules.load(run / 'config.json')
    if config.model.width != width:
        raise ValueError(f'config.model.width is {width}, but the backbone in {weights} has {config.model.width}')
    method = Method(config, models.build(config.model), None, None)
    variables, step = restore_variables(method, run, 'latest', parallel.replicated(parallel.make_mesh()))
    params = jax.tree.map(np.asarray, variables['params']['backbone'])
    return Backbone(params, config.model.convention, f'{config.model.name} of {run}, step {step}')


def restore_variables(
    method: Method, workdir: Path, which: str, sharding: jax.sharding.Sharding
) -> tuple[dict, int]:  # fmt: skip
    """The variables, {'params': ...}, that a training left in its work directory, and the step they are of.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
      sharding: where they go.
    Raises:
      ValueError: there is no checkpoint, none of that name, or none that can be read.
    """
    if not checkpoint.exist(workdir):
        raise ValueError(f'{workdir} has no checkpoints: train there first, with train.py and the same --config')
    with contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints:
        step = _chosen_step(checkpoints, which)
        abstract = {'variables': checkpoint.abstract_like(method.abstract(), sharding)}
        step, items = checkpoints.restore(abstract, step)
    logger.info('checkpoint: step %d of %s', step, workdir)
    return items['variables'], step


def _chosen_step(checkpoints: checkpoint.Checkpoints, which: str) -> int | None:
    if which == 'latest':
        return None
    if which == 'best':
        return checkpoints.best_step()
    if not which.isdigit() or int(which) not in checkpoints.steps():
        there = ', '.join(str(step) for step in checkpoints.steps())
        raise ValueError(f"the checkpoint must be 'best', 'latest' or a step that is there ({there}), got {which!r}")
    return int(which)


def prepare_sampler(config: ConfigDict, source: Source) -> TrainSampler:
    """The sampler of training episodes over the base classes."""
    data, train = config.data, config.train
    dropped = novel_classes(config.fold) if data.drop_novel_images else ()
    pairs = listed_pairs(source.index, data.train_list, base_classes(config.fold), data.tiny_rule, dropped)
    return TrainSampler(
        pairs, shot=train.shot, seed=config.seed, fold=config.fold, batch=train.batch, order=train.sampling
    )


def total_steps(config: ConfigDict, sampler: TrainSampler) -> int:
    """Length of the training, in steps."""
    return config.train.steps or config.train.epochs * sampler.steps_per_epoch


def evaluation_episodes(config: ConfigDict, source: Source) -> dict[tuple[int, int], list[Episode]]:
    """The episodes of an evaluation: {(shot, seed): episodes}, of the fold's novel classes."""
    protocol = replace(protocols.get_protocol(config.eval.protocol), episodes=config.eval.episodes)
    return {
        (shot, seed): protocols.episodes(protocol, source.index, config.fold, shot, seed)
        for shot in config.eval.shots
        for seed in config.eval.seeds
    }


def selection_episodes(config: ConfigDict, source: Source) -> tuple[tuple[int, ...], list[Episode]]:
    """Classes and 1-shot episodes that choose the best checkpoint."""
    classes = (base_classes if config.select.on == 'base_val' else novel_classes)(config.fold)
    protocol = replace(protocols.get_protocol(config.eval.protocol), episodes=config.select.episodes)
    return classes, protocols.episodes(protocol, source.index, config.fold, 1, SELECTION_SEED, classes)


def open_data(config: ConfigDict) -> Source:
    """The prepared data set."""
    return open_source(config.data.name, Path(config.data.dir).expanduser())


def store_config(config: ConfigDict, workdir: Path) -> None:
    """Writes config.json, once."""
    if not (workdir / 'config.json').exists() and jax.process_index() == 0:
        checkpoint.write_json(workdir / 'config.json', config_rules.plain(config))
