"""What do a larger input, padding and tiles gain, by object size? And does a presence score tell absent objects apart?

    simpropnet bench sizes --checkpoint runs/fold1
    simpropnet bench sizes --checkpoint runs/fold1 --classes base --view size=321 --view size=225,tiles=2

Draws 1-shot episodes from the validation images of the run's data: of novel classes, or of base classes to choose a
default. Each --view is one way to see the pictures. IoU is counted at each label's own size and summed per class.
Objects are small below 5 % of the picture, and large above 25 %. Presence: each support also gets a query without its
class.
"""

import io
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.loader import binary_label, own_labels
from simpropnet_jax.inference import Segmenter, combine
from simpropnet_jax.inference.geometry import Geometry
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.runtime import records
from simpropnet_jax.setup.data import open_data

VIEWS = ('', 'size=321', 'size=417', 'fit=pad', 'size=321,fit=pad', 'tiles=2', 'tiles=3')
GROUPS = {'small': (0, 0.05), 'medium': (0.05, 0.25), 'large': (0.25, 1.01), 'all': (0, 1.01)}
SEED = 0
KEPT = 0.95  # share of the pictures with the object that the operating point keeps


class Pair(NamedTuple):
    """A support and a query: images with their binary labels."""

    class_id: int
    support: tuple[np.ndarray, np.ndarray]
    query: tuple[np.ndarray, np.ndarray]


def main(
    workdir: Path,
    which: str = 'best',
    classes: str = 'novel',
    views: Sequence[str] = VIEWS,
    episodes: int = 100,
    presence: int = 100,
    out: Path | None = None,
    roc: Path | None = None,
) -> dict[str, Any]:
    """Print the tables, and write the JSON file and the figure.

    Args:
      workdir: run folder of a few-shot method.
      which: checkpoint, 'best', 'latest' or a step.
      classes: 'novel' or 'base'.
      views: each as 'size=321,fit=pad,tiles=2'.
      episodes: for the views; presence: pairs with the object, and as many without.
      roc: picture file for the ROC curves of the presence scores.
    Returns: what is written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    segmenter = Segmenter.from_checkpoint(workdir, which, absent_below=1e-6)
    shapes = {view or 'as trained': shape_of(view, segmenter.size) for view in views}
    source, drawn = draw(workdir, classes, max(episodes, presence))
    record = {'classes': classes, 'episodes': episodes, **measure.machine()}
    record['views'] = {}
    for name, shape in shapes.items():
        record['views'][name] = measured(segmenter, shape, source, drawn[:episodes])
        print(row(name, record['views'][name]), flush=True)
    if presence:
        record['presence'] = presence_scores(segmenter, source, drawn[:presence])
        print(presence_table(record['presence']))
        if roc:
            draw_roc(record['presence'], classes, roc)
    if out:
        records.write_json(out, record)
    return record


def shape_of(view: str, size: int) -> Geometry:
    """Return the geometry that a --view names; fields that it leaves out are those of the training.

    Raises:
      ValueError: it names something else.
    """
    given = dict(part.split('=', 1) for part in view.split(',') if '=' in part)
    unknown = set(given) - set(Geometry._fields)
    if unknown or (view and not given):
        raise ValueError(f'--view takes size=, fit= and tiles=, with commas between, got {view!r}')
    numbers = {name: int(value) for name, value in given.items() if name != 'fit'}
    return Geometry(**{'size': size} | given | numbers).check()


def draw(workdir: Path, classes: str, count: int):
    """Return the data set and its episodes."""
    config = stored_config(workdir)
    source = open_data(config)
    index = source.index
    wanted = index.novel_classes if classes == 'novel' else index.base_classes
    protocol = replace(protocols.get_protocol('simpropnet'), episodes=count)
    drawn = protocols.episodes(protocol, index, config.fold, 1, SEED, wanted(config.fold))
    return source, drawn


def pixels(source, number: int) -> np.ndarray:
    """Return an image at its own size."""
    return np.asarray(Image.open(io.BytesIO(source.example(number)[0])).convert('RGB'))


def pair(source, episode) -> Pair:
    """Return an episode's images and labels."""
    numbers = [episode.supports[0], episode.query]
    support, label = own_labels(source, numbers)
    images = [pixels(source, number) for number in numbers]
    class_id = episode.class_id
    return Pair(
        class_id,
        (images[0], binary_label(support, class_id)),
        (images[1], binary_label(label, class_id)),
    )


def measured(segmenter: Segmenter, shape: Geometry, source, episodes) -> dict[str, Any]:
    """Return mIoU by object size, and seconds a query."""
    segmenter.size, segmenter.fit, segmenter.tiles = shape[:3]
    rows, seconds = [], []
    for episode in episodes:
        one = pair(source, episode)
        image, truth = one.query
        probe = jax.block_until_ready(segmenter.probe([one.support]))
        start = time.perf_counter()
        label = combine.winners(segmenter.log_odds([probe], image), truth.shape)[0]
        seconds.append(time.perf_counter() - start)
        found, there, counted = label == 1, truth == FOREGROUND, truth != VOID
        shared = (found & there).sum()
        rows.append((one.class_id, there.mean(), shared, ((found & counted) | there).sum()))
    table = np.array(rows, float)
    result = {
        name: mean_iou(table[(table[:, 1] >= low) & (table[:, 1] < high)])
        for name, (low, high) in GROUPS.items()
    }
    return result | {'seconds': float(np.median(seconds))}


