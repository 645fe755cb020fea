"""CANet, the baseline of SimPropNet's paper, as its own paper and released code train it.

python train.py --config configs/canet.py:fold=2 --workdir runs/canet2
python train.py --config configs/canet.py:fold=2,cpu --workdir runs/canet2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'canet'  # which method this is; the fields below are its own
    config.model.weights = (
        'keras'  # ImageNet ResNet-50: 'keras' downloads it; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.trained = (
        ''  # a CANet that the released PyTorch code trained: .pth or .safetensors
    )
    config.model.convention = (
        'auto'  # of input and strides; 'auto': the weights'; 'canet': the released code's quirk
    )
    config.model.width = 64  # filters of the ResNet's stem
    config.model.features = 256  # filters of every layer of the head
    config.model.dropout = 0.5  # of whole channels
    config.model.shots = 'average'  # K supports: the mean of their averages, or 'attention', which needs train.shot > 1
    config.model.refinements = (
        4  # passes after the first, each sees the answer of the one before; in training none
    )
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.train.epochs = 200  # CANet's
    config.train.batch = 4  # CANet's; SimPropNet has 8, CRC + TPC 24
    config.train.learning_rate = 2.5e-4  # CANet's; constant
    config.train.rate_factor = 10.0  # CANet's, of the head, which is all that is trained
    config = common.apply(config, argument, {'cpu': cpu})
    if not config.train.steps and (config.train.crc or config.tpc.when != 'never'):
        config.train.batch = 24  # Improved Similarity Propagation, 4.3
        config.train.learning_rate = (
            2.5e-5  # the same; read as the released code's flag, which that multiplies by ten
        )
    return config


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 5e-4  # twice the paper's, falling to zero
    config.train.initial_gain = (
        0.6  # with this and the two below it begins to learn 100 to 200 steps sooner
    )
    config.model.dropout = 0.1
    config.train.foreground_weight = 2.5
    config.train.history_drop = 1.0  # so few steps hardly see a pair twice
    config.model.refinements = 0  # or the test would use what was never trained
