"""Result files as plain text tables: one fold class by class, and the four folds as the paper's Table 3.

`simpropnet tables` prints them. Numbers are percent; ± is the standard deviation over the seeds' sets of episodes. The
95 % interval of mIoU is for other query images of the same classes: see `bootstrap`. Each kind of results gets its own
table.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simpropnet_jax.evaluation.engine.metrics import mean_and_std
from simpropnet_jax.evaluation.results.grouping import SAME, Result, comparable, distinct, groups
from simpropnet_jax.evaluation.results.naming import method_words
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.evaluation.results.text_table import aligned

ABSENT = '-'
INTERVAL = '95 % interval'


def class_table(record: dict[str, Any]) -> str:
    """Format one result: a row per shot and label size; columns per class, mIoU with interval, FB-IoU, deviations."""
    title = f'{method_words(record)}, fold {record["fold"]} (split-{record["fold"] + 1})'
    return heading([record], title) + aligned(*class_rows(record))


def class_rows(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of `class_table`."""
    scored = list(_scores(record))
    with_interval = any(
        'miou_interval' in scores for *_, scores in scored
    )  # earlier versions wrote none
    header = ['shot', 'labels', *record['classes'], 'mIoU', *[INTERVAL] * with_interval, 'FB-IoU']
    rows = []
    for shot, label_size, scores in scored:
        per_class = [_percent(scores['per_class'][name]) for name in record['classes']]
        miou = _percent(scores['miou'], scores['miou_std'])
        fb_iou = _percent(scores['fb_iou'], scores['fb_iou_std'])
        rows.append(
            [shot, label_size, *per_class, miou, *[_interval(scores)] * with_interval, fb_iou]
        )
    return header, rows


def protocol_table(records: Sequence[dict[str, Any]]) -> str:
    """Format one method and fold under several protocols: a row per protocol and shot, at the protocol's mask size."""
    header = ['protocol', 'shot', 'labels', 'void', 'episodes', 'mIoU', 'std', INTERVAL, 'hash']
    rows = []
    for record in records:
        own = record['resolution'] == 'own'
        for shot, scored in record['shots'].items():
            scores, counts = scored['own' if own else 'square'], list(scored['episodes'].values())
            episodes = f'{len(counts)} x {counts[0]}' if len(set(counts)) == 1 else str(sum(counts))
            deviation = ABSENT if scores['miou_std'] is None else _percent(scores['miou_std'])
            rows.append(
                [
                    record['protocol']['name'],
                    shot,
                    'own' if own else f'{record["resolution"]}px',
                    record['void'],
                    episodes,
                    _percent(scores['miou']),
                    deviation,
                    _interval(scores),
                    record['protocol']['hash'],
                ]
            )
    first = records[0]
    facts = f'{method_words(first)}, fold {first["fold"]} (split-{first["fold"] + 1}), data {first["data"]}'
    return f'{facts}, checkpoint selection {first["checkpoint"]["selection"]}\n' + aligned(
        header, rows
    )


def fold_table(records: Sequence[dict[str, Any]]) -> str:
    """Format all folds: a row per method, shot and label size; mIoU of each split, their mean, and mean FB-IoU.

    A fold without a result shows '-', and so does the mean. The deviation of the mean is the deviation of the folds'
    mean over the seeds; it needs the same seeds in all folds.
    Raises:
      ValueError: results of different protocols, data or void rules, or two of one method, fold and shot.
    """
    header, rows = fold_rows(records)
    count = _folds(records)
    return heading(records, f'mIoU, mean of {"four" if count == 4 else count} folds') + aligned(
        header, rows
    )


def fold_rows(records: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of `fold_table`. Raises the same ValueError."""
    _check_comparable(records)
    folds_of_data = range(_folds(records))
    header = [
        'method',
        'input',
        'labels',
        'shot',
        *(f'split-{fold + 1}' for fold in folds_of_data),
        'mean',
        'FB-IoU',
    ]
    cells: dict[tuple, dict[int, dict]] = {}
    for record in records:
        for shot, label_size, scores in _scores(record):
            folds = cells.setdefault(
                (method_words(record), str(record['size'] or ABSENT), label_size, shot), {}
            )
            if record['fold'] in folds:
                raise ValueError(
                    f'two results are of {method_words(record)}, fold {record["fold"]}, {shot}-shot, '
                    f'input {record["size"]}: give only one of them'
                )
            folds[record['fold']] = scores
    rows = []
    for key, folds in cells.items():
        one = [
            _percent(folds[f]['miou'], folds[f]['miou_std']) if f in folds else ABSENT
            for f in folds_of_data
        ]
        complete = len(folds) == len(folds_of_data)
        rows.append(
            [
                *key,
                *one,
                *(_mean(folds, name) if complete else ABSENT for name in ('miou', 'fb_iou')),
            ]
        )
    return header, rows


def _scores(record):
    for shot, by_label in record['shots'].items():
        for label_size in ('square', 'own'):
            if label_size in by_label:
                shown = f'{record["label_size"]}px' if label_size == 'square' else label_size
                yield shot, shown, by_label[label_size]


def _folds(records) -> int:
    return max(record.get('folds', 4) for record in records)  # earlier versions knew only PASCAL-5i


def _interval(scores):
    if not scores.get('miou_interval'):
        return ABSENT
    low, high = scores['miou_interval']
    return f'{_percent(low)} to {_percent(high)}'


def _mean(folds, name):
    seeds = [set(f['seeds']) for f in folds.values()]
    if any(s != seeds[0] for s in seeds):
        return _percent(mean_and_std([f[name] for f in folds.values()])[0])
    means = [
        mean_and_std([f['seeds'][seed][name] for f in folds.values()])[0]
        for seed in sorted(seeds[0])
    ]
    return _percent(*mean_and_std(means))


def _check_comparable(records):
    if not records:
        raise ValueError('there is no result to print: give at least one result file')
    for name, get in SAME.items():
        found = sorted({str(get(record)) for record in records})
        if len(found) > 1:
            raise ValueError(
                f'results with different {name} ({", ".join(found)}) do not belong in one table'
            )


def heading(records: Sequence[dict[str, Any]], title: str) -> str:
    """Return the title and what the results have in common, in one line."""
    first = records[0]
    facts = ', '.join(f'{name} {get(first)}' for name, get in SAME.items())
    rules = sorted({record['checkpoint']['selection'] for record in records})
    return f'{title}; {facts}, checkpoint selection {" and ".join(rules)}\n'


def _percent(value, deviation=None):
    return f'{100 * value:.2f}' + (f' ± {100 * deviation:.2f}' if deviation is not None else '')


def result_tables(results: Sequence[Result]) -> str:
    """Format each result class by class, then all results by fold: one table for each kind of results.

    Results are of one kind if they have the same protocol, data, void rule, inputs and number of episodes. The names of
    two results of the same method and fold include the work directory.

    Args:
      results: files with their records.
    """
    parts = [class_table(result.record) for result in results]
    parts += [fold_table(distinct(kind)) for kind in groups(results, comparable)]
    return '\n'.join(parts)


def main(paths: Sequence[str]) -> None:
    """Print the tables of result files.

    Args:
      paths: paths of the files; repeated paths count once.
    Raises:
      FileNotFoundError, ValueError: a file is missing, damaged or of another kind.
    """
    results = [Result(Path(path), read_result(path)) for path in dict.fromkeys(paths)]
    print(result_tables(results), end='')
