"""Trains a few-shot segmentation method on PASCAL-5i.

    python train.py --config configs/simpropnet.py:fold=2 --workdir runs/fold2

Any field of the config can be changed on the command line: --config.train.batch=4. The same command goes on with a
run that was stopped or killed.
"""

from absl import flags

from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import hosts, paths

CONFIG = command_line.define_config(required=True)
WORKDIR = flags.DEFINE_string(
    'workdir',
    None,
    'folder for checkpoints, metrics and pictures, or its gs:// URL; made if it is not there',
)
flags.mark_flag_as_required('workdir')


def main():
    hosts.start()
    from simpropnet_jax.training.loop import train_and_evaluate

    train_and_evaluate(CONFIG.value, paths.given(WORKDIR.value))


if __name__ == '__main__':
    command_line.run(main)
