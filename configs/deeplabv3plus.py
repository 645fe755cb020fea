"""DeepLab v3+, trained on all 20 classes: the supervised oracle that few-shot methods are held against.

    python train.py --config configs/deeplabv3plus.py --workdir runs/oracle
    python -m simpropnet_jax.evaluation.oracle --workdir runs/oracle --out runs/oracle/labels

The second command prints its val mIoU and writes its label maps. Argument cpu: two CPU cores, minutes, far weaker.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base()
    config.model.name = 'deeplab'  # which method this is; the fields below are its own
    config.model.weights = (
        'keras'  # ImageNet ResNet-50: 'keras' downloads it; or a .h5 (Keras), .pth, .safetensors
    )
    config.model.convention = (
        'auto'  # input and stride convention of the backbone; 'auto': the one of the weights
    )
    config.model.width = 64  # filters of the ResNet's stem
    config.model.depths = (
        3,
        4,
        6,
        3,
    )  # blocks of its stages; (3, 4, 23, 3): ResNet-101; three numbers: no layer4
    config.model.features = 256  # filters of the pyramid and of the decoder
    config.model.dtype = (
        'float32'  # of the computation; 'bfloat16' on accelerators; parameters stay float32
    )

    config.data.tiny_rule = 'none'  # every image is trained on
    config.train.classes = 'all'
    config.train.epochs = 34  # of the pairs, as often as 50 of the images: one has 1.5 classes
    config.train.batch = 16
    config.train.size = (
        513  # 16n+1 fits the features at output stride 16; crops of images scaled by 0.5 to 2
    )
    config.train.learning_rate = 7e-3
    config.train.poly_power = 0.9
    config.train.frozen = ()
    config.select.on = 'val'
    config.eval.size = 513
    return common.apply(config, argument, {'cpu': cpu})


def cpu(config: ConfigDict) -> None:
    """Minutes on two CPU cores: the pyramid stands on a frozen layer3; not for anyone's numbers."""
    config.model.depths = (3, 4, 6)
    config.model.features = 128
    config.model.dtype = (
        'bfloat16'  # the cores' bfloat16 units (AMX) are 2.5 times as fast; elsewhere no loss
    )
    config.train.frozen = ('backbone',)
    config.train.size = 161
    config.train.batch = 8
    config.train.steps = 1000
    config.train.learning_rate = 1e-2
    config.train.foreground_weight = 4.0  # or so few steps find the background alone
    config.train.sampling = 'classes'  # or they see mostly persons and dogs
    config.select.every = 500
    config.eval.size = 161
