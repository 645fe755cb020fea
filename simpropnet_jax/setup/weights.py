"""Where a method's weights come from: ImageNet, another run, a published file, or its own checkpoint."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.encoder import make_backbone
from simpropnet_jax.backbones.vgg import FULLY_CONNECTED, shortened
from simpropnet_jax.backbones.weights import Backbone
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.canet_weights import load_canet
from simpropnet_jax.published import header, locate, model_file
from simpropnet_jax.runtime import paths, sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup.data import data_word
from simpropnet_jax.setup.method import Method

logger = logging.getLogger(__name__)

# Fields of a model that do not change what its weights mean.
NOT_OF_WEIGHTS = ('weights', 'trained', 'convention', 'dropout', 'dtype')


def pretrained(model: ConfigDict) -> Backbone | None:
    """Read the weights that `config.model` names: of the method's backbones, or of the whole method.

    Returns:
      Its params are the method's, by part. None if the config names no weights.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if model.get('trained'):
        loaded = load_canet(model.trained, model.width, model.features)
    elif model.weights:
        backbone, parts = backbone_weights(model.weights), models.backbones(model.name)
        network = make_backbone(
            model.encoder,
            model.width,
            depths=model.get('depths', ()),
            deep_stem=bool(model.get('deep_stem')),
        )
        if isinstance(backbone, Backbone):
            _check_fits(model, network, backbone)
        else:
            load = registry.resolve(registry.find(model.encoder).loader)
            backbone = load(_file(model, backbone), network, max(parts.values()))
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


def _file(model: ConfigDict, path: str) -> str:
    """Return the path, or 'keras' or 'download' if the encoder has such a file."""
    found = registry.find(model.encoder)
    if path not in ('keras', registry.DOWNLOAD):
        return path
    if found.sha256:
        return registry.DOWNLOAD
    if not found.weights:
        raise ValueError(
            f'config.model.weights is {path!r}, but {model.encoder} has no published weights: give the folder of a '
            "training, or '' for random ones"
        )
    if "'keras'" not in found.weights:
        raise ValueError(
            f'config.model.weights is {path!r}, but there is no download for {model.encoder}: give the path of a file '
            f'of {found.weights}'
        )
    return 'keras'


def _layers(backbone: Backbone, fully_connected: int) -> dict:
    """Return a backbone's parameters; of a VGG-16 with so many of its fully connected layers."""
    return shortened(backbone.params, fully_connected) if backbone.vgg else backbone.params


def fine_tuned(config: ConfigDict) -> Backbone:
    """All weights that `train.start` names: a run's best checkpoint, or a published model.

    Raises:
      ValueError: it is no such folder, or its method is another than the config's.
    """
    given = config.train.start
    name, which = locate.split(given)
    run = locate.find(name)
    if not header.config_file(run).exists():
        raise ValueError(
            f'config.train.start is {given}, a folder in which nothing was trained: it has no config.json'
        )
    before = config_rules.stored_config(run)
    now, then = config.model.to_dict(), before.model.to_dict()
    for name in sorted(
        (now.keys() | then.keys()) - set(NOT_OF_WEIGHTS), key=lambda name: (name != 'name', name)
    ):
        if now.get(name) != then.get(name):
            raise ValueError(
                f'config.model.{name} is {now.get(name)!r}, but {given}, from which the training is to start, has '
                f'{then.get(name)!r}: take --config configs/finetune.py:start={given}, which has all of its model'
            )
    if config.data.name != 'shapes5i':
        warn_of_drawn_shapes(before, given)
    if config.model.convention not in ('auto', before.model.convention):
        raise ValueError(
            f'config.model.convention is {config.model.convention!r}, but {given} has the convention '
            f"{before.model.convention!r}; leave it 'auto'"
        )
    method = Method.from_config(before)
    variables, step = restore_variables(
        method, run, which, sharding.replicated(sharding.make_mesh())
    )
    params = jax.tree.map(np.asarray, variables['params'])
    source = f'{before.model.name} of {run}, step {step}, trained on {data_word(before)}, fold {before.fold}'
    return Backbone(params, before.model.convention, source)


