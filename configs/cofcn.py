"""co-FCN, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its authors' code trains it.

simpropnet train --config cofcn:fold=2 --workdir runs/cofcn2
simpropnet train --config cofcn:fold=2,cpu --workdir runs/cofcn2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('cofcn')
    config.model.features = 256  # filters of fc6; fc7 has three times as many
    config.model.dropout = 0.5  # dropout of whole channels
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """Train as published: all of VGG-16, one episode per step, for 100,000 steps."""
    config.model.encoder = 'vgg16'  # as published
    config.train.frozen = ()  # all of it is trained
    config.train.size = config.eval.size = 417  # released: own sizes, about 375 x 500
    config.train.batch = 1  # as published
    config.train.steps = 100_000  # as published
    config.train.learning_rate = 1e-6  # as released
    config.train.momentum = 0.99  # as released
    config.train.support_scale = 1.0  # off
    config.train.support_flip = False  # off
    config.select.every = 4_000  # 25 times in a training


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 5e-3  # CANet's `cpu` rate times its factor
    config.train.foreground_weight = 2.5  # CANet's
    config.train.initial_gain = 0.6  # CANet's
    config.model.dropout = 0.1  # CANet's
