"""How H-PASCAL-5i is built; not a method, but for `simpropnet hpascal build`.

simpropnet hpascal build --config.oracle=runs/oracle/labels --out hpascal.json
"""

from ml_collections import ConfigDict


def get_config(argument: str = '') -> ConfigDict:
    if argument:
        raise ValueError(f'the recipe hpascal takes no words after the colon, got {argument!r}')
    config = ConfigDict()
    config.folds = (0, 1, 2, 3)  # folds in the file
    config.oracle = 'runs/oracle/labels'  # label maps ID.png of a network; the paper: DeepLab v3+

    config.data = data = ConfigDict()
    data.name = 'pascal5i/sbd'  # pascal5i/sbd, /aug or /subset (prepared), or shapes5i (built in)
    data.dir = '~/tensorflow_datasets'  # folder of the prepared data; shapes5i is drawn there
    data.image_list = 'val'  # images of queries and supports
    data.tiny_rule = 'oslsm'  # too small objects: 'oslsm' (CANet), 'px2048' (PFENet), 'none'
    data.loader = 'auto'  # 'tfdata', 'threads' (no TensorFlow), 'auto': tf.data if it is installed

    config.features = features = ConfigDict()  # similarity: L2 distance of means over images
    features.network = 'resnet101'  # 'resnet101' (paper; last layer), 'vgg16', 'resnet50' (layer3)
    features.weights = 'keras'  # 'keras' (download), a .h5; for a ResNet: .pth, .safetensors, a run
    features.size = 224  # side of the square that images are stretched to; the paper does not say
    features.batch = 16  # images at a time

    config.partitions = partitions = ConfigDict()
    partitions.rule = 'sigma'  # easy, large: 'sigma' off the mean (paper), 'quantile', 'halves'
    partitions.sigmas = 1.0  # with 'sigma': standard deviations off the mean
    partitions.share = 0.16  # with 'quantile': share of pairs at each end; a sigma cuts 0.16
    partitions.supports = 5  # k most, or least, similar images; the paper does not say
    partitions.episodes = 50  # per class and partition, queries repeat; the paper does not say
    partitions.cell = 4  # fewest queries per class and partition, else the next rule; 0: off
    partitions.partition = 20  # fewest queries of a partition, else it is empty
    partitions.seed = 0  # seed of the order of queries
    return config
