"""Decide which results belong in one table, and how to tell its rows apart."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from simpropnet_jax.evaluation.results.naming import PARTS, method_words

T = TypeVar('T')

# Numbers belong in one table only if these agree.
SAME = {
    'protocol': lambda record: record['protocol']['name'],
    'data': lambda record: record['data'],
    'void rule': lambda record: record['void'],
}


class Result(NamedTuple):
    """A result file from eval/ or supervised/, a study, or a premise experiment.

    Attributes:
      path: path of the file.
      record: its content.
    """

    path: Path
    record: dict[str, Any]

    @property
    def workdir(self) -> str:
        """The work directory."""
        return self.path.parent.parent.as_posix()


def groups(items: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Group the items by key, in the order of each group's first item.

    Args:
      items: any items.
      key: function of an item that returns plain data.
    """
    grouped: dict[str, list[T]] = {}
    for item in items:
        grouped.setdefault(json.dumps(key(item), sort_keys=True), []).append(item)
    return list(grouped.values())


def comparable(result: Result) -> list:
    """Return what the results of one table must have in common.

    These are protocol, data, void rule, inputs of the method, and number of drawn episodes.
    """
    record = result.record
    inputs = record.get('inputs', 'episodes')
    drawn = next(iter(record['shots'].values())).get('episodes')
    # Their number depends on the fold or on the file.
    given = inputs == 'identical' or record.get('eval', {}).get('episodes_file')
    # Other programs predict ordinary episodes.
    kind = 'episodes' if inputs == 'predictions' else inputs
    return [*(get(record) for get in SAME.values()), kind, None if given else drawn]


def distinct(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the records, SimPropNet's parts first, with distinct names for results of the same method and fold.

    The names add the work directory, with '*' for the fold: results of runs/a0 and runs/a1 share a row, a result of
    runs/b0 has another. If that is not enough, they add the file.
    """
    named = []
    for group in groups(results, lambda result: result.record['method']):
        named += [(group[0].record['method'], record) for record in _told_apart(group)]
    order = {name: i for i, name in enumerate(PARTS)}
    return [record for _, record in sorted(named, key=lambda one: order.get(one[0], len(PARTS)))]


def _told_apart(group: Sequence[Result]) -> list[dict[str, Any]]:
    for words in (_no_words, _series, _file):
        named = [_renamed(result, words(result)) for result in group]
        cells = []
        for record in named:
            cells += _cells(record)
        if len(set(cells)) == len(cells):
            break
    return named


def _no_words(result: Result) -> str:
    return ''


def _series(result: Result) -> str:
    """Return the work directory without its fold number."""
    return re.sub(rf'(?<!\d){result.record["fold"]}(?!\d)', '*', result.workdir)


def _file(result: Result) -> str:
    return result.path.with_suffix('').as_posix()


def _renamed(result: Result, words: str) -> dict[str, Any]:
    name = result.record['method']
    return result.record | {'method': f'{name} ({words})' if words else name}


def _cells(record: dict[str, Any]) -> list[tuple]:
    """Return a record's cells in a table of folds, one for each shot."""
    name, size, fold = method_words(record), record['size'], record['fold']
    return [(name, size, fold, shot) for shot in record['shots']]
