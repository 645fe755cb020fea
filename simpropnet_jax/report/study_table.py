"""The rows of a sweep, study.json, as a table."""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from simpropnet_jax.evaluation.results.naming import INPUTS
from simpropnet_jax.evaluation.results.text_table import aligned

ABSENT = '-'
FACTS = (
    'selection',
    'difference',
    'interval',
    'verdict',
    'minutes',
    'pairs/s',
    'trained / all',
    'episodes/s',
)


class Score(TypedDict):
    """A row's score on one kind of inputs."""

    miou: float
    std: float | None
    fb_iou: NotRequired[float]


class RowComparison(TypedDict):
    """A row's difference from the row that it changes."""

    against: str
    difference: float
    interval: tuple[float, float]
    verdict: str


class OneTraining(TypedDict):
    """A training of a row."""

    miou: dict[str, Score]
    results: dict[str, str]
    seed: NotRequired[int]
    minutes: NotRequired[float | None]
    episodes_per_second: NotRequired[float | None]
    pairs_per_second: NotRequired[float | None]
    selection_score: NotRequired[float | None]


class StudyRow(TypedDict):
    """A row of study.json; entries that earlier versions did not write may be missing."""

    method: str
    shot: int
    against: str | None
    minutes: float | None
    miou: dict[str, Score]
    results: dict[str, str]
    fold: NotRequired[int]
    selection: NotRequired[str]
    selection_score: NotRequired[float | None]
    pairs_per_second: NotRequired[float | None]
    episodes_per_second: NotRequired[float | None]
    parameters: NotRequired[dict[str, int]]
    comparison: NotRequired[RowComparison]
    trainings: NotRequired[list[OneTraining]]


def table(study: Mapping[str, Mapping]) -> str:
    """Return a line for each row: its scores, and the difference from the row that it changes.

    Each mIoU is followed by its standard deviation, over several trainings or over one training's sets of episodes. The
    selection is the validation mIoU of the evaluated checkpoint, with the classes it was measured on.
    """
    return aligned(*table_rows(study))


def table_rows(study: Mapping[str, Mapping]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of `table`. Facts that earlier versions did not write are absent."""
    inputs = _inputs(study)
    methods = [row['method'] for row in study.values()]
    rows = []
    for name, row in study.items():
        unique = methods.count(row['method']) == 1
        rows.append(
            [
                row['method'] if unique else f'{row["method"]} ({name})',
                str(row.get('fold', ABSENT)),
                str(row['shot']),
                str(len(row.get('trainings', [row]))),
                *[_score(row['miou'].get(one)) for one in inputs],
                _selection(row),
                *_difference(row.get('comparison')),
                f'{row["minutes"]:.1f}',
                _whole(row.get('pairs_per_second')),
                _millions(row.get('parameters')),
                _whole(row.get('episodes_per_second')),
            ]
        )
    return ['method', 'fold', 'shot', 'trainings', *inputs, *FACTS], rows


def _inputs(study: Mapping[str, Mapping]) -> Sequence[str]:
    """Return the inputs of all rows, with 'episodes, 5-shot' after 'episodes'."""
    names = dict.fromkeys(name for row in study.values() for name in row['miou'])
    return sorted(names, key=lambda name: (INPUTS.index(name.split(',')[0]), name))


def _score(score: Mapping | None) -> str:
    if score is None:
        return ABSENT
    deviation = '' if score['std'] is None else f' ± {100 * score["std"]:.1f}'
    return f'{100 * score["miou"]:.1f}{deviation}'


def _selection(row: Mapping) -> str:
    score = row.get('selection_score')
    return ABSENT if score is None else f'{100 * score:.1f} {row["selection"]}'


def _difference(comparison: Mapping | None) -> list[str]:
    if comparison is None:
        return [ABSENT, ABSENT, ABSENT]
    low, high = comparison['interval']
    difference = f'{100 * comparison["difference"]:+.1f} to {comparison["against"]}'
    return [difference, f'{100 * low:+.1f} .. {100 * high:+.1f}', comparison['verdict']]


def _whole(value: float | None) -> str:
    return ABSENT if value is None else f'{value:.0f}'


def _millions(size: Mapping | None) -> str:
    if size is None:
        return ABSENT
    return f'{size["trained"] / 1e6:.2f} / {size["all"] / 1e6:.2f} M'
