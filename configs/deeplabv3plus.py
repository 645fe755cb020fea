"""DeepLab v3+, trained on all 20 classes: the supervised oracle to which few-shot methods are compared.

    simpropnet train --config deeplabv3plus --workdir runs/oracle
    simpropnet oracle --checkpoint runs/oracle --out runs/oracle/labels

The second command prints its val mIoU and writes its label maps. The word cpu: two CPU cores, minutes, far weaker.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('deeplab')
    config.model.depths = (3, 4, 6, 3)  # blocks per stage; (3, 4, 23, 3): ResNet-101
    config.model.features = 256  # filters of the pyramid and of the decoder

    config.data.tiny_rule = 'none'  # train on every image
    config.train.classes = 'all'  # an oracle knows the novel classes
    config.train.epochs = 34  # of pairs, as many as 50 of images: an image has 1.5 classes
    config.train.batch = 16  # images
    config.train.size = 513  # 16n+1 fits output stride 16; crops of images scaled by 0.5 to 2
    config.train.learning_rate = 7e-3  # DeepLab v3+'s
    config.train.poly_power = 0.9  # DeepLab v3+'s
    config.train.frozen = ()  # all of it is trained
    config.select.on = 'val'  # a supervised network's
    config.eval.size = 513  # as in training
    return common.apply(config, argument, {'cpu': cpu})


def cpu(config: ConfigDict) -> None:
    """Train for minutes on two CPU cores: the pyramid stands on a frozen layer3; not for anyone's numbers."""
    config.model.depths = (3, 4, 6)  # no layer4
    config.model.features = 128  # half
    config.model.dtype = 'auto'  # the faster one on this machine
    config.train.frozen = ('backbone',)  # only the pyramid and the decoder are trained
    config.train.size = 161  # 16n+1
    config.train.batch = 8  # images
    config.train.steps = 1000  # minutes
    config.train.learning_rate = 1e-2  # falling to zero
    config.train.foreground_weight = 4.0  # else so few steps find only background
    config.train.sampling = 'classes'  # else they see mostly persons and dogs
    config.select.every = 500  # twice in a training
    config.eval.size = 161  # as in training
