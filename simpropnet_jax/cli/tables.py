"""Prints result files as plain text tables: one fold class by class, and the folds as the paper's Table 3.

    simpropnet tables runs/*/eval/*.json

Numbers are percent; ± is the standard deviation over the seeds' sets of episodes. The 95 % interval is of mIoU
over other query images of the same classes: see `simpropnet compare`. Results of several kinds (protocol, data, void
rule, inputs, number of episodes) stand in separate tables.
"""

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'results',
        nargs='+',
        metavar='RESULT.json',
        help='files that `simpropnet eval` wrote to eval/ in a run folder',
    )


def main(args) -> None:
    """Print the tables."""
    from simpropnet_jax.evaluation.results import tables

    tables.main(args.results)
