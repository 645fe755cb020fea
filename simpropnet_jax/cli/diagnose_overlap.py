"""Does a few-shot method err where a supervised network errs, too? Error overlap with the oracle, and their gap.

    simpropnet diagnose overlap --checkpoint runs/fold2 --oracle runs/oracle/labels
    simpropnet diagnose overlap --checkpoint runs/fold0 runs/fold1 runs/fold2 runs/fold3 --oracle labels
    simpropnet diagnose overlap --config simpropnet:fold=2 --predictions masks --oracle labels       (of any program)

Table 1 of both papers, on 400 pairs. The oracle is a folder of label maps, ID.png, that a supervised network predicts:
`simpropnet oracle` writes ours. With G the truth of the episode's class, P the method's mask and D the oracle's, void
left out:

  FN overlap   IoU of G without P and G without D: what both miss, of what either misses
  FP overlap   IoU of P without G and D without G: what both take for the object, of what either does
  mIoU gap     mIoU of D minus mIoU of P: "Prediction mIoU Gap" (Improved Similarity Propagation)
  TP gap       share of G that D finds less the share that P finds: "overall gap in true prediction" (SimPropNet);
               both papers print the same numbers, which the first reading fits (D would have 78 to 79 %)

'by class' sums pixels over the pairs of a class and then takes the mean over the classes, as mIoU does; 'by image' is
the mean over pairs. Where neither errs, an overlap is undefined: such a class or pair is left out, and counted.
"""

from pathlib import Path

from simpropnet_jax.cli import predictor_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    predictor_flags.add_predictors(parser, 400, 'episodes over all runs')
    parser.add_argument(
        '--oracle',
        type=Path,
        required=True,
        metavar='DIR',
        help="folder of a supervised network's label maps, ID.png",
    )


def main(args) -> None:
    """Compare the errors, write the numbers and print the table."""
    from simpropnet_jax.runtime import hosts

    hosts.start()
    from simpropnet_jax.analysis import overlap

    record = overlap.measure(predictor_flags.given_predictors(args, args.pairs), args.oracle)
    predictor_flags.write_numbers(args.out, record)
    print(overlap.table(record), end='')
