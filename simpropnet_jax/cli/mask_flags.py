"""The flags that say how masks are read."""

from simpropnet_jax.config import command_line

NAMES = ('mask_value', 'mask_threshold', 'invert', 'crowds')


def add(parser: command_line.Parser) -> None:
    """Add --mask_value, --mask_threshold, --invert and --crowds; see `options`."""
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
    parser.add_argument(
        '--crowds',
        choices=('object', 'void'),
        default='void',
        help='what annotations with iscrowd 1 are (default: void). Datumaro, supervision and CVAT mark masks that way, '
        'which are objects',
    )


def options(args) -> dict:
    """Return the flags as arguments."""
    return {name: getattr(args, name) for name in NAMES}
