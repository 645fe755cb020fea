"""Evaluates a trained method: `simpropnet eval`, from a checkout.

python eval.py --workdir runs/fold2
"""

from simpropnet_jax.cli import eval as evaluation
from simpropnet_jax.config import command_line

if __name__ == '__main__':
    command_line.run(evaluation, prog='python eval.py')
