"""Plan what a sweep has left to do; all checks come before the first training."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import rules
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.parameters import split
from simpropnet_jax.setup.run import prepare, prepare_training, with_episodes
from simpropnet_jax.sweeps.comparable import check_comparable
from simpropnet_jax.sweeps.rows import Row
from simpropnet_jax.sweeps.study import Study, trainings_of
from simpropnet_jax.sweeps.training import Training, new_training

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The trainings left to do.

    Attributes:
      left: trainings that are not done; the first of every row comes before the second of any.
      total: number of all trainings.
      parameters: number of a method's parameters, 'all' and 'trained', by rows with trainings left.
    """

    left: Sequence[Training]
    total: int
    parameters: Mapping[str, Mapping[str, int]]


def make_plan(
    rows: Mapping[str, Row],
    study: Study,
    workdir: Path,
    inputs: Sequence[str],
    shots: Sequence[int],
    seeds: int,
) -> Plan:
    """Plan the trainings, and check everything that can be checked.

    A row that has all its results needs neither data nor weights.

    Args:
      rows: the rows, by name.
      study: the rows of earlier calls.
      workdir: folder of the sweep.
      inputs, shots, seeds: see `sweep.run_sweep`.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong with a row.
    """
    check_comparable(rows, study, workdir)
    left: list[Training] = []
    total, parameters = 0, {}
    for row in rows.values():
        trainings = _trainings(row, study.get(row.name, {}), workdir, inputs, shots, seeds)
        for training in trainings:
            _check_same_run(training)
        to_do = [training for training in trainings if not training.is_done]
        if to_do:
            counts = _check(to_do[0], inputs)
            parameters[row.name] = counts
            if not counts['trained']:  # the seed has no effect
                trainings = trainings[:1]
                to_do = to_do[:1]
        total += len(trainings)
        left += to_do
    return Plan(sorted(left, key=lambda training: training.number), total, parameters)


def count_parameters(method: Method) -> dict[str, int]:
    """Return how many parameters a method has, and how many of them are trained."""
    params = method.abstract()['params']
    trained, _ = split(params, method.config.train.frozen)
    return {'all': _size(params), 'trained': _size(trained)}


def _size(params: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _trainings(row, record, workdir, inputs, shots, seeds) -> list[Training]:
    """Return every training of a row: one for each seed, and the trainings of earlier calls."""
    earlier = trainings_of(record)
    count = max(seeds, len(earlier))
    if record.get('parameters', {}).get('trained') == 0:
        count = 1
    known = [*earlier, *[{}] * count]
    return [
        new_training(row, number, workdir, inputs, shots, known[number]) for number in range(count)
    ]


def _check_same_run(training: Training) -> None:
    stored = training.folder / 'config.json'
    if stored.exists():
        rules.check_same_run(training.config, rules.load(stored), training.folder)


def _check(training: Training, inputs: Sequence[str]) -> dict[str, int]:
    """Refuse what cannot be trained or evaluated, and count the parameters."""
    logger.info('checking %s', training.row)
    config = ConfigDict(training.config.to_dict())
    evaluations = training.evaluations.values()
    config.eval.shots = tuple(sorted({shot for one in evaluations for shot in one.eval.shots}))
    run = prepare(config, training.folder)
    for name in inputs:
        with_episodes(run, name)
    parameters = count_parameters(run.method)
    if parameters['trained']:
        prepare_training(training.config, training.folder)
    return parameters
