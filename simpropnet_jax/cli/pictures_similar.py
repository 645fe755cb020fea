"""Draws one query of each class with supports from the least to the most similar, and what the method makes of each.

    simpropnet pictures similar --checkpoint runs/fold2 --out runs/fold2/figures/similar.jpg

As Figure 4 of SimPropNet; a row for each novel class of the fold. Truth is blue, predictions are orange; IoU is
measured in the picture, at the network's input size. Pictures in RUN/figures/ come into the page of
`simpropnet report`.
"""

from simpropnet_jax.cli import picture_flags, predictor_flags, run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser)
    picture_flags.add_picture(parser)
    parser.add_argument(
        '--columns', type=int, default=5, metavar='N', help='supports shown for a query'
    )
    parser.add_argument(
        '--candidates', type=int, default=50, metavar='N', help='supports ranked for a query'
    )
    parser.add_argument(
        '--features',
        choices=('own', *predictor_flags.NETWORKS),
        default='own',
        help="network whose features measure similarity; own: the method's encoder",
    )
    parser.add_argument(
        '--weights',
        default='keras',
        metavar='WEIGHTS',
        help="weights of a network other than own: 'keras', a file, a run folder",
    )


def main(args) -> None:
    """Draw the picture."""
    picture_flags.check_picture(args.out)
    from simpropnet_jax.io import overlay
    from simpropnet_jax.report import pictures

    picture = pictures.similar(
        args.checkpoint.folder,
        args.checkpoint.which,
        columns=args.columns,
        candidates=args.candidates,
        features=args.features,
        weights=args.weights,
    )
    overlay.save(picture, args.out)
