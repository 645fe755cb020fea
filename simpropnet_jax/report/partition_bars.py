"""Draw mIoU by partition of H-PASCAL-5i as bars, from easy to hard."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from simpropnet_jax.episodes.hpascal import PARTITIONS, describe
from simpropnet_jax.evaluation.results.naming import method_words


def partition_means(
    records: Sequence[Mapping], label_size: str = 'square'
) -> dict[str, list[float]]:
    """Return method name -> mIoU of each partition, averaged over the splits that have it; nan if none has.

    Args:
      records: results of `hierarchy`, as for `hierarchy_table.parts`.
    """
    methods: dict[str, list] = {}
    for record in records:
        methods.setdefault(method_words(record), []).append(record['partitions'])
    return {
        name: [
            _mean([one[p][label_size]['miou'] for one in splits if one.get(p)]) for p in PARTITIONS
        ]
        for name, splits in methods.items()
    }


def _mean(scores):
    return float(np.mean(scores)) if scores else float('nan')


def draw(records: Sequence[Mapping], path: Path, label_size: str = 'square') -> None:
    """Draw a group of bars for each partition, with a bar for each method, in percent."""
    from matplotlib.figure import Figure  # used directly, it needs no screen

    means = partition_means(records, label_size)
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots()
    places, width = np.arange(len(PARTITIONS)), 0.8 / len(means)
    for i, (name, scores) in enumerate(means.items()):
        axes.bar(
            places + (i - (len(means) - 1) / 2) * width, 100 * np.array(scores), width, label=name
        )
    axes.set_xticks(
        places,
        [f'{name}\n{describe(name)}'.replace(', ', '\n') for name in PARTITIONS],
        fontsize='small',
    )
    axes.set(ylabel='mIoU, %')
    axes.grid(axis='y', alpha=0.3)
    axes.legend(fontsize='small')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
