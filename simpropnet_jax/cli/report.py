"""Writes a folder of results as one page, in Markdown and in HTML: tables, curves and pictures.

    simpropnet report runs/ --out report/

writes report/report.md, report/report.html and report/figures/, which need nothing else. The tables follow both
papers: folds by method, the parts of SimPropNet (its Table 4), identical inputs, empty support masks, the partitions of
H-PASCAL-5i, studies; one method under several protocols; and, next to the papers' numbers, what `simpropnet diagnose`
wrote into the folder (--out runs/overlap.json). Results stand in one table only if they can be compared. Files that are
damaged, or come from another program, are named at the end of the page.
"""

import sys
from pathlib import Path

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument('folder', type=Path, help='folder that holds run folders, however deep')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder for the page; created if missing',
    )


def main(args) -> None:
    """Write the page and say what is left out of it."""
    from simpropnet_jax.report.page import count_words, write_page

    found = write_page(args.folder, args.out)
    for path, why in found.left_out:
        print(f'left out: {path}: {why}', file=sys.stderr)
    print(f'{args.out / "report.html"}: {count_words(found)}')
