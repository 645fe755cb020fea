"""Fine-tuning: a trained method goes on, on your own classes.

    python -m simpropnet_jax.datasets.folder photos --out prepared
    python train.py --config configs/finetune.py:start=runs/fold2 --config.data.dir=prepared --workdir runs/mine
    python eval.py --workdir runs/mine

The method and how it is trained are those of the work directory after start=; what is other is below. With the same
flags, eval.py before the training measures what it starts from.
"""

from ml_collections import ConfigDict

from configs import common
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import paths


def get_config(argument: str = '') -> ConfigDict:
    words = list(filter(None, argument.split(',')))
    start = next((word.removeprefix('start=') for word in words if word.startswith('start=')), '')
    if not start:
        raise ValueError(
            'say what to start from: --config configs/finetune.py:start=WORKDIR, which train.py wrote'
        )
    stored = paths.given(start) / 'config.json'
    if not stored.exists():
        raise ValueError(
            f'start={start} is not a folder that train.py wrote: it has no config.json'
        )
    before = config_rules.load(stored)

    config = common.base()
    config.model = before.model  # the method's own fields
    config.train.update(before.train)
    common.own(config)
    config.data.void = before.data.void
    config.train.start = start
    config.train.classes = (
        'all'  # evaluated on other images of these; 'base': of those that config.fold holds out
    )
    config.train.learning_rate = (
        before.train.learning_rate / 10
    )  # small: what was learned is to stay
    config.train.poly_power = 0.9
    config.train.warmup_steps = 0
    config.train.steps = 300
    config.train.batch = 4
    config.train.history_drop = 1.0
    config.select.every = 100
    config.eval.size = before.eval.size
    config.eval.label_size = before.eval.label_size
    return common.apply(
        config, ','.join(word for word in words if not word.startswith('start=')), {}
    )
