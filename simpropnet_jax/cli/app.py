"""Opens a page in the browser that segments pictures: paint an example, drop pictures, download masks.

    simpropnet app --checkpoint runs/fold2

Open the address that is printed. What you paint or drop stays on this machine, in one folder. The folder is deleted
when the program ends (Ctrl+C), or kept if you name one with --folder. The page fetches nothing from elsewhere.

Only this machine can open the page. With --host 0.0.0.0 everybody in your network can who has the printed address with
its token; name your machine with --allow_host. The page answers no other name, and no other page in a browser. Several
people may use it at once: each has their own examples and pictures, and the network serves one after the other.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder, view_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser)
    view_flags.add(parser)
    parser.add_argument(
        '--host', default='127.0.0.1', help='address to listen at (default: this machine alone)'
    )
    parser.add_argument(
        '--allow_host',
        action='append',
        default=[],
        metavar='NAME',
        help='another name that the page goes by, e.g. of a proxy (may be given several times)',
    )
    parser.add_argument('--port', default=7860, type=int, help='port to listen at')
    parser.add_argument(
        '--max_upload', default=20, type=int, metavar='MB', help='largest size of a file'
    )
    parser.add_argument(
        '--max_storage',
        default=4000,
        type=int,
        metavar='MB',
        help='largest size of all uploads together; one visitor may use a quarter',
    )
    parser.add_argument(
        '--folder',
        type=Path,
        metavar='DIR',
        help='for uploads (default: a temporary one, deleted at the end)',
    )


def main(args) -> None:
    """Serve the page until the program is stopped."""
    from simpropnet_jax.app.start import start

    run, which = args.checkpoint
    start(
        run,
        which,
        args.host,
        args.port,
        args.max_upload,
        args.folder,
        args.max_storage,
        args.allow_host,
        view_flags.options(args),
    )
