"""Draw validation mIoU over the training of several runs, and how soon each run is nearly at its best.

As in Figure 5 of "Improved Similarity Propagation for One-Shot Semantic Segmentation". A conditioning phase comes
before epoch 0. If an older run does not store the length of its epochs, everything is in steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.training.metrics_file import read_metrics

NEARLY = 0.95  # of the best mIoU
SCORES = ('novel_val_miou', 'base_val_miou', 'val_miou')
EPOCH, CONDITIONING = 'steps_per_epoch', 'conditioning_steps'
FEW = 50  # with at most so many selections, they are also drawn as points


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores of one run after its conditioning phase.

    Attributes:
      label: name of the run.
      score: name of the score, one of `SCORES`.
      steps: int [N], ascending, counted from the end of the conditioning phase.
      miou: float [N], as fractions of one.
      conditioning: length of that phase in steps; 0: the run has none.
      epoch: length of an epoch in steps; 0: unknown, in an older run.
    """

    label: str
    score: str
    steps: np.ndarray
    miou: np.ndarray
    conditioning: int
    epoch: int

    @property
    def nearly_best(self) -> int:
        """Return the step of the first selection with 95 % of the best mIoU."""
        return int(self.steps[np.argmax(self.miou >= NEARLY * self.miou.max())])


def read_curve(run: str | Path, label: str) -> Curve:
    """Read the validation scores of a work directory.

    Raises:
      FileNotFoundError: there is no such run.
      ValueError: it has no validation score yet.
    """
    path = Path(run) / 'metrics.jsonl'
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no run in {run}: it has no metrics.jsonl, which `simpropnet train` writes'
        )
    rows = [row for row in read_metrics(path) if any(s in row for s in SCORES)]
    epoch, conditioning = (
        max((int(row.get(name, 0)) for row in rows), default=0) for name in (EPOCH, CONDITIONING)
    )
    score = next((name for name in SCORES for row in rows if name in row), SCORES[0])
    scores = {int(row['step']) - conditioning: row[score] for row in rows if score in row}
    steps = sorted(step for step in scores if step >= 0)
    if not steps:
        after = f' after its conditioning phase of {conditioning} steps' if conditioning else ''
        raise ValueError(
            f'{path} has no validation score ({" or ".join(SCORES)}){after}: train until a selection'
        )
    return Curve(
        label, score, np.array(steps), np.array([scores[s] for s in steps]), conditioning, epoch
    )


def read_curves(runs: Sequence[str | Path], labels: Sequence[str] | None = None) -> list[Curve]:
    """Read the curves of several runs.

    Args:
      labels: names of the runs; by default the folder names, or whole paths if folders share a name.
    Raises:
      FileNotFoundError, ValueError: as for `read_curve`; the number of labels differs; or scores of different classes.
    """
    names = [Path(run).resolve().name for run in runs]
    labels = labels or (
        names if len(set(names)) == len(names) else [str(Path(run)) for run in runs]
    )
    if len(labels) != len(runs):
        raise ValueError(f'there are {len(labels)} labels for {len(runs)} runs: give one for each')
    curves = [read_curve(run, label) for run, label in zip(runs, labels, strict=True)]
    for curve in curves:
        if curve.score != curves[0].score:
            raise ValueError(
                f'{curves[0].label} has {curves[0].score}, {curve.label} has {curve.score}: scores of different '
                'classes do not belong in one figure'
            )
    return curves


def table(curves: Sequence[Curve]) -> str:
    """Format a row per run: its best mIoU, when it was reached, and when 95 % of it was first reached."""
    return aligned(*table_rows(curves))


def table_rows(curves: Sequence[Curve]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of `table`."""
    unit, lengths = _unit(curves)
    header = ['run', 'selections', 'best mIoU', f'{unit} to it', f'{unit} to 95 % of it']
    header += ['steps to 95 % of it'] if unit == 'epochs' else []
    rows = []
    for curve, length in zip(curves, lengths, strict=True):
        best = int(np.argmax(curve.miou))
        row = [curve.label, str(len(curve.steps)), f'{100 * curve.miou[best]:.2f}']
        row += [_number(curve.steps[best] / length), _number(curve.nearly_best / length)]
        row += [str(curve.nearly_best)] if unit == 'epochs' else []
        rows.append([*row, _number(curve.conditioning / length)])
    return [*header, f'conditioning {unit}'], rows


def _unit(curves):
    """Return the unit of the axis, and its length in steps for each curve."""
    if all(curve.epoch for curve in curves):
        return 'epochs', [curve.epoch for curve in curves]
    return 'steps', [1] * len(curves)


def _number(value):
    """Format an integer, or a number with one decimal: a selection may be within an epoch."""
    return f'{value:.1f}'.removesuffix('.0')


def draw(curves: Sequence[Curve], path: str | Path) -> None:
    """Draw the curves and, to the right, a bar for each run; the suffix of the path sets the file format.

    Raises:
      ValueError: no image format has this suffix.
      OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # used directly, it needs no screen

    unit, lengths = _unit(curves)
    figure = Figure(figsize=(11, 4.5), layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(2.4, 1))
    colors = []
    for i, (curve, length) in enumerate(zip(curves, lengths, strict=True)):
        label = curve.label
        if curve.conditioning:
            label += f' (after {_number(curve.conditioning / length)} {unit} of conditioning)'
        style = ('-', '--', ':')[i // 10 % 3]  # colours repeat after ten
        marker = '.' if len(curve.steps) <= FEW else ''
        (line,) = left.plot(
            curve.steps / length, 100 * curve.miou, style, marker=marker, label=label
        )
        colors.append(line.get_color())
    left.set(xlabel=unit, ylabel=f'mIoU on {curves[0].score.removesuffix("_miou")}, %')
    left.set_xlim(left=0)
    left.grid(alpha=0.3)
    left.legend(fontsize='small')

    places, nearly = np.arange(len(curves)), [curve.nearly_best for curve in curves]
    values = [step / length for step, length in zip(nearly, lengths, strict=True)]
    bars = right.barh(places, values, color=colors)
    counted = [f' ({step})' if unit == 'epochs' else '' for step in nearly]
    right.bar_label(
        bars,
        [_number(value) + steps for value, steps in zip(values, counted, strict=True)],
        padding=3,
    )
    right.set_yticks(places, [curve.label for curve in curves], fontsize='small')
    right.invert_yaxis()
    right.margins(x=0.4)  # room for the numbers next to the bars
    words = 'epochs (steps)' if unit == 'epochs' else unit
    right.set(xlabel=unit, title=f'{words}\nto 95 % of the best mIoU')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
