"""The flag --out of the commands that draw pictures."""

from pathlib import Path

from simpropnet_jax.config import command_line

ENDINGS = ('.png', '.jpg')


def add_picture(parser: command_line.Parser) -> None:
    """Add --out PICTURE."""
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='PICTURE',
        help=f'picture to write: {" or ".join(ENDINGS)}; its folder is created if missing',
    )


def check_picture(out: Path) -> None:
    """Raise ValueError for a picture of another kind."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f'--out must end in {" or ".join(ENDINGS)}, got {out}')
