"""Results on H-PASCAL-5i as one table: partitions by splits, methods side by side.

The form follows Tables 3 and 7 of Improved Similarity Propagation, followed by CMPS by method (Table 5). Numbers are
percent. CMPS is the mean over the partitions of a split; its mean is over the splits.
"""

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

import numpy as np

from simpropnet_jax.datasets.folds import FOLDS
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.hpascal import PARTITIONS, describe
from simpropnet_jax.evaluation.results.grouping import SAME
from simpropnet_jax.evaluation.results.naming import method_words
from simpropnet_jax.evaluation.results.tables import ABSENT
from simpropnet_jax.evaluation.results.text_table import aligned

# Numbers belong in one table only if these agree, and in one column group only if their episodes agree.
ALIKE = {
    **SAME,
    'shots': lambda r: '/'.join(r['shots']),
    'parameters': lambda r: r['hpascal']['parameters'],
    'image list': lambda r: r['hpascal']['image_list'],
    'tiny-object rule': lambda r: r['hpascal']['tiny_rule'],
    "oracle's val mIoU": lambda r: r['hpascal']['oracle'][
        'miou'
    ],  # not its folder: one folder can be written in many ways
    'features': lambda r: '{source}, {size} pixels'.format(**r['hpascal']['features']),
}
EMPTY = 'empty'


class Parts(NamedTuple):
    """The parts of a table.

    Attributes:
      heading, legend, notes: lines of text; the legend maps letters to methods.
      header, rows: cells.
    """

    heading: str
    legend: str
    header: list[str]
    rows: list[list[str]]
    notes: str


def table(records: Sequence[dict[str, Any]], label_size: str = 'square') -> str:
    """Format `parts`, followed by `cmps_parts`, as plain text. Raises the same ValueError."""

    def text(found):
        return found.heading + found.legend + aligned(found.header, found.rows) + found.notes

    return text(parts(records, label_size)) + '\n' + text(cmps_parts(records, label_size))


def parts(records: Sequence[dict[str, Any]], label_size: str = 'square') -> Parts:
    """Make a row per partition and CMPS, with a column per method under each split with a result and under the mean.

    A missing value is '-', and so is the mean of fewer than four splits; a single split has no mean column. An empty
    partition is 'empty', and does not count in any mean.

    Args:
      records: results of `hierarchy`, of any methods and folds.
      label_size: 'square' or 'own'.
    Raises:
      ValueError: results that do not belong in one table, or two results of one method and fold.
    """
    methods = _by_method(records, label_size)
    letters = (
        dict(zip(methods, ascii_uppercase, strict=False))
        if len(methods) > 1
        else dict.fromkeys(methods, '')
    )
    header = [
        'partition',
        *(f'{column} {letters[m]}'.strip() for column in _columns(methods) for m in methods),
    ]

    def cells(value):
        return _cells(methods, methods, value)

    def value(record, name):
        return record['partitions'][name] and record['partitions'][name][label_size]['miou']

    rows = [
        [f'{name} {describe(name)}', *cells(lambda record, name=name: value(record, name))]
        for name in PARTITIONS
    ]
    rows.append(['CMPS', *cells(lambda record: record['cmps'][label_size])])
    legend = ''.join(
        f'{letter}  {name}\n' if letter else f'{name}\n' for name, letter in letters.items()
    )
    return Parts(
        _heading(records, label_size, 'mIoU by partition'), legend, header, rows, _notes(records)
    )


def cmps_parts(records: Sequence[dict[str, Any]], label_size: str = 'square') -> Parts:
    """Make a row per method: CMPS of the splits and its mean over them; columns and records as for `parts`."""
    methods = _by_method(records, label_size)
    rows = [
        [name, *_cells({name: folds}, methods, lambda record: record['cmps'][label_size])]
        for name, folds in methods.items()
    ]
    return Parts(
        _heading(records, label_size, 'CMPS by method'),
        '',
        ['method', *_columns(methods)],
        rows,
        '',
    )


