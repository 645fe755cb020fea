"""PANet, trained as SimPropNet and CANet are, on ResNet-50; with `vgg16` as its own paper and code.

    python train.py --config configs/panet.py:fold=2 --workdir runs/panet2
    python train.py --config configs/panet.py:fold=2,cpu --workdir runs/panet2   (two CPU cores, minutes)

With `crc` the soft cycle takes the place of prototype alignment, which is the same cycle with a hard mask.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'panet'  # which method this is; the fields below are its own
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
    config.model.features = 256  # filters of the 3x3 layer behind ResNet-50
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.train.alignment = True
    return common.apply(config, argument, {'vgg16': vgg16, 'cpu': cpu})


def vgg16(config: ConfigDict) -> None:
    """As published: all of VGG-16 is trained, one episode a step, for 30,000 steps of 417 x 417."""
    config.model.encoder = 'vgg16'
    config.train.frozen = ()
    config.train.size = config.eval.size = 417
    config.train.sampling = (
        'classes'  # as released: a class at random, then images of it, of any size of object
    )
    config.data.tiny_rule = 'none'
    config.train.batch = 1
    config.train.steps = 30_000
    config.train.learning_rate = (
        1e-3  # constant here; the paper divides it by ten at 10,000 and 20,000 steps
    )
    config.train.support_scale = 1.0
    config.select.every = 5_000


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: small images, few steps, a recipe that learns fast; not for the paper's numbers."""
    common.minutes(config)
    config.train.learning_rate = 1e-2  # falling to zero; 4e-2 does as well
