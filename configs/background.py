"""How similar the backgrounds of a class's images are; not a method, but for `simpropnet diagnose background`.

simpropnet diagnose background --out background.png
"""

from ml_collections import ConfigDict


def get_config(argument: str = '') -> ConfigDict:
    if argument:
        raise ValueError(f'the recipe background takes no words after the colon, got {argument!r}')
    config = ConfigDict()
    config.pairs = 4000  # pairs of images of one class, equally many per class; the paper's
    config.seed = 0  # seed of the pairs

    config.data = data = ConfigDict()
    data.name = 'pascal5i/sbd'  # pascal5i/sbd, /aug or /subset (prepared), or shapes5i (built in)
    data.dir = '~/tensorflow_datasets'  # folder of the prepared data; shapes5i is drawn there
    data.image_list = 'val'  # images to use: 'val' or 'trainaug'; the paper does not say
    data.tiny_rule = 'oslsm'  # too small objects: 'oslsm' (CANet), 'px2048' (PFENet), 'none'
    data.loader = 'auto'  # 'tfdata', 'threads' (no TensorFlow), 'auto': tf.data if it is installed

    config.features = features = ConfigDict()
    features.network = 'resnet50'  # ImageNet's 'resnet50', 'resnet101' or 'vgg16'
    features.levels = ('layer2', 'layer3')  # concatenated, of one stride (paper); (): the last
    features.weights = 'keras'  # 'keras' (download), a .h5; for a ResNet: .pth, .safetensors, a run
    features.size = 321  # side of the square that images are stretched to
    features.batch = 8  # images at a time
    return config
