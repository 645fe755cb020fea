"""The flags that say how the network sees pictures."""

import argparse
from typing import Any

from simpropnet_jax.config import command_line

NAMES = ('size', 'fit', 'tiles', 'absent_below')


def add(parser: command_line.Parser) -> None:
    """Add --size, --fit, --tiles and --absent_below."""
    parser.add_argument(
        '--size',
        type=int,
        metavar='PIXELS',
        help="side of the network's input, 8n + 1: more shows smaller objects (default: as in training)",
    )
    parser.add_argument(
        '--fit',
        choices=('stretch', 'pad'),
        default='stretch',
        help='stretch pictures to a square, or pad them to keep their shape',
    )
    parser.add_argument(
        '--tiles',
        type=int,
        default=1,
        metavar='N',
        help='look also at overlapping tiles, N along the longer side (1: none)',
    )
    parser.add_argument(
        '--absent_below',
        type=float,
        metavar='SCORE',
        help='empty mask if the presence score is lower, 0 to 1 (default: no score)',
    )


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags as arguments of `Segmenter.from_checkpoint`."""
    return {name: getattr(args, name) for name in NAMES}
