"""SG-One, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its own paper and code.

simpropnet train --config sgone:fold=2 --workdir runs/sgone2
simpropnet train --config sgone:fold=2,cpu --workdir runs/sgone2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('sgone')
    config.model.features = 256  # filters of the guidance branch; as published, on VGG-16, 512
    config.model.shots = 'average'  # K supports: 'average' of vectors or 'union' of the K masks

    config.train.initial_gain = 0.9  # the release's Xavier deviation is 0.7 to 0.9 of He's
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """Train as published: all of VGG-16, one episode per step, for 100,000 steps."""
    config.model.encoder = 'vgg16'  # as published
    config.model.features = 512  # as published
    config.train.frozen = ()  # all of it is trained
    config.train.size = config.eval.size = 417  # released: own sizes, about 375 x 500
    config.train.batch = 1  # as published
    config.train.steps = 100_000  # as published
    config.train.learning_rate = 1e-5  # released: guidance layer x 10, biases x 2
    config.train.momentum = 0.99  # as released
    config.train.support_scale = 1.0  # off
    config.train.support_flip = False  # off
    config.select.every = 5_000  # twenty times in a training


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 5e-3  # CANet's `cpu` rate times its factor, falling to zero
    config.train.foreground_weight = 2.5  # else so short a training misses novel objects
