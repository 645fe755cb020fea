"""Is one method better than another, or was it luck? A paired bootstrap over the query images of two results.

    simpropnet compare runs/canet2/eval/A.json runs/fold2/eval/B.json
    simpropnet compare A.json B.json --shot 5 --label_size own

Both results must be of the same episodes. Query images are resampled many times with replacement, to the same
number. An image brings all its episodes, of every class and seed, with both methods' counts. Each time mIoU is computed
for A and for B. The interval holds the middle 95 % of their differences; if it holds 0, the result is undecided. A draw
that leaves a class without a pixel is repeated. Numbers are percent. mIoU is the mean over the classes of (sum of
intersections / sum of unions), and over the seeds, as in the result files.

The interval is about the images: other query images of these classes, the same weights. What another training of the
same method would give is not in it.
"""

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument('a', metavar='A.json', help='result file of `simpropnet eval`')
    parser.add_argument('b', metavar='B.json', help='the same episodes by another method')
    parser.add_argument('--shot', type=int, default=1, help='supports of the episodes')
    parser.add_argument(
        '--label_size',
        choices=('square', 'own'),
        help="size at which masks are compared (default: the protocol's)",
    )
    parser.add_argument(
        '--resamples', type=int, default=10_000, metavar='N', help='draws of the images'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the draws (default: 0)')
    parser.add_argument(
        '--confidence', type=float, default=0.95, metavar='P', help='confidence of the interval'
    )


def main(args) -> None:
    """Print the comparison."""
    from simpropnet_jax.evaluation.results.bootstrap import comparison_text

    text = comparison_text(
        args.a,
        args.b,
        shot=args.shot,
        label_size=args.label_size,
        resamples=args.resamples,
        seed=args.seed,
        confidence=args.confidence,
    )
    print(text, end='')