def _by_method(records, label_size):
    """Return method -> fold -> its result."""
    _check(records, label_size)
    methods: dict[str, dict[int, dict]] = {}
    for record in records:
        folds = methods.setdefault(method_words(record), {})
        if record['fold'] in folds:
            raise ValueError(
                f'two results are of {method_words(record)}, fold {record["fold"]}: give only one of them'
            )
        folds[record['fold']] = record
    return methods


def _folds(methods):
    return [fold for fold in FOLDS if any(fold in folds for folds in methods.values())]


def _columns(methods):
    """Return the splits with results of any method, and for several splits the mean."""
    splits = [f'split-{fold + 1}' for fold in _folds(methods)]
    return [*splits, 'mean'] if len(splits) > 1 else splits


def _cells(methods, all_methods, value):
    """Return a row's cells: for each of the `_columns` of all methods, one cell per method."""
    rows = [
        [value(folds[f]) if f in folds else np.nan for f in FOLDS] for folds in methods.values()
    ]  # None: empty
    columns = [[_shown(row[f]) for row in rows] for f in _folds(all_methods)]
    if len(columns) > 1:
        columns.append([_mean(row) for row in rows])
    return [cell for column in columns for cell in column]


def _shown(score):
    if score is None:
        return EMPTY
    return ABSENT if np.isnan(score) else f'{100 * score:.2f}'


def _mean(scores):
    there = [score for score in scores if score is not None]
    return _shown(float(np.mean(there)) if there else None)


def _heading(records, label_size, title):
    first = records[0]
    size = f'{first["label_size"]}px' if label_size == 'square' else label_size
    rules = ' and '.join(sorted({record['checkpoint']['selection'] for record in records}))
    facts = f'data {first["data"]}, void rule {first["void"]}, {ALIKE["shots"](first)}-shot, labels {size}'
    weak = ', weak oracle' if first['hpascal']['oracle']['weak'] else ''
    return f'H-PASCAL-5i, {title}; {facts}, checkpoint selection {rules}{weak}\n'


def _notes(records):
    """Describe the basis of the partitions, the empty ones, and those without some class."""
    by_fold = {record['fold']: record for record in sorted(records, key=lambda r: r['fold'])}
    empty, few = [], []
    for fold, record in by_fold.items():
        names = [name for name, one in record['partitions'].items() if one is None]
        empty += [f'split-{fold + 1} {", ".join(names)}'] if names else []
        for name, one in record['partitions'].items():
            lacking = [c for c in record['fold_classes'] if c not in one['classes']] if one else []
            few += [f'split-{fold + 1} {name} without {", ".join(lacking)}'] if lacking else []
    fewest = records[0]['hpascal']['parameters']['partition']
    said = hpascal_file.basis(records[0]['hpascal'])
    said += (
        f'Empty (fewer than {fewest} queries), left out of CMPS and means: {"; ".join(empty)}.\n'
        if empty
        else ''
    )
    return said + (f'Not all classes: {"; ".join(few)}.\n' if few else '')


def _check(records, label_size):
    if not records:
        raise ValueError('there is no result to print: give at least one result file')
    for record in records:
        if 'partitions' not in record:
            raise ValueError(
                f'a result of {record["method"]}, fold {record["fold"]}, has no partitions: '
                '`simpropnet hpascal eval` writes those that have'
            )
        if not isinstance(record['hpascal'].get('oracle'), dict):
            raise ValueError(
                f'a result of {record["method"]}, fold {record["fold"]}, does not say how good the oracle is, as '
                'earlier versions wrote it: build the H-PASCAL-5i file again and evaluate on it'
            )
        if label_size not in record['cmps']:
            raise ValueError(
                f'a result of {record["method"]}, fold {record["fold"]}, has no labels {label_size!r}'
            )
    alike = ALIKE | ({'label size': lambda r: r['label_size']} if label_size == 'square' else {})
    for name, get in alike.items():
        found = sorted({str(get(record)) for record in records})
        if len(found) > 1:
            raise ValueError(
                f'results with different {name} ({", ".join(found)}) do not belong in one table'
            )
    for fold in FOLDS:
        if len({record['protocol']['hash'] for record in records if record['fold'] == fold}) > 1:
            raise ValueError(
                f'results of fold {fold} are of different episodes: evaluate them on one H-PASCAL-5i file'
            )