def mean_iou(table: np.ndarray) -> float:
    """Return the mean over classes of intersection over union, summed per class; NaN without episodes."""
    found = []
    for class_id in np.unique(table[:, 0]):
        own = table[table[:, 0] == class_id]
        found.append(own[:, 2].sum() / max(own[:, 3].sum(), 1))
    return float(np.mean(found)) if found else float('nan')


def presence_scores(segmenter: Segmenter, source, episodes) -> dict[str, Any]:
    """Return scores of queries with the object and without it, by candidate."""
    segmenter.fit, segmenter.tiles, counts = 'stretch', 1, source.index.pixels
    found = {'with': [], 'without': []}
    for number, episode in enumerate(episodes):
        others = [one.query for one in episodes[number + 1 :] + episodes[:number]]
        absent = next(query for query in others if not counts[query, episode.class_id])
        probe = segmenter.probe([pair(source, episode).support])
        for name, query in (('with', episode.query), ('without', absent)):
            scores = segmenter.candidates(probe, pixels(source, query))
            found[name].append(jax.device_get(scores))
    names = found['with'][0]
    return {
        name: {side: [float(row[name]) for row in rows] for side, rows in found.items()}
        for name in names
    }


def area_under_curve(with_object: Sequence[float], without: Sequence[float]) -> float:
    """Return the probability that a picture with the object has the higher score; ties count half."""
    one, other = np.array(with_object)[:, None], np.array(without)[None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def roc_curve(with_object: Sequence[float], without: Sequence[float]) -> tuple[np.ndarray, ...]:
    """Return the shares of pictures without and with the object that each threshold keeps, from none to all.

    Example:
      >>> kept_without, kept_with = roc_curve([0.9, 0.4], [0.4, 0.1])
      >>> kept_without.tolist(), kept_with.tolist()
      ([0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    positive, negative = np.array(with_object), np.array(without)
    thresholds = np.append(np.inf, np.unique(np.append(positive, negative))[::-1])[:, None]
    return (negative >= thresholds).mean(1), (positive >= thresholds).mean(1)


def draw_roc(record: dict[str, Any], classes: str, path: Path) -> None:
    """Draw the ROC curve of each candidate; the suffix of the path sets the file format."""
    from matplotlib.figure import Figure  # used directly, it needs no screen

    figure = Figure(figsize=(5.5, 5), layout='constrained')
    axes = figure.subplots()
    for number, (name, sides) in enumerate(record.items()):
        area = area_under_curve(sides['with'], sides['without'])
        kept = roc_curve(sides['with'], sides['without'])
        style = ('-', '--', ':')[number % 3]  # not by colour alone
        axes.plot(*(100 * share for share in kept), style, label=f'{name} ({100 * area:.1f} %)')
    axes.plot([0, 100], [0, 100], color='0.7', linewidth=1, label='chance (50 %)')
    axes.set(
        xlabel='pictures without the object that keep a mask, %',
        ylabel='pictures with the object that keep theirs, %',
        title=f'Is the object there? {classes} classes (area under the curve)',
    )
    axes.set_aspect('equal')
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small', loc='lower right')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def presence_table(record: dict[str, Any]) -> str:
    """Return AUC and operating point of each candidate as Markdown."""
    lines = [
        f'| score | AUC | threshold that keeps {KEPT:.0%} | emptied without the object |',
        '|---|---|---|---|',
    ]
    for name, sides in record.items():
        threshold = float(np.quantile(sides['with'], 1 - KEPT))
        emptied = np.mean(np.array(sides['without']) < threshold)
        area = area_under_curve(sides['with'], sides['without'])
        lines.append(f'| {name} | {area:.3f} | {threshold:.3f} | {emptied:.0%} |')
    return '\n'.join(lines)


def row(name: str, result: dict[str, Any]) -> str:
    """Return a view's line of the table as Markdown."""
    values = [f'{100 * result[group]:.1f}' for group in GROUPS]
    return f'| {name} | {" | ".join(values)} | {result["seconds"]:.2f} |'


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--checkpoint',
        required=True,
        metavar='RUN[@WHICH]',
        help='run folder on this machine',
    )
    parser.add_argument(
        '--classes', choices=('novel', 'base'), default='novel', help='classes of the episodes'
    )
    parser.add_argument(
        '--view',
        action='append',
        metavar='FIELDS',
        help='size=N, fit=pad, tiles=N, with commas between; repeat for more (default: seven)',
    )
    parser.add_argument('--episodes', type=int, default=100, help='for each view')
    parser.add_argument(
        '--presence', type=int, default=100, help='pairs with the object, and without; 0: none'
    )
    parser.add_argument(
        '--roc', type=Path, metavar='FILE', help='picture file for the ROC curves of presence'
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    from simpropnet_jax.cli.run_folder import checkpoint as parse

    run, which = parse(args.checkpoint)
    print(f'| view | {" | ".join(GROUPS)} | seconds |\n|---|{"---|" * (len(GROUPS) + 1)}')
    views = args.view or VIEWS
    logging.getLogger('simpropnet_jax').setLevel(logging.ERROR)  # what it says of each support
    main(run, which, args.classes, views, args.episodes, args.presence, args.out, args.roc)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench sizes')
