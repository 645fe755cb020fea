"""What the recipes share: the fields of every method, the short training, and the words after the colon."""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

from simpropnet_jax.backbones import registry
from simpropnet_jax.config import fields

Change = Callable[[ConfigDict], None]
"""A word after the colon: a function that changes a config."""


def base(method: str = '') -> ConfigDict:
    """Return the recipe of CANet's and SimPropNet's papers, as far as it does not depend on the method.

    Args:
      method: `config.model.name`. config.model then has the fields that every method has; without it, it is empty.
    """
    config = ConfigDict({name: field.default for name, field in fields.TOP.items()})
    for section in fields.SECTIONS:
        config[section] = ConfigDict(fields.section_defaults(section))
    if method:
        config.model.name = method
    else:
        config.model = ConfigDict()
    return config


def minutes(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores, whatever the method: small images, few steps, a rate that falls."""
    config.data.drop_novel_images = True  # else novel objects are learned as background
    config.train.size = 225  # 8n+1
    config.train.batch = 4  # half the papers'
    config.train.steps = 500  # instead of epochs
    config.train.poly_power = 0.9  # the rate falls to zero
    config.train.sampling = 'classes'  # else a few hundred steps see mostly persons and dogs
    config.train.support_scale = 1.0  # off
    config.model.dtype = 'auto'  # the faster one on this machine
    config.eval.size = 225  # as in training
    config.select.every = 250  # twice in a training
    config.select.episodes = 200  # selection takes seconds


def all_classes(config: ConfigDict) -> None:
    """Train on every class, for use rather than for a benchmark: no class is novel."""
    config.train.classes = 'all'
    config.data.drop_novel_images = False  # no class is novel
    config.select.on = 'base_val'  # other images of the same classes


def crc(config: ConfigDict) -> None:
    """Add cyclic reinforcement, in place of the same cycle with a hard mask."""
    config.train.crc = True  # the soft cycle
    config.train.alignment = False  # the hard cycle


def tpc(when: str) -> Change:
    """Return a word that adds transformed-pair conditioning.

    A training of a fixed number of steps keeps this number, conditioning included.
    """

    def add_conditioning(config: ConfigDict) -> None:
        if config.tpc.when != 'never':
            raise ValueError(
                'only one of tpc, tpc_mixed and tpc_after can be given: a training has one conditioning'
            )
        config.tpc.when = when  # 'before', 'mixed' or 'after'
        if when == 'after':
            config.tpc.epochs //= 3  # the paper's control has 10 epochs where it has 30 before
        if config.train.steps and when in ('before', 'after'):
            config.tpc.steps = max(config.train.steps // 7, 1)  # the paper's 30 of 230 epochs
            config.train.steps -= config.tpc.steps

    return add_conditioning


def own(config: ConfigDict) -> None:
    """Use your own images, in a folder that `simpropnet prepare folder` wrote: few images, of any size."""
    config.data.name = 'folder'  # your own images
    config.data.tiny_rule = 'none'  # objects of any size
    config.train.sampling = 'classes'  # classes may have few images
    config.select.episodes = 200  # few images
    config.eval.protocol = 'folder'  # for few images
    config.eval.shots = (1,)  # a class may have too few images for five supports


def coco(config: ConfigDict) -> None:
    """Use COCO-20i, as `simpropnet prepare coco20i` prepared it."""
    config.data.name = 'coco20i/complete'
    config.data.tiny_rule = 'px2048'  # the rule of the papers' lists
    config.eval.protocol = 'hsnet_coco'  # most papers'


def fss(config: ConfigDict) -> None:
    """Use FSS-1000, as `simpropnet prepare fss1000` prepared it: one fold."""
    config.data.name = 'fss1000/complete'
    config.data.tiny_rule = 'none'  # every image is listed
    config.select.on = 'base_val'  # the 240 validation classes
    config.eval.protocol = 'hsnet_fss'  # every test image once


def resnet101(config: ConfigDict) -> None:
    """Use ResNet-101 in place of ResNet-50, with as many stages as the method has."""
    config.model.encoder = _variant(config, 'resnet101', 'resnet50', 'resnet101')
    if 'depths' in config.model:
        whole = len(config.model.depths) == 4
        config.model.depths = (3, 4, 23, 3) if whole else (3, 4, 23)  # blocks per stage


def deep_stem(config: ConfigDict) -> None:
    """Use weights whose ResNet begins with three 3x3 convolutions: resnet50_v2.pth of PFENet and others."""
    config.model.encoder = _variant(config, 'deep_stem', '', '_v2')


def _variant(config: ConfigDict, word: str, old: str, new: str) -> str:
    """Return the name of another ResNet: `old` in its name is replaced by `new`, or `new` added."""
    name = config.model.encoder
    other = name.replace(old, new) if old else name + new
    if registry.find(name).network != registry.RESNET or other not in registry.ENCODERS:
        raise ValueError(f'the word {word} is for ResNets, but the encoder is {name}. Leave it out')
    return other


def encoder(config: ConfigDict, name: str) -> None:
    """Use an encoder of the registry, with the published weights and the nearest image sizes that fit it."""
    found = registry.find(name)
    config.model.encoder = name
    if config.model.weights == 'keras' and found.sha256:
        config.model.weights = registry.DOWNLOAD  # its published file
    if found.grid.half_pixel:
        for section in (config.train, config.eval):
            section.size = found.grid.nearest(section.size)  # whole patches


# Words that every method's recipe takes after the colon; other encoders than ResNets refuse the last two.
SHARED: dict[str, Change] = {
    'crc': crc,
    'tpc': tpc('before'),
    'tpc_mixed': tpc('mixed'),
    'tpc_after': tpc('after'),
    'resnet101': resnet101,
    'deep_stem': deep_stem,
}


def apply(config: ConfigDict, argument: str, switches: Mapping[str, Change]) -> ConfigDict:
    """Apply the words after the colon of `--config simpropnet:fold=2,cpu` to a config, and return it.

    Args:
      argument: words separated by commas, in any order: `fold=N`, `seed=N`, `encoder=NAME`, a switch, a data
        set's `own`, `coco` or `fss`, or one of `SHARED`. The encoder is set last.
      switches: word -> function that changes the config. They are applied in their own order, before `SHARED`.
    Raises:
      ValueError: another word was given.
    """
    words = [word for word in argument.split(',') if word]
    switches = {**switches, 'own': own, 'coco': coco, 'fss': fss, **SHARED}
    for word in words:
        name, _, value = word.partition('=')
        if name in ('fold', 'seed') and value.lstrip('-').isdigit():
            config[name] = int(value)
        elif word not in switches and name != 'encoder':
            allowed = ', '.join(['fold=N', 'seed=N', 'encoder=NAME', *switches])
            raise ValueError(
                f'unknown config argument {word!r}; allowed after the colon: {allowed}'
            )
    for word, switch in switches.items():
        if word in words:
            switch(config)
    for word in words:
        if word.startswith('encoder'):
            encoder(config, word.partition('=')[2])
    return config
