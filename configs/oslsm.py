"""OSLSM, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its own paper and code.

python train.py --config configs/oslsm.py:fold=2 --workdir runs/oslsm2
python train.py --config configs/oslsm.py:fold=2,cpu --workdir runs/oslsm2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'oslsm'  # which method this is; the fields below are its own
    config.model.encoder = (
        'resnet50'  # or 'vgg16', as published: the argument vgg16 has the rest of that recipe
    )
    config.model.weights = (
        'keras'  # ImageNet's: 'keras' downloads them; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.convention = (
        'auto'  # input and stride convention of the backbones; 'auto': the one of the weights
    )
    config.model.width = 64  # filters of the backbones' first layer
    config.model.features = 256  # filters of the layers behind ResNet-50
    config.model.dropout = 0.5  # behind every layer but the last ones, as VGG-16 has it
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.train.frozen = (
        'backbone',
        'conditioning',
        'hashing',
    )  # the hashing is random and stays so
    config.train.initial_gain = (
        1.0  # three new layers, one after the other, would hardly learn from N(0, 0.01)
    )
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """As released: two whole VGG-16 are trained, ten pairs a step, for 60,000 steps."""
    config.model.encoder = 'vgg16'
    config.train.frozen = ('hashing',)
    config.train.initial_gain = 0.0
    config.train.size = config.eval.size = (
        513  # 32n+1; the released test has 500, its training the images' own
    )
    config.train.batch = (
        10  # the released solver adds up the gradients of ten pairs, one at a time (iter_size)
    )
    config.train.steps = 60_000
    config.train.learning_rate = (
        2.5e-5  # 1e-10 of the sum over 500 x 500 pixels; there a tenth for the conditioning
    )
    config.train.momentum = 0.99
    config.train.weight_decay = 2e-9  # 5e-4 beside that sum
    config.train.support_scale = 1.0
    config.train.support_flip = False
    config.select.every = 5_000


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.model.dropout = (
        0.1  # or the weights that supports are turned into are noise for so few steps
    )
