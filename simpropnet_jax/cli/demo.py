"""Trains and evaluates SimPropNet on shapes5i, an embedded data set: no download, minutes on two CPU cores.

    simpropnet demo                           (or, in a checkout: make demo)
    simpropnet demo --workdir runs/demo1 --config shapes:fold=1

It trains on 15 classes of drawn shapes, segments five others from one and from five examples, and compares. Re-run the
same command to resume an interrupted demo.
"""

from pathlib import Path

from simpropnet_jax.config import command_line, recipes

RECIPE = 'shapes'


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, default=RECIPE)
    parser.add_argument(
        '--workdir',
        type=Path,
        default=Path('runs/demo'),
        metavar='DIR',
        help='folder for checkpoints, results and pictures',
    )


def main(args) -> None:
    """Train, evaluate and print the comparison."""
    from simpropnet_jax.sweeps.demo import run_demo

    backbone = args.config.copy_and_resolve_references()
    recipes.load(RECIPE).defined['backbone'](backbone)
    run_demo(backbone, args.config, args.workdir)
