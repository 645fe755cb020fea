"""A list of trainings with their evaluations, in a given time: each goes on where it was stopped."""

import contextlib
import json
import logging
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import field_help
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.naming import INPUTS, method_name
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup import experiment
from simpropnet_jax.sweeps.study import evaluated, parameters, training_minutes
from simpropnet_jax.training.loop import STOPPED_BY_SIGNAL, train_and_evaluate

logger = logging.getLogger(__name__)

RESERVE = 20
"""Seconds before the end in which what goes on is saved."""


class Run(NamedTuple):
    """A run's folder name, and its config."""

    name: str
    config: ConfigDict


def plan(text: str, changes: Sequence[str] = (), epochs: int | None = None) -> Run:
    """The run that a text names.

    Args:
      text: METHOD[:WORDS], see runs.py.
      changes: FIELD=VALUE, for every run; the text's own words come after them.
      epochs: where the text does not say it; None: as the config file has it.
    Raises:
      ValueError: there is no such method, word, field or value.
    """
    method, _, given = text.partition(':')
    words = list(filter(None, given.split(',')))
    of_fields = [
        word
        for word in words
        if '=' in word and (word.startswith('epochs=') or '.' in word.split('=')[0])
    ]
    rest = ','.join(word for word in words if word not in of_fields)
    _, config = field_help.load(f'configs/{method}.py:{rest}')
    if epochs is not None:
        of_fields.insert(0, f'epochs={epochs}')
    for change in [*changes, *of_fields]:
        if '=' not in change:
            raise ValueError(f'--set must be FIELD=VALUE, got {change!r}')
        name, _, value = change.partition('=')
        if name == 'epochs':
            config_rules.change(config, 'train.epochs', value)
            config.train.steps = 0
        else:
            config_rules.change(config, name, value)
    named = [word for word in of_fields if not word.startswith('epochs=')]
    parts = [method, *filter(None, rest.split(',')), *named, _length(config)]
    return Run(re.sub(r'[^\w.-]+', '_', '_'.join(parts)), config)


def _length(config) -> str:
    return f'{config.train.steps}steps' if config.train.steps else f'{config.train.epochs}epochs'


def run_all(
    runs: Sequence[Run], workdir: Path, inputs: Sequence[str] = INPUTS, minutes: float | None = None
) -> None:
    """Trains and evaluates each run that is not done yet, and prints the table of all results.

    Args:
      workdir: each run's is the folder of its name in it, its result NAME.json.
      inputs: what they are evaluated on, of `naming.INPUTS`.
      minutes: to stop before; None: not to stop.
    Raises:
      ValueError, OSError, ImportError: what a user can mend, for every run before the first is trained.
      SystemExit: with 143, when time is over and something is left to do.
    """
    if set(inputs) - set(INPUTS):
        raise ValueError(
            f'inputs must be of {", ".join(INPUTS)}, got {min(set(inputs) - set(INPUTS))!r}'
        )
    if minutes is not None and minutes * 60 <= RESERVE:
        raise ValueError(
            f'--minutes must be more than {RESERVE / 60:.2g}, which saving may take, got {minutes:g}'
        )
    twice = [run.name for run in runs if [one.name for one in runs].count(run.name) > 1]
    if twice:
        raise ValueError(f'{twice[0]} is given twice')
    for run in runs:
        method = experiment.prepare_method(run.config, workdir / run.name)
        experiment.prepare_sampler(run.config, experiment.open_data(run.config))
        experiment.require_few_shot(method, workdir / run.name)
    try:
        with _time_limit(minutes):
            for number, run in enumerate(runs, 1):
                logger.info('run %d of %d: %s', number, len(runs), run.name)
                if not (workdir / f'{run.name}.json').exists():
                    _run(run, workdir, inputs)
                    jax.clear_caches()  # or the compiled programs of all runs stay in memory
    except SystemExit as ending:
        if ending.code == STOPPED_BY_SIGNAL:
            logger.warning('time is over, or a signal came: the same command goes on')
        raise
    finally:
        print('\n' + table(workdir, runs), end='')


