"""study.json: the rows of a sweep with their trainings, and each row's comparison with the row that it changes.

{row: {method, shot, against, ..., miou, comparison, trainings: [{seed, minutes, miou, results, ...}]}}
"""

import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simpropnet_jax.evaluation.results import bootstrap, result_file
from simpropnet_jax.evaluation.results.naming import method_name
from simpropnet_jax.report.study_table import StudyRow
from simpropnet_jax.runtime import records
from simpropnet_jax.setup.data import data_word
from simpropnet_jax.sweeps.comparable import same_evaluation
from simpropnet_jax.sweeps.rows import Row, length
from simpropnet_jax.sweeps.training import evaluation_of

logger = logging.getLogger(__name__)

Study = dict[str, dict[str, Any]]
"""Content of study.json: a record for each row, by the row's name."""

VERDICTS = {'A is better': 'worse', 'B is better': 'better', 'undecided': 'undecided'}


def read_study(workdir: Path) -> Study:
    """Return the content of study.json; empty if there is no file.

    Raises:
      ValueError: the file is damaged.
    """
    path = workdir / 'study.json'
    again = 'Remove it and re-run the same command: the checkpoints and results beside it are used again'
    return records.read(path, dict[str, StudyRow], again) if path.exists() else {}


def write_study(workdir: Path, study: Study) -> None:
    """Write study.json, with the rows in their order."""
    records.write(workdir / 'study.json', study, sort_keys=False)


def trainings_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trainings of a row; a row of an earlier version is a single training."""
    if not record:
        return []
    facts = ('minutes', 'miou', 'episodes_per_second', 'results')
    only = {'seed': 0} | {name: record[name] for name in facts if name in record}
    return record.get('trainings') or [only]


def row_record(
    row: Row,
    parameters: Mapping[str, int],
    trainings: Sequence[Mapping[str, Any]],
    current: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the record of a row.

    Args:
      row: the row.
      parameters: number of parameters, 'all' and 'trained'.
      trainings: every training so far.
      current: the trainings evaluated as requested in this call. The row's scores are the means over them.
    """
    config = row.config
    return {
        'method': method_name(config),
        'against': row.against,
        'fold': config.fold,
        'shot': config.train.shot,
        'data': data_word(config),
        'length': length(config),
        'batch': config.train.batch,
        'size': config.train.size,
        'dtype': config.model.dtype,
        'selection': config.select.on,
        'parameters': dict(parameters),
        **_summary(current),
        'trainings': list(trainings),
    }


def compare(workdir: Path, study: Study, changed: str) -> None:
    """Compare a row with the row that it changes, and with the rows that change it."""
    for name, record in study.items():
        against = record['against']
        if changed in (name, against):
            record.pop('comparison', None)
            record.pop('other_comparisons', None)
            if against in study:
                record |= _comparisons(workdir, study, name)


def _summary(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one training's facts, or means over several trainings with the standard deviation of the mIoU."""
    first = trainings[0]
    facts = {name: first.get(name) for name in ('miou', 'episodes_per_second', 'results')}
    for name in ('minutes', 'pairs_per_second', 'selection_score'):
        values = [one[name] for one in trainings if one.get(name) is not None]
        facts[name] = statistics.mean(values) if values else None
    if len(trainings) > 1:
        shared = [name for name in first['miou'] if all(name in one['miou'] for one in trainings)]
        facts['miou'] = {name: _over([one['miou'][name] for one in trainings]) for name in shared}
    return facts


def _over(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return mean and standard deviation of a score over trainings."""
    values = [score['miou'] for score in scores]
    return {
        'miou': statistics.mean(values),
        'std': statistics.stdev(values),
        'fb_iou': statistics.mean(score['fb_iou'] for score in scores),
    }


def _comparisons(workdir: Path, study: Study, name: str) -> dict[str, dict]:
    """Compare a row with the row that it changes: on episodes, and on each other input that both have."""
    record = study[name]
    ours, theirs = trainings_of(record), trainings_of(study[record['against']])
    every = [set(training['results']) for training in [*ours, *theirs]]
    found: dict[str, dict] = {}
    for inputs in record['results']:
        if all(inputs in results for results in every):
            try:
                paths = [
                    [workdir / training['results'][inputs] for training in trainings]
                    for trainings in (theirs, ours)
                ]
                found[inputs] = _compared(*paths, record['shot'], record['against'])
            except (ValueError, OSError) as error:
                logger.warning('%s on %s has no verdict: %s', name, inputs, error)
    on_episodes = {'comparison': found.pop('episodes')} if 'episodes' in found else {}
    return on_episodes | {'other_comparisons': found}


def _compared(theirs: Sequence[Path], ours: Sequence[Path], shot: int, against: str) -> dict:
    paths = [*theirs, *ours]
    records = [result_file.read_result(path) for path in paths]
    if not same_evaluation([{'eval': evaluation_of(record)} for record in records]):
        raise ValueError('results were evaluated in different ways so far')
    counts = [_counts(path, record, shot) for path, record in zip(paths, records, strict=True)]
    result = bootstrap.compare_trainings(counts[: len(theirs)], counts[len(theirs) :])
    return {
        'against': against,
        'difference': result.b - result.a,
        'interval': [result.low, result.high],
        'verdict': VERDICTS[result.verdict],
        'trainings': [len(theirs), len(ours)],
    }


def _counts(path: Path, record: Mapping[str, Any], shot: int):
    """Read a result's episodes at the row's shot, or at its only shot: identical inputs are 1-shot."""
    shots = record['shots']
    return bootstrap.load(path, shot if str(shot) in shots else int(*shots))[1]
