"""Where a method's weights come from: ImageNet, another run, a published file, or a checkpoint of its own."""

import contextlib
import logging
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.backbones.resnet import DEPTHS
from simpropnet_jax.backbones.vgg import FULLY_CONNECTED, load_vgg16, shortened
from simpropnet_jax.backbones.weights import Backbone, load_backbone
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.canet_weights import load_canet
from simpropnet_jax.runtime import checkpoint, paths, sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup.data import data_word
from simpropnet_jax.setup.method import Method

logger = logging.getLogger(__name__)

# Fields of a model that do not change what its weights mean.
NOT_OF_WEIGHTS = ('weights', 'trained', 'convention', 'dropout', 'dtype')


def pretrained(model: ConfigDict) -> Backbone | None:
    """Read the weights that `config.model` names: of the method's backbones, or of the whole method.

    Returns:
      Its params are those of the method, by part. None if the config names no weights.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if model.get('trained'):
        loaded = load_canet(model.trained, model.width, model.features)
    elif model.weights:
        backbone, depths = backbone_weights(model.weights), tuple(model.get('depths', DEPTHS))
        vgg, parts = model.get('encoder') == 'vgg16', models.backbones(model.name)
        if isinstance(backbone, Backbone):
            _check_fits(model, depths, backbone)
        elif vgg:
            backbone = load_vgg16(backbone, model.width, classifier=max(parts.values()) > 0)
        else:
            backbone = load_backbone(backbone, model.width, depths)
        params = {name: _layers(backbone, layers) for name, layers in parts.items()}
        loaded = replace(backbone, params=params)
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


def _layers(backbone: Backbone, fully_connected: int) -> dict:
    """Return a backbone's parameters; of a VGG-16 with so many of its fully connected layers."""
    return shortened(backbone.params, fully_connected) if backbone.vgg else backbone.params


def fine_tuned(config: ConfigDict) -> Backbone:
    """All weights of the best checkpoint of the work directory that `train.start` names.

    Raises:
      ValueError: it is no such folder, or its method is another than the config's.
    """
    given = config.train.start
    run = paths.parse(given)
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
    method = Method.from_config(before)
    variables, step = restore_variables(
        method, run, 'best', sharding.replicated(sharding.make_mesh())
    )
    params = jax.tree.map(np.asarray, variables['params'])
    source = f'{before.model.name} of {run}, step {step}, trained on {data_word(before)}, fold {before.fold}'
    return Backbone(params, before.model.convention, source)


def backbone_weights(weights: str) -> str | Backbone:
    """Weights as somebody gave them; if that is a work directory, what its training made of the backbone.

    Returns:
      For `features.load_extractor`: a file, the word 'keras', or the backbone at the latest checkpoint.
    Raises:
      ValueError: a folder in which nothing was trained, or whose checkpoints cannot be read.
    """
    run = paths.parse(weights)
    if not run.is_dir():
        return weights
    if not (run / 'config.json').exists():
        raise ValueError(
            f'the weights are to be of {weights}, a folder in which nothing was trained'
        )
    config = config_rules.load(run / 'config.json')
    method = Method.from_config(config)
    variables, step = restore_variables(
        method, run, 'latest', sharding.replicated(sharding.make_mesh())
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


class Loaded(NamedTuple):
    """Variables, and the checkpoint that they are of.

    Attributes:
      variables: {'params': ...}.
      step: None for a method with nothing to train, or that was trained elsewhere.
      replaced: None, or what was asked for and why another step was used, as a result file has it:
        {'asked': 'best', 'damaged': {'300': 'its score cannot be read'}}.
    """

    variables: dict
    step: int | None
    replaced: dict[str, Any] | None


def load(method: Method, workdir: AnyPath, which: str, mesh: jax.sharding.Mesh) -> Loaded:
    """Read the variables to evaluate, on every device of the mesh.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError: there is no checkpoint, none of that name, or none that can be read.
    """
    params = set(method.abstract()['params'])
    if params <= set(method.config.train.frozen) or params <= set(method.pretrained):
        create = jax.jit(method.init, out_shardings=sharding.replicated(mesh))
        return Loaded(create(jax.random.key(0), method.pretrained), None, None)
    return restore(method, workdir, which, sharding.replicated(mesh))


def restore(
    method: Method, workdir: AnyPath, which: str, sharding: jax.sharding.Sharding
) -> Loaded:
    """Read the variables that a training left in its run folder.

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
        abstract = {'variables': checkpoint.abstract_like(method.abstract(), sharding)}
        step, items, damaged = checkpoints.restore_chosen(abstract, which)
    logger.info('checkpoint: step %d of %s', step, workdir)
    why = {str(other): problem for other, problem in damaged.items()}
    return Loaded(items['variables'], step, {'asked': which, 'damaged': why} if why else None)


def load_variables(
    method: Method, workdir: AnyPath, which: str, mesh: jax.sharding.Mesh
) -> tuple[dict, int | None]:
    """Return the variables and the step of `load`."""
    return load(method, workdir, which, mesh)[:2]


def restore_variables(
    method: Method, workdir: AnyPath, which: str, sharding: jax.sharding.Sharding
) -> tuple[dict, int]:
    """Return the variables and the step of `restore`."""
    return restore(method, workdir, which, sharding)[:2]