def _run(run: Run, workdir: Path, inputs: Sequence[str]) -> None:
    folder, config = workdir / run.name, run.config
    size = parameters(experiment.prepare_method(config, folder))
    if size['trained']:
        train_and_evaluate(config, folder)
    results = {one: evaluated(config, folder, one) for one in inputs}
    records = {one: result_file.read_result(path) for one, path in results.items()}
    made = {
        'run': run.name,
        'method': method_name(config),
        'fold': config.fold,
        'seed': config.seed,
        'length': _length(config),
        'dtype': config.model.dtype,
        'size': config.train.size,
        'batch': config.train.batch,
        'data': experiment.data_word(config),
        'selection': config.select.on,
        'parameters': size,
        **_speed(folder, config, bool(size['trained'])),
        'miou': {one: _scores(record) for one, record in records.items()},
        'episodes_per_second': {
            one: record['episodes_per_second'] for one, record in records.items()
        },
        'versions': result_file.versions(),
        'device': result_file.device(),
    }
    checkpoint.write_json(workdir / f'{run.name}.json', made)


def _speed(folder, config, trained) -> dict[str, float]:
    """Minutes of training, without selection, start and pauses, and pairs a second in them."""
    if not trained:
        return {'minutes': 0.0, 'pairs_per_second': 0.0}
    minutes = training_minutes(folder, config.train.batch)
    with contextlib.closing(checkpoint.Checkpoints(folder / 'checkpoints')) as checkpoints:
        steps = checkpoints.steps()[-1]
    return {'minutes': minutes, 'pairs_per_second': steps * config.train.batch / (60 * minutes)}


def _scores(record) -> dict[str, dict[str, dict]]:
    """{shot: {label size: mIoU, its deviation over the sets, FB-IoU}}"""
    names = 'miou', 'miou_std', 'miou_interval', 'fb_iou'
    return {
        shot: {
            size: {name: scored[size].get(name) for name in names}
            for size in ('square', 'own')
            if size in scored
        }
        for shot, scored in record['shots'].items()
    }


@contextlib.contextmanager
def _time_limit(minutes: float | None) -> Iterator[None]:
    """Ends what goes on within `RESERVE` seconds of the end: a training hears SIGTERM itself, and saves."""
    if minutes is None:
        yield
        return

    def end(*_):
        raise SystemExit(STOPPED_BY_SIGNAL)

    before = (
        signal.signal(signal.SIGTERM, end),
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM)),
    )
    signal.setitimer(signal.ITIMER_REAL, minutes * 60 - RESERVE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])


def table(workdir: Path, runs: Sequence[Run]) -> str:
    """A line for each run that has a result, with its scores at the size of the protocol."""
    rows: list[list[str]] = []
    for run in runs:
        path = workdir / f'{run.name}.json'
        made: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        if made is None:
            rows.append([run.name, *['-'] * 7])
            continue
        score = lambda inputs, shot, made=made: _percent(made['miou'].get(inputs, {}).get(shot))
        rows.append(
            [
                run.name,
                made['method'],
                score('episodes', '1'),
                score('episodes', '5'),
                score('identical', '1'),
                score('zero_mask', '1'),
                f'{made["minutes"]:.1f}',
                f'{made["pairs_per_second"]:.0f}',
            ]
        )
    return aligned(
        ['run', 'method', '1-shot', '5-shot', 'identical', 'zero mask', 'minutes', 'pairs/s'], rows
    )


def _percent(scored) -> str:
    if scored is None:
        return '-'
    one = scored['square']
    return f'{100 * one["miou"]:.1f}' + (
        '' if one['miou_std'] is None else f' ± {100 * one["miou_std"]:.1f}'
    )
