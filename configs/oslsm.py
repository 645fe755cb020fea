"""OSLSM, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its own paper and code.

simpropnet train --config oslsm:fold=2 --workdir runs/oslsm2
simpropnet train --config oslsm:fold=2,cpu --workdir runs/oslsm2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('oslsm')
    config.model.features = 256  # filters of the layers behind ResNet-50
    config.model.dropout = 0.5  # dropout behind every layer but the last ones, as in VGG-16

    config.train.frozen = ('backbone', 'conditioning', 'hashing')  # the hashing stays random
    config.train.initial_gain = 1.0  # three new layers in a row would hardly learn from N(0, 0.01)
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """Train as released: two whole VGG-16, ten pairs per step, for 60,000 steps."""
    config.model.encoder = 'vgg16'  # as published
    config.train.frozen = ('hashing',)  # the rest is trained
    config.train.initial_gain = 0.0  # no new layers
    config.train.size = config.eval.size = 513  # 32n+1; released: 500 in the test
    config.train.batch = 10  # the released solver sums the gradients of ten pairs (iter_size)
    config.train.steps = 60_000  # as released
    config.train.learning_rate = 2.5e-5  # 1e-10 of a sum over 500 x 500; conditioning: 1/10
    config.train.momentum = 0.99  # as released
    config.train.weight_decay = 2e-9  # 5e-4 next to that sum
    config.train.support_scale = 1.0  # off
    config.train.support_flip = False  # off
    config.select.every = 5_000  # twelve times in a training


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.model.dropout = 0.1  # else the weights made from supports are noise for so few steps
