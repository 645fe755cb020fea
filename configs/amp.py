"""AMP, a network that names the base classes and imprints novel ones, on ResNet-50; with `vgg16` as published.

    simpropnet train --config amp:fold=2 --workdir runs/amp2
    simpropnet train --config amp:fold=2,cpu --workdir runs/amp2   (two CPU cores, minutes)

It learns the base classes from full labels, as supervised networks do. With `crc` or `tpc` a step also has episodes;
their class is treated as novel.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('amp')
    config.model.features = 256  # filters of the layer behind the backbone
    config.model.alpha = 0.25821  # share of the supports in the background's weight; as released
    config.model.dropout = 0.5  # dropout of channels before the deepest classifier; as released

    config.train.optimizer = 'adamw'  # like the released RMSprop, it ignores the features' length
    config.train.learning_rate = 1e-3  # usual for 'adamw'
    config.train.initial_gain = 1.0  # new layers in a row hardly learn from N(0, 0.01)
    config.train.poly_power = 0.9  # the rate falls to zero
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """Train as published: all of VGG-16, one image per step, for 300,000 steps."""
    config.model.encoder = 'vgg16'  # as published
    config.train.frozen = ()  # all of it is trained
    config.train.size = config.eval.size = 497  # published: own sizes; the test 500 x 500
    config.train.batch = 1  # as published
    config.train.steps = 300_000  # as published
    config.train.optimizer = 'rmsprop'  # as released
    config.train.learning_rate = 1e-6  # as released
    config.train.initial_gain = 0.0  # as released
    config.train.poly_power = 0.0  # constant
    config.train.support_scale = 1.0  # off
    config.select.every = 25_000  # twelve times in a training


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.foreground_weight = 4.0  # else so few steps find only background
    config.model.dropout = 0.0  # so few steps do not overfit
