"""Draws two methods on the same episode of each class.

    simpropnet pictures side_by_side --checkpoint runs/canet2 runs/fold2 --out ab.jpg

As Figure 5 of SimPropNet; a row for each novel class of the fold. Truth is blue, predictions are orange; IoU is
measured in the picture, at the network's input size. The best, median and worst episodes of one method are drawn by
`simpropnet eval`, in RUN/figures/. Pictures in that folder come into the page of `simpropnet report`.
"""

from simpropnet_jax.cli import picture_flags, run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoints(parser, required=True, help='run folders of two methods')
    picture_flags.add_picture(parser)
    parser.add_argument(
        '--case',
        choices=('best', 'median', 'worst'),
        default='median',
        help='which episode, by what the second method gains in IoU',
    )
    parser.add_argument(
        '--episodes',
        type=int,
        default=20,
        metavar='N',
        help='episodes of each class to choose from',
    )


def main(args) -> None:
    """Draw the picture."""
    picture_flags.check_picture(args.out)
    runs, which = run_folder.of_one_kind(args.checkpoint)
    from simpropnet_jax.io import overlay
    from simpropnet_jax.report import pictures

    picture = pictures.side_by_side(runs, which, case=args.case, episodes=args.episodes)
    overlay.save(picture, args.out)
