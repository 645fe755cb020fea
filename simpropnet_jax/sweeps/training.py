"""One training of a row with its evaluations, and its entry in study.json."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax.config import rules
from simpropnet_jax.config.fields import values_before
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.naming import result_name
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.sweeps.rows import Row
from simpropnet_jax.training.loop import train_and_evaluate
from simpropnet_jax.training.metrics_file import read_metrics


@dataclasses.dataclass(frozen=True)
class Training:
    """A row trained with one seed.

    Attributes:
      row: name of the row.
      number: number of the training within the row, from 0.
      config: config with the seed of this training, evaluated at the shot of the training.
      workdir: folder of the sweep.
      folder: run folder of this training.
      evaluations: configs to evaluate with, by inputs.
      earlier: what study.json has of it; empty if it has nothing.
    """

    row: str
    number: int
    config: ConfigDict
    workdir: Path
    folder: Path
    evaluations: Mapping[str, ConfigDict]
    earlier: Mapping[str, Any]

    @property
    def is_done(self) -> bool:
        """Whether every result exists, from the same evaluation; checkpoints are not needed."""
        results = self.earlier.get('results', {})
        return all(
            inputs in results and _is_of(self.workdir / results[inputs], config)
            for inputs, config in self.evaluations.items()
        )


def new_training(
    row: Row,
    number: int,
    workdir: Path,
    inputs: Sequence[str],
    shots: Sequence[int],
    earlier: Mapping[str, Any],
) -> Training:
    """Return the training of a row with `config.seed + number`.

    Args:
      row: the row.
      number: 0 for the first training. Its folder is NAME, the row's name; the others are NAME_seed1, ...
      workdir: folder of the sweep.
      inputs: inputs of the row's evaluations.
      shots: more shots of episodes. The shot of the training is always evaluated.
      earlier: what study.json has of it; empty if it has nothing.
    """
    config, shot = ConfigDict(row.config.to_dict()), row.config.train.shot
    config.seed += number
    folder = workdir / (f'{row.name}_seed{number}' if number else row.name)
    evaluations = {
        name: _at_shots(config, {shot, *shots} if name == 'episodes' else {shot}) for name in inputs
    }
    return Training(
        row.name, number, _at_shots(config, {shot}), workdir, folder, evaluations, earlier
    )


def run_training(training: Training, trained: bool) -> dict[str, Any]:
    """Train and evaluate, and return the facts for study.json. Existing results are used again.

    Args:
      training: the training.
      trained: whether the method has parameters to train.
    """
    config, folder = training.config, training.folder
    if trained:
        train_and_evaluate(config, folder)
    which, step, score = _chosen(config, folder)
    results = {
        inputs: _evaluated(evaluation, folder, which, step, inputs)
        for inputs, evaluation in training.evaluations.items()
    }
    results = _still_valid(training) | results
    records = {inputs: result_file.read_result(path) for inputs, path in results.items()}
    speeds = {inputs: record.get('episodes_per_second') for inputs, record in records.items()}
    shot = str(config.train.shot)
    minutes = training_minutes(folder, config.train.batch) if trained else 0.0
    return {
        'seed': config.seed,
        'minutes': minutes,
        'pairs_per_second': _pairs_per_second(folder, config.train.batch, minutes),
        'checkpoint': None if step is None else {'which': which, 'step': step},
        'selection_score': score,
        'miou': _flat_scores(records, shot),
        'scores': {inputs: _scores(record) for inputs, record in records.items()},
        'episodes_per_second': (speeds.get('episodes') or {}).get(shot),
        'speeds': speeds,
        'results': {
            inputs: str(path.relative_to(training.workdir)) for inputs, path in results.items()
        },
        'versions': result_file.versions(),
        'device': result_file.device(),
    }


def training_minutes(folder: Path, batch: int) -> float:
    """Return the minutes of the training steps, without selection, start and pauses, by the speeds in metrics.jsonl."""
    lines = read_metrics(folder / 'metrics.jsonl')
    seconds, before = 0.0, 0
    for line in lines:
        if 'pairs_per_second' in line:
            seconds += (line['step'] - before) * batch / line['pairs_per_second']
            before = line['step']
    return seconds / 60


def evaluation_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `config.eval` of a result, with the fields that are newer than the file."""
    return rules.plain(ConfigDict({**values_before('eval'), **record['eval']}))


