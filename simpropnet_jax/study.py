"""Several trainings under one budget, evaluated on the same episodes and compared in pairs."""

import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from simpropnet_jax import checkpoint, experiment
from simpropnet_jax import config as config_rules
from simpropnet_jax.evaluation import compare, report
from simpropnet_jax.evaluation.run import INPUTS, evaluate_run, method_name, result_name
from simpropnet_jax.pages.study_table import table
from simpropnet_jax.training.loop import train_and_evaluate

logger = logging.getLogger(__name__)


def run_study(
    rows: Mapping[str, tuple[ConfigDict, str | None]], workdir: Path, inputs: Sequence[str] = INPUTS
) -> dict[str, dict]:  # fmt: skip
    """Trains and evaluates every row, at the shot it is trained with; what is done already is not done again.

    Args:
      rows: name -> config, and the name of the row that it is compared with.
      workdir: each row's is the folder of its name in it. All rows so far go to study.json.
      inputs: what they are evaluated on, of `evaluation.run.INPUTS`.
    Returns:
      What study.json holds, rows of earlier calls too: name -> method, minutes of training, mIoU by inputs, comparison.
    Raises:
      ValueError, OSError: what a user can mend, for every row before the first is trained.
    """
    unknown = set(inputs) - set(INPUTS)
    if unknown:
        raise ValueError(f'inputs must be of {", ".join(INPUTS)}, got {min(unknown)!r}')
    for name, (config, _) in rows.items():
        experiment.prepare_method(config, workdir / name)
        experiment.prepare_sampler(config, experiment.open_data(config))
    stored = workdir / 'study.json'
    found = json.loads(stored.read_text()) if stored.exists() else {}
    for number, (name, (config, _)) in enumerate(rows.items(), 1):
        logger.info('row %d of %d: %s', number, len(rows), name)
        config = ConfigDict(config.to_dict())
        config.eval.shots = (config.train.shot,)
        train_and_evaluate(config, workdir / name)
        results = {one: _evaluated(config, workdir / name, one) for one in inputs}
        jax.clear_caches()  # or the compiled programs of all rows stay in memory
        found[name] = {
            'method': method_name(config), 'shot': config.train.shot, 'against': rows[name][1],
            'minutes': _minutes(workdir / name, config.train.batch),
            'miou': {one: _score(path) for one, path in results.items()},
            'results': {one: str(path.relative_to(workdir)) for one, path in results.items()},
        }  # fmt: skip
        for one in found:
            against = found[one]['against']
            if all('episodes' in found.get(row, {}).get('results', {}) for row in (one, against)):
                found[one]['comparison'] = _compared(workdir, found, against, one)
        checkpoint.write_json(stored, found)
        print('\n' + table(found))
    return found


def _evaluated(config, workdir, inputs) -> Path:
    """The result file of the best checkpoint, made if it is not there.

    Where the training ends with transformed pairs it is that of the last: the best may be from before them.
    """
    which = 'latest' if config.tpc.when == 'after' else 'best'
    path = workdir / 'eval' / result_name(config, which, inputs)
    with contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints:
        step = checkpoints.best_step() if which == 'best' else checkpoints.steps()[-1]
    if path.exists():
        record = report.read_result(path)
        if record['checkpoint']['step'] == step and record['eval'] == config_rules.plain(config.eval):
            return path
    evaluate_run(config, workdir, which, inputs)
    return path


def _score(path) -> dict[str, float | None]:
    (scores,) = report.read_result(path)['shots'].values()
    scores = scores['square']
    return {'miou': scores['miou'], 'std': scores['miou_std'], 'fb_iou': scores['fb_iou']}


def _compared(workdir, found, against, name) -> dict:
    """Does this row beat the other on the episodes?"""
    load = lambda row: compare.load(workdir / found[row]['results']['episodes'], found[row]['shot'])[1]
    result = compare.paired_bootstrap(load(against), load(name)).miou
    verdict = {'A is better': 'worse', 'B is better': 'better'}.get(result.verdict, result.verdict)
    interval = [result.low, result.high]
    return {'against': against, 'difference': result.b - result.a, 'interval': interval, 'verdict': verdict}


def _minutes(workdir, batch) -> float:
    """What the training took, by the speeds it wrote: without selection, start and pauses."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    timed, seconds, before = [line for line in lines if 'pairs_per_second' in line], 0.0, 0
    for line in timed:
        seconds += (line['step'] - before) * batch / line['pairs_per_second']
        before = line['step']
    return seconds / 60
