"""Which results may stand in one table, and how rows of one table are told apart."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from simpropnet_jax.evaluation.results.naming import PARTS, method_words

T = TypeVar('T')

# Numbers may stand in one table only if these agree.
SAME = {
    'protocol': lambda record: record['protocol']['name'],
    'data': lambda record: record['data'],
    'void rule': lambda record: record['void'],
}


class Result(NamedTuple):
    """A result file: of eval/ or supervised/, a study, or a premise experiment.

    Attributes:
      path: of the file.
      record: what it holds.
    """

    path: Path
    record: dict[str, Any]

    @property
    def workdir(self) -> str:
        """The work directory."""
        return self.path.parent.parent.as_posix()


def groups(items: Iterable[T], key: Callable[[T], Any]) -> list[list[T]]:
    """Return the items with the same key together, in the order of the first of each.

    Args:
      items: of any kind.
      key: function of an item; what it returns must be plain data.
    """
    grouped: dict[str, list[T]] = {}
    for item in items:
        grouped.setdefault(json.dumps(key(item), sort_keys=True), []).append(item)
    return list(grouped.values())


def comparable(result: Result) -> list:
    """Return what must be the same in results of one table.

    Protocol, data, void rule, what the method was given, and how many episodes were drawn.
    """
    record = result.record
    inputs = record.get('inputs', 'episodes')
    drawn = next(iter(record['shots'].values())).get('episodes')
    # How many these are is a matter of the fold, or of the file.
    given = inputs == 'identical' or record.get('eval', {}).get('episodes_file')
    # Predictions of other programs are made on ordinary episodes.
    kind = 'episodes' if inputs == 'predictions' else inputs
    return [*(get(record) for get in SAME.values()), kind, None if given else drawn]


def distinct(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return the records, SimPropNet's parts first, with names that tell apart results of the same method and fold.

    What tells them apart is the work directory, in which '*' stands for the fold: results of runs/a0 and runs/a1 are
    one row, a result of runs/b0 is another. Where that is not enough, it is the file.
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
    """The work directory without the number that is its fold."""
    return re.sub(rf'(?<!\d){result.record["fold"]}(?!\d)', '*', result.workdir)


def _file(result: Result) -> str:
    return result.path.with_suffix('').as_posix()


def _renamed(result: Result, words: str) -> dict[str, Any]:
    name = result.record['method']
    return result.record | {'method': f'{name} ({words})' if words else name}


def _cells(record: dict[str, Any]) -> list[tuple]:
    """Where a record stands in a table of folds: one cell for each shot."""
    name, size, fold = method_words(record), record['size'], record['fold']
    return [(name, size, fold, shot) for shot in record['shots']]
