"""CANet, the baseline of SimPropNet's paper, as its own paper and released code train it.

simpropnet train --config canet:fold=2 --workdir runs/canet2
simpropnet train --config canet:fold=2,cpu --workdir runs/canet2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('canet')
    config.model.trained = ''  # a CANet trained by the released PyTorch code: .pth, .safetensors
    config.model.features = 256  # filters of every layer of the head
    config.model.dropout = 0.5  # dropout of whole channels
    config.model.shots = 'average'  # K supports: 'average' or 'attention' (with train.shot > 1)
    config.model.refinements = 4  # passes after the first, which refine; none in training

    config.train.epochs = 200  # CANet's
    config.train.batch = 4  # CANet's; SimPropNet has 8, CRC + TPC 24
    config.train.learning_rate = 2.5e-4  # CANet's; constant
    config.train.rate_factor = 10.0  # CANet's, of the head, which is all that is trained
    config = common.apply(config, argument, {'cpu': cpu})
    if not config.train.steps and (config.train.crc or config.tpc.when != 'never'):
        config.train.batch = 24  # Improved Similarity Propagation, 4.3
        config.train.learning_rate = 2.5e-5  # 4.3; CANet's code multiplies it by 10
    return config


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: small images, few steps, a fast recipe; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 5e-4  # twice the paper's, falling to zero
    config.train.initial_gain = 0.6  # with the next two: learns 100 to 200 steps sooner
    config.model.dropout = 0.1  # see initial_gain
    config.train.foreground_weight = 2.5  # see initial_gain
    config.train.history_drop = 1.0  # so few steps hardly see a pair twice
    config.model.refinements = 0  # else the test would use layers that were never trained
