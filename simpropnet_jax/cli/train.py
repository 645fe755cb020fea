"""Trains a few-shot segmentation method on PASCAL-5i, or on your own images.

    simpropnet train --config simpropnet:fold=2 --workdir runs/fold2
    simpropnet train --config simpropnet:fold=2,cpu --workdir runs/fold2 --config.train.batch=2

Any field of the config can be changed: --config.FIELD=VALUE. Re-run the same command to resume an interrupted
training. In a checkout, `python train.py` does the same.
"""

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, required=True)
    parser.add_argument(
        '--workdir',
        type=run_folder.folder,
        required=True,
        metavar='DIR',
        help='folder for checkpoints, metrics and pictures, or its gs:// URL; created if missing',
    )


def main(args) -> None:
    """Train, and evaluate the selected checkpoint at intervals."""
    from simpropnet_jax.runtime import hosts

    hosts.start()
    from simpropnet_jax.training.loop import train_and_evaluate

    train_and_evaluate(args.config, args.workdir)
