"""SimPropNet on shapes5i, the built-in data set: no data and no weights needed, minutes on two CPU cores.

    simpropnet demo --workdir runs/demo            (all of it; or: make demo)
    simpropnet train --config shapes:backbone --workdir runs/backbone            (or one after the other)
    simpropnet train --config shapes --config.model.weights=runs/backbone --workdir runs/shapes

ImageNet weights need a download, so a narrow ResNet is first trained end to end to name the base classes (the word
backbone). SimPropNet then uses it, frozen, as in the paper.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common, recipes


def get_config(argument: str = '') -> ConfigDict:
    config = recipes.get('simpropnet')
    config.data.name = 'shapes5i'  # built in
    config.data.dir = 'runs'  # drawn there at first use, in about a minute
    config.data.tiny_rule = 'none'  # objects are large
    config.data.drop_novel_images = True  # else novel objects are learned as background
    config.model.weights = 'runs/demo/backbone'  # the run that trained the backbone
    config.model.width = 16  # narrow, for CPU cores
    config.model.features = 48  # narrow, for CPU cores
    config.model.dropout = 0.3  # less, as layers are narrow
    config.model.attention_gain = 1000.0  # else so short a training hardly looks at the support
    config.train.size = 97  # 8n+1
    config.train.batch = 8  # as in the paper
    config.train.steps = 300  # minutes
    config.train.optimizer = 'adamw'  # faster for so few steps
    config.train.learning_rate = 2e-3  # falling to zero
    config.train.ica = 0.0  # the shapes' colours are random already
    config.train.turn = True  # up and down mean nothing here
    config.train.clip = 1.0  # steadies 'adamw'
    config.train.foreground_weight = 2.5  # else so short a training misses novel objects
    config.train.poly_power = 0.9  # the rate falls to zero
    config.train.warmup_steps = 20  # keeps units alive
    config.train.sampling = 'classes'  # evenly
    config.train.support_scale = 1.0  # off
    config.train.log_every = 50  # six lines
    config.select.on = 'last'  # no selection
    config.select.every = 300  # at the end
    config.select.episodes = 100  # seconds
    config.eval.size = 97  # as in training
    config.eval.label_size = 129  # the labels' own size
    config.eval.own_size = False  # the same as label_size
    config.eval.episodes = 500  # seconds
    config.eval.seeds = (0,)  # one set
    return common.apply(config, argument, {'backbone': backbone})


def backbone(config: ConfigDict) -> None:
    """Train the backbone: supervised, in four times as many steps."""
    shared = common.base('classifier').model  # the fields that every method has
    config.model = ConfigDict({name: config.model[name] for name in shared})
    config.model.name = 'classifier'  # names the base classes
    config.model.weights = ''  # from scratch
    config.train.frozen = ()  # all of it is trained
    config.train.foreground_weight = 1.0  # plain cross-entropy
    config.train.clip = 0.0  # no limit
    config.train.batch = 2 * config.train.batch  # images, not pairs
    config.train.steps = 4 * config.train.steps  # a backbone learns slowly
    config.train.warmup_steps = 4 * config.train.warmup_steps  # the same share
    config.select.every = config.train.steps  # at the end
