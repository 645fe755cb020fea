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

from simpropnet_jax import models
from simpropnet_jax.backbones.resnet import DEPTHS
from simpropnet_jax.backbones.vgg import FULLY_CONNECTED, load_vgg16, shortened
from simpropnet_jax.backbones.weights import Backbone, load_backbone
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.episode_files import read_episodes
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.models.canet_weights import load_canet
from simpropnet_jax.models.layers import he_scaled
from simpropnet_jax.runtime import checkpoint, paths
from simpropnet_jax.runtime import sharding as parallel
from simpropnet_jax.runtime.paths import AnyPath

logger = logging.getLogger(__name__)

# Episodes that select a checkpoint come from a seed that no evaluation uses.
SELECTION_SEED = 1_000_000

# Fields of a model that do not change what its weights mean.
NOT_OF_WEIGHTS = ('weights', 'trained', 'convention', 'dropout', 'dtype')


@dataclass(frozen=True)
class Method:
    """A module with what comes along with its weights."""

    config: ConfigDict  # with model.convention resolved
    module: object
    pretrained: dict  # parameters that do not start at random, 'backbone' or all; empty: they are in the checkpoint
    weights: str | None  # where they came from

    @property
    def supervised(self) -> bool:
        """Whether it is trained on whole labels, and not on episodes."""
        return hasattr(self.module, 'logits')

    @property
    def imprints(self) -> bool:
        """Whether it is trained on whole labels, and takes novel classes up from supports: it knows which they are."""
        return hasattr(self.module, 'novel')

    @property
    def episodic(self) -> bool:
        """Whether it is trained on episodes. One that imprints is so where a loss or a conditioning needs them.

        Each step then has both losses: that of the labels, and that of episodes whose class is met as though novel.
        """
        train, conditioned = self.config.train, self.config.tpc.when != 'never'
        needed = conditioned or train.crc or train.alignment or train.dual_prediction
        return not self.supervised or (self.imprints and needed)

    @property
    def few_shot(self) -> bool:
        """Whether it segments the queries of episodes; a supervised network may do so, too."""
        return hasattr(self.module, 'decode')

    def init(self, key: jax.Array, pretrained: dict) -> dict:
        """New variables, {'params': ...}; `pretrained` replaces random weights."""
        image, mask = jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))
        params = self.module.init(key, image, mask)['params']
        if self.config.train.initial_gain:
            params = he_scaled(
                params,
                self.config.train.initial_gain,
                tuple(models.backbones(self.config.model.name)),
            )
        return {'params': {**params, **jax.tree.map(jnp.asarray, pretrained)}}

    def abstract(self) -> dict:
        """Shapes and types of the variables."""
        return jax.eval_shape(lambda: self.init(jax.random.key(0), {}))


def prepare_method(config: ConfigDict, workdir: AnyPath) -> Method:
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
    loaded, convention = None, 'torchvision'
    if not checkpoint.exist(workdir):
        loaded = _start(config) if config.train.start else _pretrained(config.model)
    if loaded:
        convention = loaded.convention
        logger.info('weights: %s', loaded.source)
    if config.model.convention == 'auto':
        config.model.convention = convention
    params, source = (loaded.params, loaded.source) if loaded else ({}, None)
    return Method(config, models.build(config), params, source)


def _pretrained(model):
    """What the config names as weights, its params those of the method: of the backbone, or of all of it."""
    if model.get('trained'):
        loaded = load_canet(model.trained, model.width, model.features)
    elif model.weights:
        backbone, depths = given_weights(model.weights), tuple(model.get('depths', DEPTHS))
        vgg, parts = model.get('encoder') == 'vgg16', models.backbones(model.name)
        if isinstance(backbone, Backbone):
            _check_fits(model, depths, backbone)
        elif vgg:
            backbone = load_vgg16(backbone, model.width, classifier=max(parts.values()) > 0)
        else:
            backbone = load_backbone(backbone, model.width, depths)
        own = lambda layers: shortened(backbone.params, layers) if vgg else backbone.params
        loaded = replace(backbone, params={name: own(layers) for name, layers in parts.items()})
    else:
        return None
    # CANet's code ran torchvision's weights in its own convention; that may be asked for.
    fitting = (
        {loaded.convention, 'canet'} if loaded.convention == 'torchvision' else {loaded.convention}
    )
    if model.convention not in {'auto', *fitting}:
        raise ValueError(
            f'config.model.convention is {model.convention!r}, but {loaded.source} has the convention '
            f"{loaded.convention!r}; leave it 'auto'"
        )
    return loaded


