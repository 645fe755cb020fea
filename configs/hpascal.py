"""How H-PASCAL-5i is built; no method: for simpropnet_jax.analysis.hierarchy_build.

python -m simpropnet_jax.analysis.hierarchy_build --config.oracle=runs/oracle/labels --out hpascal.json
"""

from ml_collections import ConfigDict


def get_config(argument: str = '') -> ConfigDict:
    if argument:
        raise ValueError(
            f'unknown config argument {argument!r}; configs/hpascal.py takes none after the colon'
        )
    config = ConfigDict()
    config.folds = (0, 1, 2, 3)  # those that the file is to have
    config.oracle = (
        'runs/oracle/labels'  # a supervised network's label maps, ID.png; DeepLab v3+ in the paper
    )

    config.data = data = ConfigDict()
    data.name = 'pascal5i/sbd'  # pascal5i/sbd, pascal5i/aug or pascal5i/subset, prepared; or shapes5i, the embedded one
    data.dir = '~/tensorflow_datasets'  # where the command that prepares it put it; shapes5i is drawn there
    data.image_list = 'val'  # queries and supports are of these images
    data.tiny_rule = 'oslsm'  # which objects are too small to list: 'oslsm' (CANet's), 'px2048' (PFENet's), 'none'
    data.loader = 'auto'  # 'tfdata', 'threads' (no TensorFlow), or 'auto': tf.data where TensorFlow is installed

    config.features = features = (
        ConfigDict()
    )  # by which images are similar: their mean over the image, L2 distance
    features.network = 'resnet101'  # the paper's, its last features; 'vgg16'; 'resnet50': layer3, our methods' encoder
    features.weights = 'keras'  # 'keras' downloads them; .h5 (Keras); of a ResNet .pth, .safetensors, a work directory
    features.size = (
        224  # side of the square that whole images are stretched to; the paper does not say
    )
    features.batch = 16  # images at a time

    config.partitions = partitions = ConfigDict()
    partitions.rule = 'sigma'  # easy, large: 'sigma' off the class's mean (the paper), 'quantile', or 'halves' (median)
    partitions.sigmas = 1.0  # of 'sigma': standard deviations off the mean
    partitions.share = (
        0.16  # of 'quantile': share of a class's pairs at either end; as many as beyond a sigma
    )
    partitions.supports = (
        5  # the k most similar, or most dissimilar, of a query; the paper does not say
    )
    partitions.episodes = (
        50  # of each class in each partition, queries repeated; the paper does not say
    )
    partitions.cell = (
        4  # queries that a class must have at each difficulty and size, or the next rule; 0: never
    )
    partitions.partition = 20  # queries that a partition must have, or it is empty
    partitions.seed = 0  # of the order of queries
    return config
