"""A sweep: train rows, evaluate them on the same episodes, and compare them, within a time limit if given."""

import contextlib
import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.evaluation.results.naming import INPUTS
from simpropnet_jax.report.study_table import table
from simpropnet_jax.setup import number_type
from simpropnet_jax.sweeps.plan import Plan, make_plan
from simpropnet_jax.sweeps.rows import Row
from simpropnet_jax.sweeps.study import (
    Study,
    compare,
    read_study,
    row_record,
    trainings_of,
    write_study,
)
from simpropnet_jax.sweeps.time_limit import check_minutes, time_limit
from simpropnet_jax.sweeps.training import Training, run_training
from simpropnet_jax.training.loop import STOPPED_BY_SIGNAL

logger = logging.getLogger(__name__)

DEFAULT_INPUTS = ('episodes', 'identical', 'zero_mask')


def run_sweep(
    rows: Mapping[str, Row],
    workdir: Path,
    inputs: Sequence[str] = DEFAULT_INPUTS,
    shots: Sequence[int] = (),
    seeds: int = 1,
    minutes: float | None = None,
) -> Study:
    """Train and evaluate every row that is not done yet, and print the table of all rows.

    A training is done if it has its results, even without its checkpoints. With only study.json, the config and the
    result files, a sweep resumes on another machine. study.json is written after every training.

    Args:
      rows: the rows, by name.
      workdir: folder with a folder for each training, and study.json.
      inputs: inputs of the evaluations, from `naming.INPUTS`.
      shots: more shots of episodes. The shot that a row is trained with is always evaluated.
      seeds: trainings of each row, with `config.seed`, `config.seed` + 1, ... in the folders NAME, NAME_seed1, ...
        A row that has more already keeps them.
      minutes: time limit; None: no limit.
    Returns:
      The content of study.json, with rows of earlier calls.
    Raises:
      ValueError, OSError, ImportError: what a user can fix, for every row before the first training.
      SystemExit: with `STOPPED_BY_SIGNAL`, when the time is over and something is left.
    """
    _check(inputs, seeds, shots)
    check_minutes(minutes)
    study = read_study(workdir)
    with time_limit(minutes), _saying_how_to_resume():
        rows = _of_one_type(rows, workdir)
        plan = make_plan(rows, study, workdir, inputs, shots, seeds)
        logger.info('%d of %d trainings are left', len(plan.left), plan.total)
        try:
            _run(plan, rows, workdir, study)
        finally:
            if study:
                print('\n' + table(study), end='', flush=True)
    return study


def _of_one_type(rows: Mapping[str, Row], workdir: Path) -> dict[str, Row]:
    """Return the rows with model.dtype resolved: where it is 'auto', all rows of a folder compute in one type."""
    earlier = sorted(workdir.glob('*/config.json'))

    @functools.cache
    def chosen():
        return stored_config(earlier[0].parent).model.dtype if earlier else number_type.faster()

    resolved = {}
    for name, row in rows.items():
        config = ConfigDict(row.config.to_dict())
        if config.model.dtype == 'auto':
            config.model.dtype = chosen()
        resolved[name] = row._replace(config=config)
    return resolved


def _run(plan: Plan, rows: Mapping[str, Row], workdir: Path, study: Study) -> None:
    """Run the trainings that are left; `study` and study.json get each one."""
    left = list(plan.left)
    try:
        while left:
            training = left[0]
            logger.info('%d left, now %s', len(left), training.folder.name)
            counts = plan.parameters[training.row]
            facts = run_training(training, trained=counts['trained'] > 0)
            jax.clear_caches()  # else the compiled programs of all rows stay in memory
            _add(study, rows[training.row], counts, training, facts, left[1:])
            compare(workdir, study, training.row)
            write_study(workdir, study)
            left.pop(0)
            if left:
                print('\n' + table(study), flush=True)
    except SystemExit:
        names = ', '.join(training.folder.name for training in left)
        logger.warning('%d of %d trainings are left (%s)', len(left), plan.total, names)
        raise


@contextlib.contextmanager
def _saying_how_to_resume() -> Iterator[None]:
    try:
        yield
    except SystemExit as ending:
        if ending.code == STOPPED_BY_SIGNAL:
            logger.warning(
                'stopped: the time is over, or a signal came. Re-run the same command to resume'
            )
        raise


def _check(inputs: Sequence[str], seeds: int, shots: Sequence[int]) -> None:
    unknown = sorted(set(inputs) - set(INPUTS))
    if unknown:
        raise ValueError(f'--inputs must be of {", ".join(INPUTS)}, got {unknown[0]!r}')
    if not inputs:
        raise ValueError(f'--inputs must be one or more of {", ".join(INPUTS)}, got none')
    if seeds < 1:
        raise ValueError(f'--seeds must be 1 or more, got {seeds}')
    if any(shot < 1 for shot in shots):
        raise ValueError(f'--shots must be 1 or more, got {min(shots)}')


def _add(
    study: Study,
    row: Row,
    parameters: Mapping[str, int],
    training: Training,
    facts: dict[str, Any],
    left: Sequence[Training],
) -> None:
    """Add a training to the record of its row."""
    trainings = trainings_of(study.get(row.name, {}))
    trainings[training.number : training.number + 1] = [facts]
    stale = [one.number for one in left if one.row == row.name]
    current = [one for number, one in enumerate(trainings) if number not in stale]
    study[row.name] = row_record(row, parameters, trainings, current)
