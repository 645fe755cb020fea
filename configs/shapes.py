"""SimPropNet on shapes5i, the embedded data set: no data and no weights needed, minutes on two CPU cores.

    python train.py --config configs/shapes.py --workdir runs/shapes       (or all of it: make demo)

No ImageNet weights can be had without a download, so a narrow ResNet is trained with the rest, end to end.
"""

from ml_collections import ConfigDict

from configs import common, simpropnet


def get_config(argument: str = '') -> ConfigDict:
    config = simpropnet.get_config()
    config.data.name = 'shapes5i'
    config.data.dir = 'runs'  # drawn there at first use, half a minute
    config.data.tiny_rule = 'none'
    config.data.drop_novel_images = True
    config.model.weights = ''  # none: the backbone starts at random
    config.model.width = 16
    config.model.features = 64
    config.model.dropout = 0.0
    config.model.attention_gain = 100.0
    config.train.frozen = ()
    config.train.size = 129
    config.train.batch = 8
    config.train.steps = 1500
    config.train.learning_rate = 1e-2
    config.train.poly_power = 0.9
    config.train.sampling = 'classes'
    config.train.support_scale = 1.0
    config.select.on = 'last'
    config.select.every = 500
    config.select.episodes = 100
    config.eval.size = 129
    config.eval.label_size = 129
    config.eval.own_size = False
    config.eval.episodes = 500
    config.eval.seeds = (0,)
    return common.apply(config, argument, {})
