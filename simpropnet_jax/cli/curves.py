"""Draws validation mIoU over the training of several runs, and how soon each run is nearly at its best.

    simpropnet curves runs/baseline runs/tpc --out curves.png

As Figure 5 of "Improved Similarity Propagation for One-Shot Semantic Segmentation", of the scores that select the
checkpoint. The table and the bars say after how many epochs a run first had 95 % of its best mIoU: how fast it learns.
A conditioning phase comes before epoch 0. All is in steps where an older run does not say how long its epochs are.
"""

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'runs', nargs='+', metavar='RUN', help='run folders that `simpropnet train` wrote'
    )
    parser.add_argument(
        '--out', required=True, metavar='PICTURE', help='picture to write: .png, .pdf or .svg'
    )
    parser.add_argument(
        '--labels', nargs='+', metavar='LABEL', help='a name for each run (default: its folder)'
    )


def main(args) -> None:
    """Write the picture and print the table."""
    from simpropnet_jax.report import curves

    found = curves.read_curves(args.runs, args.labels)
    curves.draw(found, args.out)
    print(curves.table(found), end='')
