"""co-FCN, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its authors' code trains it.

python train.py --config configs/cofcn.py:fold=2 --workdir runs/cofcn2
python train.py --config configs/cofcn.py:fold=2,cpu --workdir runs/cofcn2   (two CPU cores, minutes)
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'cofcn'  # which method this is; the fields below are its own
    config.model.encoder = (
        'resnet50'  # or 'vgg16', as published: the argument vgg16 has the rest of that recipe
    )
    config.model.weights = (
        'keras'  # ImageNet's: 'keras' downloads them; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.convention = (
        'auto'  # input and stride convention of the backbone; 'auto': the one of the weights
    )
    config.model.width = 64  # filters of the backbone's first layer
    config.model.features = 256  # filters of fc6; fc7 has three times as many
    config.model.dropout = 0.5  # of whole channels
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """As published: all of VGG-16 is trained, one episode a step, for 100,000 steps."""
    config.model.encoder = 'vgg16'
    config.train.frozen = ()
    config.train.size = config.eval.size = (
        417  # the release takes images as they are, one a step: about 375 x 500
    )
    config.train.batch = 1
    config.train.steps = 100_000
    config.train.learning_rate = 1e-6
    config.train.momentum = 0.99
    config.train.support_scale = 1.0
    config.train.support_flip = False
    config.select.every = 4_000


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = (
        5e-3  # as CANet's `cpu` recipe, times its factor; and so the three below
    )
    config.train.foreground_weight = 2.5
    config.train.initial_gain = 0.6
    config.model.dropout = 0.1