def _start(config: ConfigDict) -> Backbone:
    """All weights of the best checkpoint of the work directory that `train.start` names.

    Raises:
      ValueError: it is no such folder, or its method is another than the config's.
    """
    given = config.train.start
    run = paths.given(given)
    if not (run / 'config.json').exists():
        raise ValueError(
            f'config.train.start is {given}, a folder in which nothing was trained: it has no config.json'
        )
    before = config_rules.load(run / 'config.json')
    now, then = config.model.to_dict(), before.model.to_dict()
    for name in sorted(
        (now.keys() | then.keys()) - set(NOT_OF_WEIGHTS), key=lambda name: (name != 'name', name)
    ):
        if now.get(name) != then.get(name):
            raise ValueError(
                f'config.model.{name} is {now.get(name)!r}, but {given}, from which the training is to start, has '
                f'{then.get(name)!r}: take --config configs/finetune.py:start={given}, which has all of its model'
            )
    if config.model.convention not in ('auto', before.model.convention):
        raise ValueError(
            f'config.model.convention is {config.model.convention!r}, but {given} has the convention '
            f"{before.model.convention!r}; leave it 'auto'"
        )
    method = Method(before, models.build(before), {}, None)
    variables, step = restore_variables(
        method, run, 'best', parallel.replicated(parallel.make_mesh())
    )
    params = jax.tree.map(np.asarray, variables['params'])
    source = f'{before.model.name} of {run}, step {step}, trained on {data_word(before)}, fold {before.fold}'
    return Backbone(params, before.model.convention, source)


def given_weights(weights: str) -> str | Backbone:
    """Weights as somebody gave them; if that is a work directory, what its training made of the backbone.

    Returns:
      For `features.load_extractor`: a file, the word 'keras', or the backbone at the latest checkpoint.
    Raises:
      ValueError: a folder in which nothing was trained, or whose checkpoints cannot be read.
    """
    run = paths.given(weights)
    if not run.is_dir():
        return weights
    if not (run / 'config.json').exists():
        raise ValueError(
            f'the weights are to be of {weights}, a folder in which nothing was trained'
        )
    config = config_rules.load(run / 'config.json')
    method = Method(config, models.build(config), {}, None)
    variables, step = restore_variables(
        method, run, 'latest', parallel.replicated(parallel.make_mesh())
    )
    params = jax.tree.map(np.asarray, variables['params']['backbone'])
    return Backbone(params, config.model.convention, f'{config.model.name} of {run}, step {step}')


def _check_fits(model, depths: tuple[int, ...], backbone: Backbone) -> None:
    """Refuses the backbone of a work directory, `model.weights`, that is not the one of this model."""
    kinds = {True: 'a VGG-16', False: 'a ResNet'}
    vgg = model.get('encoder') == 'vgg16'
    if backbone.vgg != vgg:
        raise ValueError(
            f'config.model.weights is {model.weights}, which has {kinds[backbone.vgg]}, but this {model.name} stands '
            f'on {kinds[vgg]}: give weights of such a one'
        )
    if backbone.width != model.width:
        raise ValueError(
            f'config.model.width is {model.width}, but the backbone in {model.weights} has {backbone.width}'
        )
    layers = FULLY_CONNECTED[: max(models.backbones(model.name).values())]
    if vgg and not backbone.params.keys() >= set(layers):
        raise ValueError(
            f'config.model.weights is {model.weights}, whose VGG-16 has not all of {", ".join(layers)}, of which this '
            f"{model.name} is made, too: give a file of a whole VGG-16, or 'keras'"
        )
    if not vgg and backbone.depths != depths:
        raise ValueError(
            f'config.model.depths is {depths}, but the backbone in {model.weights} has {backbone.depths}'
        )


def require_few_shot(method: Method, workdir: AnyPath) -> None:
    """Refuses a supervised network where episodes, or anybody's examples, are to be segmented.

    Raises:
      ValueError: it is one.
    """
    if not method.few_shot:
        raise ValueError(
            f'{workdir} holds {method.config.model.name}, a supervised network that takes no examples: give the work '
            'directory of a few-shot method'
        )


def load_variables(
    method: Method, workdir: AnyPath, which: str, mesh: jax.sharding.Mesh
) -> tuple[dict, int | None]:
    """The variables to evaluate, on every device of the mesh, and the step they are of.

    The step is None for a method with nothing to train, or that was trained elsewhere; then there is no checkpoint.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError: there is no checkpoint, none of that name, or none that can be read.
    """
    params = set(method.abstract()['params'])
    if params <= set(method.config.train.frozen) or params <= set(method.pretrained):
        create = jax.jit(method.init, out_shardings=parallel.replicated(mesh))
        return create(jax.random.key(0), method.pretrained), None
    return restore_variables(method, workdir, which, parallel.replicated(mesh))


