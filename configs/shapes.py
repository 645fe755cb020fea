"""SimPropNet on shapes5i, the embedded data set: no data and no weights needed, minutes on two CPU cores.

    python demo.py --workdir runs/demo             (all of it; or: make demo)
    python train.py --config configs/shapes.py:backbone --workdir runs/backbone           (or one after the other)
    python train.py --config configs/shapes.py --config.model.weights=runs/backbone --workdir runs/shapes

No ImageNet weights can be had without a download, so a narrow ResNet is first trained, end to end, to name the base
classes (argument: backbone); SimPropNet then stands on it, frozen, as in the paper.
"""

from ml_collections import ConfigDict

from configs import common, simpropnet


def get_config(argument: str = '') -> ConfigDict:
    config = simpropnet.get_config()
    config.data.name = 'shapes5i'
    config.data.dir = 'runs'  # drawn there at first use, about a minute
    config.data.tiny_rule = 'none'
    config.data.drop_novel_images = True
    config.model.weights = 'runs/demo/backbone'  # work directory of the backbone's training
    config.model.width = 16
    config.model.features = 48
    config.model.dropout = 0.3
    config.model.attention_gain = 1000.0
    config.train.size = 97
    config.train.batch = 8
    config.train.steps = 300
    config.train.optimizer = 'adamw'
    config.train.learning_rate = 2e-3
    config.train.ica = 0.0  # colour is random here as it is
    config.train.turn = True
    config.train.clip = 1.0
    config.train.foreground_weight = (
        2.5  # so short a training is less sure of novel objects than of base ones
    )
    config.train.poly_power = 0.9
    config.train.warmup_steps = 20
    config.train.sampling = 'classes'
    config.train.support_scale = 1.0
    config.train.log_every = 50
    config.select.on = 'last'
    config.select.every = 300
    config.select.episodes = 100
    config.eval.size = 97
    config.eval.label_size = 129
    config.eval.own_size = False
    config.eval.episodes = 500
    config.eval.seeds = (0,)
    return common.apply(config, argument, {'backbone': backbone})


def backbone(config: ConfigDict) -> None:
    """The training that the backbone comes from: supervised, in four times as many steps."""
    convention, width, dtype = config.model.convention, config.model.width, config.model.dtype
    config.model = ConfigDict(
        {
            'name': 'classifier',
            'weights': '',
            'convention': convention,
            'width': width,
            'dtype': dtype,
        }
    )
    config.train.frozen = ()
    config.train.foreground_weight = 1.0
    config.train.clip = 0.0
    config.train.batch = 2 * config.train.batch  # images, not pairs
    config.train.steps = 4 * config.train.steps
    config.train.warmup_steps = 4 * config.train.warmup_steps
    config.select.every = config.train.steps