def _at_shots(config: ConfigDict, shots: set[int]) -> ConfigDict:
    """Return a copy that is evaluated at these shots."""
    config = ConfigDict(config.to_dict())
    config.eval.shots = tuple(sorted(shots))
    return config


def _is_of(path: Path, config: ConfigDict) -> bool:
    """Whether a result file exists and was evaluated with this config."""
    if not path.exists():
        return False
    return evaluation_of(result_file.read_result(path)) == rules.plain(config.eval)


def _chosen(config: ConfigDict, folder: Path) -> tuple[str, int | None, float | None]:
    """Return the checkpoint to evaluate: 'best' or 'latest', its step, and its selection score.

    If the training ends with transformed pairs, this is the latest: the best may be from before them.
    """
    which = 'latest' if config.tpc.when == 'after' else 'best'
    if not checkpoint.exist(folder):
        return which, None, None
    with contextlib.closing(checkpoint.Checkpoints(folder / 'checkpoints')) as checkpoints:
        step = checkpoints.best_step() if which == 'best' else checkpoints.steps()[-1]
        score = None if config.select.on == 'last' else checkpoints.score(step)
    return which, step, score


def _evaluated(config: ConfigDict, folder: Path, which: str, step: int | None, inputs: str) -> Path:
    """Return the result file of a checkpoint, or of a method without training; evaluate if it is missing."""
    path = folder / 'eval' / result_name(config, 'untrained' if step is None else which, inputs)
    if not _is_of(path, config) or result_file.read_result(path)['checkpoint']['step'] != step:
        evaluate_run(config, folder, which, inputs)
    return path


def _still_valid(training: Training) -> dict[str, Path]:
    """Return an earlier call's results on other inputs, if evaluated with this config, apart from the shots."""
    wanted = {**rules.plain(training.config.eval), 'shots': None}
    found = {}
    for inputs, result in training.earlier.get('results', {}).items():
        path = training.workdir / result
        if path.exists():
            evaluation = evaluation_of(result_file.read_result(path))
            if {**evaluation, 'shots': None} == wanted:
                found[inputs] = path
    return found


def _pairs_per_second(folder: Path, batch: int, minutes: float) -> float | None:
    if not minutes:
        return None
    with contextlib.closing(checkpoint.Checkpoints(folder / 'checkpoints')) as checkpoints:
        return checkpoints.steps()[-1] * batch / (60 * minutes)


def _flat_scores(records: Mapping[str, Mapping], shot: str) -> dict[str, dict]:
    """Return scores at the protocol's label size, by inputs; scores at other shots as 'episodes, 5-shot'."""
    scores = {}
    for inputs, record in records.items():
        for number, sizes in record['shots'].items():
            plain = number == shot or len(record['shots']) == 1
            square = sizes['square']
            scores[inputs if plain else f'{inputs}, {number}-shot'] = {
                'miou': square['miou'],
                'std': square['miou_std'],
                'fb_iou': square['fb_iou'],
            }
    return scores


def _scores(record: Mapping[str, Any]) -> dict[str, dict]:
    """Return {shot: {label size: mIoU, its deviation over the sets, its interval, FB-IoU}}."""
    names = ('miou', 'miou_std', 'miou_interval', 'fb_iou')
    scores: dict[str, dict] = {}
    for shot, sizes in record['shots'].items():
        scores[shot] = {}
        for size in ('square', 'own'):
            if size in sizes:
                scores[shot][size] = {name: sizes[size].get(name) for name in names}
    return scores
