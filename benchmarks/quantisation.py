"""What do smaller weights cost? mIoU of float32, bfloat16 and int8 weights on the same episodes.

    simpropnet bench quantisation --checkpoint runs/fold2
    simpropnet bench quantisation --checkpoint runs/all --config.data.dir=DIR --folds 0,1,2,3 --config.eval.episodes=250

Stores the weights of a run as `simpropnet publish --weights` does and evaluates what is read back. Without --folds it
takes the fold of the run. The last column is the loss against float32, in points of mIoU. Prints a table, writes JSON.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line
from simpropnet_jax.evaluation.run import prepare_evaluator
from simpropnet_jax.published import model_file, quantise
from simpropnet_jax.runtime import records, sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.run import Run, prepare, with_episodes
from simpropnet_jax.setup.weights import load_variables


def main(
    workdir: AnyPath,
    which: str = 'best',
    folds: Sequence[int] = (),
    config: ConfigDict | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Evaluate, print the table and write the JSON file.

    Args:
      workdir: the run folder, or a published model.
      which: checkpoint, 'best', 'latest' or a step.
      folds: whose classes are evaluated; (): the run's own fold.
      config: the run's config with other fields of `eval`; None: the stored one.
    Returns: what is written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    run, mesh = prepare(config, workdir), sharding.make_mesh()
    variables, step = load_variables(run.method, workdir, which, mesh)
    params = model_file.flat(jax.device_get(variables['params']))
    miou = {kind: {} for kind in quantise.KINDS}
    for fold in folds or (run.config.fold,):
        evaluator = prepare_evaluator(with_episodes(_of_fold(run, fold)), mesh)
        for kind, found in miou.items():
            restored = model_file.nested(quantise.unpack(quantise.pack(params, kind)))
            result = evaluator.run(
                {'params': sharding.place(restored, sharding.replicated(mesh))}, ProgressBar()
            )
            for shot, scores in result['shots'].items():
                found.setdefault(shot, []).append(100 * scores['square']['miou'])
    size = {
        kind: sum(value.nbytes for value in quantise.pack(params, kind).values()) for kind in miou
    }
    record = {
        'step': step,
        'folds': list(folds or (run.config.fold,)),
        'miou': miou,
        'bytes': size,
        **measure.machine(),
    }
    print(table(record))
    if out:
        records.write(out, record)
    return record


def _of_fold(run: Run, fold: int) -> Run:
    config = ConfigDict(run.config.to_dict())
    config.fold = fold
    return replace(run, method=replace(run.method, config=config))


def table(record: dict[str, Any]) -> str:
    """The numbers as Markdown: mean over the folds."""
    folds = ', '.join(map(str, record['folds']))
    lines = [
        f'| weights | MB | shots | mIoU, folds {folds} | mean | loss |',
        '|---|---|---|---|---|---|',
    ]
    for kind, by_shot in record['miou'].items():
        for shot, values in by_shot.items():
            loss = np.mean(record['miou']['float32'][shot]) - np.mean(values)
            each = ' '.join(f'{value:.2f}' for value in values)
            lines.append(
                f'| {kind} | {record["bytes"][kind] / 1e6:.1f} | {shot} | {each} | {np.mean(values):.2f} | {loss:.2f} |'
            )
    return '\n'.join(lines)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    run_folder.add_checkpoint(parser)
    command_line.add_config(parser, only=run_folder.MAY_DIFFER)
    parser.add_argument(
        '--folds',
        type=command_line.comma_separated,
        default=[],
        metavar='FOLDS',
        help="folds whose classes are evaluated, with commas between (default: the run's)",
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    run, which = args.checkpoint
    folds = [int(fold) for fold in args.folds]
    main(run, which, folds, run_folder.given_config(args, run), args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench quantisation')
