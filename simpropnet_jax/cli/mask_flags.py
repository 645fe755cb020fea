"""The flags that say how masks are read."""

from simpropnet_jax.config import command_line


def add(parser: command_line.Parser) -> None:
    """Add --mask_value, --mask_threshold and --invert."""
    parser.add_argument(
        '--mask_value',
        type=float,
        metavar='N',
        help='pixels of this value are the object, in every mask',
    )
    parser.add_argument(
        '--mask_threshold',
        type=float,
        metavar='T',
        help='pixels of this value and above are the object, in every mask',
    )
    parser.add_argument(
        '--invert',
        action='store_true',
        help='swap object and background of every mask (black objects on white)',
    )
