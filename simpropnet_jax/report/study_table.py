"""The rows of a study, study.json, as a table."""

from collections.abc import Mapping

from simpropnet_jax.evaluation.results.naming import INPUTS
from simpropnet_jax.evaluation.results.text_table import aligned


def table(found: Mapping[str, Mapping]) -> str:
    """A line a row: mIoU by inputs, parameters, speed, and the difference from the row that it changes.

    After a mIoU stands its standard deviation: of several trainings over these, of one over its sets of episodes.
    """
    return aligned(*table_rows(found))


def table_rows(found: Mapping[str, Mapping]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `table`."""
    names = dict.fromkeys(name for one in found.values() for name in one['miou'])
    inputs = sorted(names, key=lambda name: (INPUTS.index(name.split(',')[0]), name))
    rows, methods = [], [one['method'] for one in found.values()]
    for name, one in found.items():
        method = one['method'] if methods.count(one['method']) == 1 else f'{one["method"]} ({name})'
        scores = [_percent(one['miou'].get(name)) for name in inputs]
        compared = _difference(one.get('comparison'))
        size, speed = (
            one.get('parameters'),
            one.get('episodes_per_second'),
        )  # earlier versions wrote neither
        facts = [f'{one["minutes"]:.1f}', _millions(size), '-' if speed is None else f'{speed:.0f}']
        count = str(len(one.get('trainings', [one])))
        rows.append([method, str(one['shot']), count, *scores, *compared, *facts])
    facts = ['difference', 'interval', 'verdict', 'minutes', 'trained / all', 'episodes/s']
    header = ['method', 'shot', 'trainings', *inputs, *facts]
    return header, rows


def _millions(size) -> str:
    return '-' if size is None else f'{size["trained"] / 1e6:.2f} / {size["all"] / 1e6:.2f} M'


def _percent(score) -> str:
    if score is None:
        return '-'
    deviation = (
        '' if score['std'] is None else f' ± {100 * score["std"]:.1f}'
    )  # of one set of episodes there is none
    return f'{100 * score["miou"]:.1f}{deviation}'


def _difference(comparison) -> list[str]:
    if comparison is None:
        return ['-', '-', '-']
    low, high = comparison['interval']
    difference = f'{100 * comparison["difference"]:+.1f} to {comparison["against"]}'
    return [difference, f'{100 * low:+.1f} .. {100 * high:+.1f}', comparison['verdict']]
