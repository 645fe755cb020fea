"""Fine-tuning: train a trained method further, on your own classes.

    simpropnet prepare folder photos --out prepared
    simpropnet train --config finetune:start=runs/fold2 --config.data.dir=prepared --workdir runs/mine
    simpropnet eval --workdir runs/mine

The method and its training come from the run after start=; what differs is below. Run `simpropnet eval` with the
same flags before the training to measure what it starts from.
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common, rules
from simpropnet_jax.published import header, locate


def get_config(argument: str = '') -> ConfigDict:
    words = [word for word in argument.split(',') if word]
    others = [word for word in words if not word.startswith('start=')]
    starts = [word.removeprefix('start=') for word in words if word not in others]
    start = starts[0] if starts else ''
    before = stored_config(start)

    config = common.base()
    config.model = before.model  # the same method
    config.train.update(before.train)  # trained in the same way, but:
    common.own(config)
    config.data.void = before.data.void  # as it was trained
    config.train.start = start  # the run to fine-tune from
    config.train.classes = 'all'  # test images are others; 'base': without classes of config.fold
    config.train.learning_rate = before.train.learning_rate / 10  # small, to keep what was learned
    config.train.poly_power = 0.9  # the rate falls to zero
    config.train.warmup_steps = 0  # not needed
    config.train.steps = 300  # minutes
    config.train.batch = 4  # few images
    config.train.history_drop = 1.0  # so few steps hardly see a pair twice
    config.select.every = 100  # three times in a training
    config.eval.size = before.eval.size  # as it was evaluated
    config.eval.label_size = before.eval.label_size  # as it was evaluated
    return common.apply(config, ','.join(others), {})


def stored_config(start: str) -> ConfigDict:
    """Return the config of the run to fine-tune from."""
    if not start:
        raise ValueError(
            'the recipe finetune needs weights to start from: --config finetune:start=WORKDIR, or the name of a model'
        )
    run = locate.find(locate.split(start)[0])
    if not header.config_file(run).exists():
        raise ValueError(f'start={start} is not a run: it has no config.json')
    return rules.stored_config(run)
