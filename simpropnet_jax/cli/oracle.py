"""Evaluates a supervised network on whole images, all classes, and writes its label maps.

    simpropnet oracle --checkpoint runs/oracle --out runs/oracle/labels

evaluates a training on the val list and writes what it predicts: ID.png for each image, class ids 0..20 at the label's
own size, with PASCAL VOC's palette. `simpropnet hpascal build` and `simpropnet diagnose overlap` read such a folder,
whoever wrote it.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser, required=True)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='folder for the predicted label maps (default: they are not kept)',
    )


def main(args) -> None:
    """Evaluate, write the label maps and print the table."""
    from simpropnet_jax.evaluation.oracle import evaluate_run

    run, which = run_folder.with_results(args.checkpoint)
    evaluate_run(None, run, which, args.out)
