"""Trains and evaluates rows on the same episodes, and says which are better than which.

    simpropnet sweep --workdir runs/study --fold 1 --recipe cpu
    simpropnet sweep --workdir runs/study --fold 1 --recipe cpu --rows canet,crc --seeds 3
    simpropnet sweep --workdir runs/methods --fold 1 --recipe cpu --rows methods,cycles --shots 1,5
    simpropnet sweep --workdir runs/all --minutes 55 --epochs 60 --config.model.dtype=bfloat16 \\
        simpropnet:fold=1 canet:fold=1 simpropnet:fold=0,seed=1 simpropnet:fold=1,model.fbaf_activation=relu

Re-run the same command to resume: what is done is not done again. With more rows, seeds or inputs it adds them.
With --minutes it stops before they are over. A training saves a checkpoint; the exit status is 143 when something is
left. The first training of every row comes before the second of any.

A row is one config. Its trainings differ in the seed. Each training has a folder in --workdir, with its results in
eval/. After each training --workdir/study.json has all rows: scores, verdicts, speed, versions and device.

Named rows are compared with the row that they change, by a paired bootstrap over query images:

    propagation    CANet, with cyclic reinforcement (crc), transformed-pair conditioning (tpc), both, and two controls;
                   SimPropNet, with the cycle, with both; CANet with five supports, averaged or weighed by attention
    methods        all methods that both papers compare, and the training-free prototype
    cycles         the cycle and the transformed pairs on PANet and AMP
    readings       nine readings of SimPropNet's Eq. 3; use --recipe cpu --config.select.on=base_val

Other rows are recipes with words and fields: simpropnet:fold=1,seed=2,model.fbaf_activation=relu,epochs=60, or your own
mine.py:fold=1. They have no verdict. Their words and fields come after the shared ones.

With --seeds 3 each row is trained three times. The table has the mean and the standard deviation over trainings, and
the interval of a difference covers query images and trainings.

With --recipe cpu, --config.train.steps=N or --epochs N all rows train equally long. Without, each method has its
paper's recipe: CANet 200 epochs in batches of 4, SimPropNet 180 in batches of 8; conditioning adds 30 epochs before, or
10 after. The second paper's batch and rate are CANet's. CANet's rate_factor is 10, SimPropNet's is 1:

    --rows canet,crc,tpc,crc_tpc,tpc_mixed,tpc_after --config.train.batch=24 --config.train.learning_rate=2.5e-5
    --rows simpropnet,simpropnet_crc,simpropnet_crc_tpc --config.train.batch=24 --config.train.learning_rate=2.5e-4

Data that `simpropnet prepare packed` wrote needs neither TensorFlow nor a network.
"""

from pathlib import Path

from simpropnet_jax.config import command_line
from simpropnet_jax.sweeps import rows

INPUTS = 'episodes,identical,zero_mask'


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'row',
        nargs='*',
        metavar='ROW',
        help=f'a row, a group or a recipe with words; the same as --rows. Groups: {", ".join(rows.GROUPS)}. Rows: '
        + ', '.join(rows.NAMED),
    )
    parser.add_argument(
        '--workdir',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder with a folder for each training, and study.json; created if missing',
    )
    parser.add_argument(
        '--rows',
        action='append',
        default=[],
        metavar='ROWS',
        help='rows and groups with commas between, in order (default: propagation)',
    )
    parser.add_argument(
        '--fold',
        type=int,
        metavar='N',
        help="fold of every row (default: 1; a recipe's own)",
    )
    parser.add_argument(
        '--recipe',
        type=command_line.comma_separated,
        default=[],
        metavar='WORDS',
        help="words for every row's recipe: cpu, gpu (default: the papers' recipes)",
    )
    parser.add_argument(
        '--epochs',
        type=int,
        metavar='N',
        help="epochs of every row that does not say its own (default: the recipe's)",
    )
    parser.add_argument(
        '--inputs',
        type=command_line.comma_separated,
        default=INPUTS,
        metavar='NAMES',
        help=f'what rows are evaluated on; also other_class (default: {INPUTS})',
    )
    parser.add_argument(
        '--shots',
        type=command_line.comma_separated,
        default=[],
        metavar='NUMBERS',
        help='numbers of supports of the episodes, such as 1,5 (default: as in the training)',
    )
    parser.add_argument(
        '--seeds',
        type=int,
        default=1,
        metavar='N',
        help='trainings of each row, with seeds 0 to N-1 (default: 1)',
    )
    parser.add_argument(
        '--minutes', type=float, metavar='M', help='time to stop before (default: no limit)'
    )
    command_line.add_fields(parser)


def make_rows(args) -> dict[str, rows.Row]:
    """Return the rows that the flags name.

    Raises:
      ValueError: a row, word, field or value does not exist.
    """
    return rows.make_rows(
        [*args.rows, *args.row] or ['propagation'],
        fold=args.fold,
        words=args.recipe,
        changes=args.changes,
        epochs=args.epochs,
    )


def main(args) -> None:
    """Run the sweep, and print the table."""
    shots = _numbers(args.shots)
    planned = make_rows(args)
    from simpropnet_jax.sweeps.sweep import run_sweep

    run_sweep(planned, args.workdir, args.inputs, shots, args.seeds, args.minutes)


def _numbers(words: list[str]) -> list[int]:
    if not all(word.isdecimal() and int(word) for word in words):
        raise ValueError(
            f'--shots must be whole numbers above 0, such as 1,5, got {",".join(words)!r}'
        )
    return [int(word) for word in words]