def backbone_weights(weights: str) -> str | Backbone:
    """Return the given weights; for a work directory, the backbone that it trained.

    Returns:
      For `features.load_extractor`: a file, the word 'keras', or the backbone at the latest checkpoint.
    Raises:
      ValueError: a folder in which nothing was trained, or without a readable checkpoint.
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


def _kind(backbone: Backbone | str) -> str:
    if isinstance(backbone, Backbone):
        return 'a VGG-16' if backbone.vgg else 'a ResNet' if backbone.resnet else 'another network'
    return {registry.VGG: 'a VGG-16', registry.RESNET: 'a ResNet'}.get(backbone, 'another network')


def _check_fits(model, network, backbone: Backbone) -> None:
    """Refuse `model.weights` that names a work directory with another backbone than this model's."""
    kind, own = _kind(backbone), _kind(registry.find(model.encoder).network)
    if kind != own:
        own = model.encoder if own == 'another network' else own
        raise ValueError(
            f'config.model.weights is {model.weights}, which has {kind}, but this {model.name} stands '
            f'on {own}: give weights of such a one'
        )
    if kind == 'another network':
        _check_shapes(model, network, backbone)
        return
    vgg = backbone.vgg
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
    if not vgg and backbone.deep_stem != network.deep_stem:
        kind = 'a' if backbone.deep_stem else 'no'
        raise ValueError(
            f'config.model.weights is {model.weights}, which has {kind} deep stem, unlike this {model.name}: add or '
            'leave out the word deep_stem'
        )
    if not vgg and backbone.depths != network.depths:
        raise ValueError(
            f'config.model.depths is {network.depths}, but the backbone in {model.weights} has {backbone.depths}'
        )


def _check_shapes(model, network, backbone: Backbone) -> None:
    side = registry.find(model.encoder).grid.nearest(33)
    wanted = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, side, side, 3)))
    shapes = [jax.tree.map(np.shape, params) for params in (wanted['params'], backbone.params)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f'config.model.weights is {model.weights}, whose encoder is not {model.encoder} of width {model.width}: '
            'give weights of such a one'
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
      sharding: of the restored arrays.
    Raises:
      ValueError: there is no checkpoint, none of that name, or none that can be read.
    """
    file = header.of(workdir)
    if file:
        return _published(file, which, sharding)
    # Orbax is slow to import, and a published model does not need it.
    from simpropnet_jax.runtime import checkpoint

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


def exist(workdir: AnyPath) -> bool:
    """Whether a folder has trained weights: checkpoints, or a published model."""
    if header.of(workdir):
        return True
    from simpropnet_jax.runtime import checkpoint

    return checkpoint.exist(workdir)


def _published(file: Path, which: str, sharding: jax.sharding.Sharding) -> Loaded:
    """Read the weights of a published model.

    Raises:
      ValueError: the file is damaged, or `which` is another step.
    """
    step = header.read_about(file)['step']
    if which not in ('best', str(step)):
        raise ValueError(
            f'{file} is a published model, which has only step {step}: leave out @{which}'
        )
    model = model_file.read(file)
    logger.info('weights: %s', locate.describe(file))
    return Loaded({'params': jax.device_put(model.params, sharding)}, step, None)


def warn_of_drawn_shapes(config: ConfigDict, name: object) -> None:
    """Warn that weights which were trained on drawn shapes do not fit photographs.

    Args:
      config: of the training.
      name: of the run or model, for the log.
    """
    if config.data.name == 'shapes5i':
        logger.warning(
            '%s was trained on drawn shapes. Its masks of photographs are noise: leave out --checkpoint to use the '
            'bundled model, or train on photographs',
            name,
        )


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
