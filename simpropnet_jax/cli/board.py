"""Writes a leaderboard: all result files of a folder, ours and others', as one static page.

    simpropnet board results/ --out board/

writes board/board.html, board/board.md and board/figures/, which need nothing else. Results stand in one table only if
they are of the very same episodes (by hash), data, void rule and size of comparison. Each table has mIoU with its
interval, then a verdict for each pair of methods by the paired bootstrap of `simpropnet compare`, the IoU of each class
as bars, and the same episodes side by side, of the results that have pictures next to them. Result files come from
`simpropnet eval`, `simpropnet eval --predictions`, or `simpropnet_jax.evaluate` in Python.
"""

import sys
from pathlib import Path

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument('folder', type=Path, help='folder that holds result files, however deep')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder for the page; created if missing',
    )
    parser.add_argument(
        '--resamples',
        type=command_line.at_least(100),
        default=10_000,
        metavar='N',
        help='draws of the images in each comparison',
    )


def main(args) -> None:
    """Write the page and say what is left out of it."""
    from simpropnet_jax.report.board import write_board
    from simpropnet_jax.runtime.progress import ProgressBar

    board = write_board(args.folder, args.out, args.resamples, ProgressBar())
    for path, why in board.left_out:
        print(f'left out: {path}: {why}', file=sys.stderr)
    print(f'{args.out / "board.html"}: {len(board.results)} results')
