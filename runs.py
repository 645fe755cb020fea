"""Trains and evaluates a list of runs, one after the other, in the time that there is.

    python runs.py --workdir runs/all --minutes 55 --epochs 60 simpropnet:fold=1 canet:fold=1 simpropnet:fold=0,seed=1 \
        simpropnet:fold=1,model.fbaf_activation=relu --set data.name=pascal5i/subset --set data.dir=packed

A run is a config file's name and, after a colon, its words and fields; epochs=N among them is its own number. Each has
a folder in --workdir, named by it, and leaves one small file there, NAME.json: mIoU on episodes, at one and five
supports, on identical inputs and with empty masks, at 321 pixels and at the labels' own size; minutes, pairs a second.

With --minutes it stops before they are over: a training saves a checkpoint, an evaluation is made anew. The same
command goes on, in this time or the next; what is done is not done again. It needs neither TensorFlow nor a network:
for a machine without them, python -m simpropnet_jax.datasets.packed writes the data as a few files.
"""

import argparse
import sys
from pathlib import Path

from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import errors


def parser() -> argparse.ArgumentParser:
    result = errors.Parser(__doc__)
    result.add_argument(
        'runs',
        nargs='+',
        metavar='METHOD[:WORDS]',
        help='such as simpropnet:fold=1,seed=2,epochs=60',
    )
    result.add_argument(
        '--workdir', required=True, type=Path, help='a folder in it for each run, and its result'
    )
    result.add_argument('--minutes', type=float, help='to stop before (default: not to stop)')
    result.add_argument(
        '--epochs', type=int, help="of runs that do not say it (default: the paper's)"
    )
    result.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='FIELD=VALUE',
        help='a config field of every run, e.g. --set model.dtype=bfloat16; again for more',
    )
    result.add_argument(
        '--inputs',
        default='episodes,identical,zero_mask',
        help='what runs are evaluated on (default: %(default)s)',
    )
    return result


def main(given: argparse.Namespace):
    from simpropnet_jax.sweeps import budget

    planned = [budget.plan(run, given.set, given.epochs) for run in given.runs]
    budget.run_all(planned, given.workdir, given.inputs.split(','), given.minutes)


if __name__ == '__main__':
    arguments, sys.argv[1:] = parser().parse_known_args(sys.argv[1:])
    command_line.guarded(lambda: main(arguments))
