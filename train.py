"""Trains a method: `simpropnet train`, from a checkout.

python train.py --config configs/simpropnet.py:fold=2 --workdir runs/fold2
"""

from simpropnet_jax.cli import train
from simpropnet_jax.config import command_line

if __name__ == '__main__':
    command_line.run(train, prog='python train.py')
