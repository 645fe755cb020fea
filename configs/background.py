"""How alike the backgrounds of a class's images are; no method: for simpropnet_jax.analysis.background.

python -m simpropnet_jax.analysis.background --out background.png
"""

from ml_collections import ConfigDict


def get_config(argument: str = '') -> ConfigDict:
    if argument:
        raise ValueError(
            f'unknown config argument {argument!r}; configs/background.py takes none after the colon'
        )
    config = ConfigDict()
    config.pairs = (
        4000  # pairs of images of one class, the same number of each class: as many as in the paper
    )
    config.seed = 0  # of the pairs

    config.data = data = ConfigDict()
    data.name = 'pascal5i/sbd'  # pascal5i/sbd, pascal5i/aug or pascal5i/subset, prepared; or shapes5i, the embedded one
    data.dir = '~/tensorflow_datasets'  # where the command that prepares it put it; shapes5i is drawn there
    data.image_list = 'val'  # the images; the paper does not say which. Or 'trainaug'
    data.tiny_rule = 'oslsm'  # which objects are too small to list: 'oslsm' (CANet's), 'px2048' (PFENet's), 'none'
    data.loader = 'auto'  # 'tfdata', 'threads' (no TensorFlow), or 'auto': tf.data where TensorFlow is installed

    config.features = features = ConfigDict()
    features.network = 'resnet50'  # ImageNet's: 'resnet50', 'resnet101' or 'vgg16'
    features.levels = (
        'layer2',
        'layer3',
    )  # the paper's, of one stride, one after the other; (): the network's last
    features.weights = 'keras'  # 'keras' downloads them; .h5 (Keras); of a ResNet .pth, .safetensors, a work directory
    features.size = 321  # side of the square that images are stretched to
    features.batch = 8  # images at a time
    return config
