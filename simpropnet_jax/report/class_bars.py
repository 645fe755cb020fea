"""Draw IoU by class as bars, a bar for each method."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def draw(scores: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """Draw a group of bars for each class, in percent.

    Args:
      scores: method -> class -> IoU as a fraction of one; all methods have the same classes.
    """
    from matplotlib.figure import Figure  # used directly, it needs no screen

    classes = list(next(iter(scores.values())))
    figure = Figure(figsize=(max(8, 0.8 * len(classes)), 4), layout='constrained')
    axes = figure.subplots()
    places, width = np.arange(len(classes)), 0.8 / len(scores)
    for i, (name, of_class) in enumerate(scores.items()):
        values = [100 * of_class[one] for one in classes]
        axes.bar(places + (i - (len(scores) - 1) / 2) * width, values, width, label=name)
    axes.set_xticks(places, classes, rotation=30 if len(classes) > 6 else 0, fontsize='small')
    axes.set(ylabel='IoU, %')
    axes.grid(axis='y', alpha=0.3)
    figure.legend(fontsize='small', loc='outside lower center')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
