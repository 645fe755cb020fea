"""Draws transformed pairs: the training's supports, each next to what transformed-pair conditioning makes of it.

    simpropnet pictures pairs --config simpropnet:fold=2 --out pairs.png
    simpropnet pictures pairs --config shapes --out pairs.png --config.tpc.rotation=90

The first pairs show one transform of config.tpc each. The others show all of them as in a training, each with its
probability. Masks are blue; gray is void, where no loss is taken.
"""

from simpropnet_jax.cli import picture_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, required=True, only=('tpc.', 'data.', 'train.size'))
    picture_flags.add_picture(parser)
    parser.add_argument('--pairs', type=int, default=8, metavar='N', help='pairs to draw')


def main(args) -> None:
    """Draw the picture."""
    picture_flags.check_picture(args.out)
    if args.pairs < 1:
        raise ValueError(f'--pairs must be 1 or more, got {args.pairs}')
    from simpropnet_jax.io import overlay
    from simpropnet_jax.report import pairs

    overlay.save(pairs.draw(args.config, args.pairs), args.out)
