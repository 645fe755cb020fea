"""The flag that commands share which prepare a public data set."""

from simpropnet_jax.config import command_line


def add_data_dir(parser: command_line.Parser) -> None:
    """Add the folder of prepared data."""
    parser.add_argument(
        '--data_dir',
        required=True,
        metavar='DIR',
        help='folder for the prepared data; created if missing',
    )