def restore_variables(
    method: Method, workdir: AnyPath, which: str, sharding: jax.sharding.Sharding
) -> tuple[dict, int]:
    """The variables, {'params': ...}, that a training left in its work directory, and the step they are of.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
      sharding: where they go.
    Raises:
      ValueError: there is no checkpoint, none of that name, or none that can be read.
    """
    if not checkpoint.exist(workdir):
        raise ValueError(
            f'{workdir} has no checkpoints: train there first, with train.py and the same --config'
        )
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
        raise ValueError(
            f"the checkpoint must be 'best', 'latest' or a step that is there ({there}), got {which!r}"
        )
    return int(which)


def prepare_sampler(config: ConfigDict, source: Source) -> TrainSampler:
    """The sampler of training episodes over the classes that are trained.

    Raises:
      ValueError: images with novel classes are to be dropped, though novel classes are to be trained.
    """
    data, train = config.data, config.train
    everything = train.classes == 'all'
    if everything and data.drop_novel_images:
        raise ValueError(
            "config.data.drop_novel_images must be False with config.train.classes 'all', got True: no class is novel"
        )
    index = source.index
    classes = (
        tuple(range(1, len(index.class_names))) if everything else index.base_classes(config.fold)
    )
    if not classes:
        raise ValueError(
            f'fold {config.fold} holds out all classes of {data.dir}, so that none is left to train on: set '
            "config.train.classes to 'all' to train on them, or prepare the data with a folds.json"
        )
    dropped = index.novel_classes(config.fold) if data.drop_novel_images else ()
    pairs = listed_pairs(index, data.train_list, classes, data.tiny_rule, dropped)
    return TrainSampler(
        pairs,
        shot=train.shot,
        seed=config.seed,
        fold=config.fold,
        batch=train.batch,
        order=train.sampling,
    )


def prepare_evaluation(
    config: ConfigDict, source: Source, identical: bool = False
) -> tuple[Protocol, dict[tuple[int, int], list[Episode]]]:
    """The rules of an evaluation and its episodes, {(shot, seed): episodes}, of the fold's novel classes.

    The rules are those of the protocol that `config.eval` names, or of the file of episodes. Its fields `episodes` and
    `seeds` (of drawn episodes) and `label_size` (of both) override them, where they are not 0 or ().

    Args:
      identical: one set in which every pair is an episode, its query being its support.
    Raises:
      ValueError, FileNotFoundError: a class has too few images, or the file of episodes cannot be taken.
    """
    wanted, fold, sets = config.eval, config.fold, {}
    if wanted.episodes_file:
        file = Path(wanted.episodes_file).expanduser()
        protocol, sets = read_episodes(file, source.index, fold, wanted.shots)
    else:
        protocol = protocols.get_protocol(wanted.protocol)
        count, seeds = wanted.episodes or protocol.episodes, tuple(wanted.seeds) or protocol.seeds
        protocol = replace(protocol, episodes=count, seeds=seeds)
    void = config.data.void if protocol.void == 'as trained' else protocol.void
    protocol = replace(protocol, void=void, resolution=wanted.label_size or protocol.resolution)
    if identical:
        return protocol, {(1, 0): protocols.identical_episodes(protocol, source.index, fold)}
    draw = lambda shot, seed: protocols.episodes(protocol, source.index, fold, shot, seed)
    return protocol, sets or {
        (shot, seed): draw(shot, seed) for shot in wanted.shots for seed in protocol.seeds
    }


def selection_episodes(config: ConfigDict, source: Source) -> tuple[tuple[int, ...], list[Episode]]:
    """Classes and 1-shot episodes that choose the best checkpoint.

    Of our own protocol, whatever `config.eval` says: that may change from one call to the next, selection may not.
    """
    index = source.index
    classes = (index.base_classes if config.select.on == 'base_val' else index.novel_classes)(
        config.fold
    )
    name = 'folder' if config.data.name == 'folder' else 'simpropnet'
    protocol = replace(protocols.get_protocol(name), episodes=config.select.episodes)
    return classes, protocols.episodes(
        protocol, source.index, config.fold, 1, SELECTION_SEED, classes
    )


def open_data(config: ConfigDict) -> Source:
    """The prepared data set."""
    return open_source(config.data.name, paths.given(config.data.dir))


def data_word(config: ConfigDict) -> str:
    """What results call the data set: its name, and where it is one's own, the name of its folder."""
    name = config.data.name
    return f'{name}/{paths.given(config.data.dir).name}' if name == 'folder' else name


def stored_config(workdir: AnyPath) -> ConfigDict:
    """The config that a work directory was started with.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    if not (workdir / 'config.json').exists():
        raise ValueError(f'{workdir} has no config.json: train there first, or give --config')
    return config_rules.load(workdir / 'config.json')


def store_config(config: ConfigDict, workdir: AnyPath) -> None:
    """Writes config.json, once."""
    if not (workdir / 'config.json').exists() and jax.process_index() == 0:
        checkpoint.write_json(workdir / 'config.json', config_rules.plain(config))
