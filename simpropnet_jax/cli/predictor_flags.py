"""Flags of the commands that measure where predictions err: trained runs, or masks of any program."""

import argparse
from pathlib import Path
from typing import Any

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line

NETWORKS = ('resnet50', 'resnet101', 'vgg16')  # those of backbones.extractor


def add_predictors(parser: command_line.Parser, pairs: int, what: str) -> None:
    """Add the flags that say who predicts, and --pairs and --out; see `given_predictors`.

    Args:
      pairs: the default of --pairs.
      what: what --pairs counts.
    """
    run_folder.add_checkpoints(
        parser, required=False, help=f'{run_folder.HELP}. Or one run of each fold'
    )
    command_line.add_config(
        parser, only=run_folder.MAY_DIFFER, help='needed only where nothing was trained'
    )
    parser.add_argument(
        '--predictions',
        type=Path,
        nargs='+',
        default=[],
        metavar='DIR',
        help='folder of PNG masks to take instead, as for `simpropnet eval --predictions`; one for each run',
    )
    parser.add_argument('--pairs', type=command_line.at_least(1), default=pairs, help=what)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE.json',
        help='file for the numbers (default: they are only printed)',
    )


def given_predictors(args: argparse.Namespace, pairs: int | None) -> list:
    """Open the predictors that the flags name.

    Args:
      pairs: episodes over all of them; None: all.
    Returns:
      `evaluation.external.predictors.Predictor`, one for each run.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    from simpropnet_jax.evaluation.external.predictors import open_predictors
    from simpropnet_jax.runtime.progress import ProgressBar

    runs, which, config = *_runs(args), args.config
    if config is None and args.changes:
        if len(runs) > 1:
            raise ValueError(
                f'--config.{args.changes[0][0]} changes the config of one run, but there are {len(runs)}'
            )
        config = run_folder.given_config(args, runs[0])
    return open_predictors(runs, args.predictions, config, which, pairs, ProgressBar())


def write_numbers(out: Path | None, record: dict[str, Any]) -> None:
    """Write a record as JSON, on the first host."""
    import jax

    from simpropnet_jax.runtime import records

    if out is not None and jax.process_index() == 0:
        records.write(out, record)


def _runs(args) -> tuple[list, str]:
    if args.checkpoint:
        return run_folder.of_one_kind(args.checkpoint)
    if args.config is None and not args.predictions:
        return run_folder.of_one_kind([run_folder.Checkpoint(None)])
    if args.config is None or not args.predictions:
        raise ValueError(
            'give --checkpoint RUN; or --config and --predictions, masks of any program'
        )
    return list(args.predictions), 'best'
