"""The training-free prototype: nothing to train, evaluated by the same command.

python eval.py --config configs/prototype.py:fold=1 --workdir runs/prototype1
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'prototype'  # which method this is; the fields below are its own
    config.model.weights = (
        'keras'  # ImageNet ResNet-50: 'keras' downloads it; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.convention = (
        'auto'  # input and stride convention of the backbone; 'auto': the one of the weights
    )
    config.model.width = 64  # filters of the ResNet's stem
    config.model.dtype = 'float32'  # of the computation; 'bfloat16' on accelerators
    return common.apply(config, argument, {'cpu': lambda config: config.eval.update(size=225)})
