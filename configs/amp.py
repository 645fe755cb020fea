"""AMP, a network that names the base classes and imprints novel ones, on ResNet-50; with `vgg16` as published.

    python train.py --config configs/amp.py:fold=2 --workdir runs/amp2
    python train.py --config configs/amp.py:fold=2,cpu --workdir runs/amp2   (two CPU cores, minutes)

It is trained as supervised networks are, on whole labels of the base classes. With `crc` or `tpc` a step has episodes
besides: their class is met as though it were novel.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'amp'  # which method this is; the fields below are its own
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
    config.model.features = 256  # filters of the layer behind the backbone
    config.model.alpha = (
        0.25821  # share of the supports' background in the background's weight; the released code's
    )
    config.model.dropout = (
        0.5  # of whole channels of the deepest level, before its classifier (the released code)
    )
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.train.optimizer = (
        'adamw'  # its steps, as those of the released RMSprop, do not know how long features are
    )
    config.train.learning_rate = 1e-3
    config.train.initial_gain = 1.0
    config.train.poly_power = 0.9
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """As published: all of VGG-16 is trained, one image a step, for 300,000 steps."""
    config.model.encoder = 'vgg16'
    config.train.frozen = ()
    config.train.size = config.eval.size = (
        497  # it is trained at each image's own size, and tested at 500 x 500
    )
    config.train.batch = 1
    config.train.steps = 300_000
    config.train.optimizer = 'rmsprop'
    config.train.learning_rate = 1e-6
    config.train.initial_gain = 0.0
    config.train.poly_power = 0.0
    config.train.support_scale = 1.0
    config.select.every = 25_000


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.train.foreground_weight = 4.0  # or so few steps find the background alone
    config.model.dropout = 0.0  # so few steps do not overfit
