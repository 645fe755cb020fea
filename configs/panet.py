"""PANet, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its own paper and code.

    simpropnet train --config panet:fold=2 --workdir runs/panet2
    simpropnet train --config panet:fold=2,cpu --workdir runs/panet2   (two CPU cores, minutes)

With `crc` the soft cycle replaces prototype alignment, which is the same cycle with a hard mask.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('panet')
    config.model.features = 256  # filters of the 3x3 layer behind ResNet-50

    config.train.alignment = True  # PANet, 3.4
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """Train as published: all of VGG-16, one episode per step, for 30,000 steps of 417 x 417."""
    config.model.encoder = 'vgg16'  # as published
    config.train.frozen = ()  # all of it is trained
    config.train.size = config.eval.size = 417  # as published
    config.train.sampling = 'classes'  # as released: a class at random, then images of it
    config.data.tiny_rule = 'none'  # as released: objects of any size
    config.train.batch = 1  # as published
    config.train.steps = 30_000  # as published
    config.train.learning_rate = 1e-3  # constant; the paper: 1/10 at 10,000 and 20,000
    config.train.support_scale = 1.0  # off
    config.select.every = 5_000  # six times in a training


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 1e-2  # falling to zero; 4e-2 does as well
