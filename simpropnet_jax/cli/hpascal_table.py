"""Prints results on H-PASCAL-5i as one table: partitions by splits, methods side by side.

    simpropnet hpascal table runs/*/eval/hpascal_*.json

As Tables 3 and 7 of Improved Similarity Propagation, and below it CMPS by method, as Table 5. Numbers are percent. CMPS
is the mean over the partitions of a split; its mean is over the splits. The folds may come from several H-PASCAL-5i
files, if these were built alike. Files that `simpropnet eval` wrote have no partitions and are refused.
"""

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'results',
        nargs='+',
        metavar='RESULT.json',
        help='files that `simpropnet hpascal eval` wrote: RUN/eval/hpascal_*.json',
    )
    parser.add_argument(
        '--label_size',
        choices=('square', 'own'),
        default='square',
        help='size at which masks are compared',
    )


def main(args) -> None:
    """Print the table."""
    from simpropnet_jax.analysis.hierarchy_table import table
    from simpropnet_jax.evaluation.results.result_file import read_result

    print(table([read_result(path) for path in args.results], args.label_size), end='')
