"""Trains and evaluates SimPropNet on shapes5i, an embedded data set: no download, minutes on two CPU cores.

    simpropnet demo                           (or, in a checkout: make demo)
    simpropnet demo --workdir runs/demo1 --config shapes:fold=1
    simpropnet demo --photos                  (no training: the model of the package on three photographs, seconds)

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
        metavar='DIR',
        help='folder for what is written (default: runs/demo, or runs/photos with --photos)',
    )
    parser.add_argument(
        '--photos',
        action='store_true',
        help='train nothing; segment persons and rockets in sample photographs of the package',
    )


def main(args) -> None:
    """Train, evaluate and print the comparison; or segment the sample photographs."""
    if args.photos:
        from simpropnet_jax.inference.photos import segment_samples

        segment_samples(args.workdir or Path('runs/photos'))
        return
    from simpropnet_jax.sweeps.demo import run_demo

    backbone = args.config.copy_and_resolve_references()
    recipes.load(RECIPE).defined['backbone'](backbone)
    run_demo(backbone, args.config, args.workdir or Path('runs/demo'))
