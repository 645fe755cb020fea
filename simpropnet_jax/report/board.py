"""Turn result files, ours and others', into a leaderboard: one static page in Markdown and HTML.

Results stand in one table only if they are of the very same episodes: the hash of the episodes of one shot, the data,
the void rule and the size at which masks are compared.
"""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from simpropnet_jax.episodes.protocols import named_hash
from simpropnet_jax.evaluation import shared_pictures
from simpropnet_jax.evaluation.results import bootstrap, result_file, tables
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.grouping import Result, groups
from simpropnet_jax.evaluation.results.naming import method_words
from simpropnet_jax.io import formats, overlay
from simpropnet_jax.report import class_bars, document
from simpropnet_jax.report.document import Figure, Section, Table
from simpropnet_jax.report.gather import SKIPPED, UNREADABLE, reason
from simpropnet_jax.report.page import fold_tables
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.progress import Progress

INPUTS = ('episodes', 'predictions')  # the others are not what methods are ranked by
MARKS = {'A is better': 'worse', 'B is better': 'better', 'undecided': 'undecided'}


class BoardEntry(NamedTuple):
    """One shot of a result.

    Attributes:
      result: file and record; its path is relative to the folder.
      shot: supports of an episode.
      hash: of the episodes of this shot, or of all if the result has no file of episodes.
      size: size at which the protocol compares masks, 'square' or 'own'.
      counts: of the episodes; None without their file.
    """

    result: Result
    shot: int
    hash: str
    size: str
    counts: EpisodeCounts | None

    @property
    def scores(self) -> dict[str, Any]:
        """Return the scores of this shot."""
        return self.result.record['shots'][str(self.shot)][self.size]


@dataclass
class Board:
    """What a page shows.

    Attributes:
      entries: one for each result and shot.
      left_out: (path, reason) of files that cannot be used.
    """

    entries: list[BoardEntry] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        """Return the results, each once."""
        return list({one.result.path: one.result for one in self.entries}.values())


def write_board(
    folder: Path, out: Path, resamples: int = 10_000, progress: Progress | None = None
) -> Board:
    """Write the page of all results in a folder, however deep, to OUT/board.html and board.md.

    Args:
      resamples: draws of each comparison, see `bootstrap.paired_bootstrap`.
    Raises:
      ValueError: the folder has no results, or `out` contains it.
      OSError: the folder does not exist, or the page cannot be written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}: give one that holds result files')
    if folder.resolve().is_relative_to(out.resolve()):
        raise ValueError(f'--out {out} holds the results themselves: give another folder')
    board = collect(folder, out)
    if not board.entries:
        left = f' ({len(board.left_out)} files cannot be read)' if board.left_out else ''
        raise ValueError(f'{folder} has no results{left}: `simpropnet eval` writes RUN/eval/*.json')
    sections = [Section('mIoU by fold', fold_tables(board.results))]
    ranked = groups(board.entries, _same)
    for number, group in enumerate(ranked, 1):
        sections.append(_section(group, number, folder, out, resamples))
        if progress:
            progress('compare', number, len(ranked))
    left = [f'{path.as_posix()}: {why}' for path, why in board.left_out]
    sections += [Section('Left out', left)] if left else []
    out.mkdir(parents=True, exist_ok=True)
    title = f'Leaderboard of {folder.resolve().name}'
    (out / 'board.md').write_text(document.markdown(title, sections))
    (out / 'board.html').write_text(document.to_html(title, sections))
    return board


def collect(folder: Path, without: Path) -> Board:
    """Read the result files of a folder; other JSON is not looked at.

    Args:
      without: a folder to skip.
    """
    board = Board()
    for path in _json_files(folder, without):
        name = path.relative_to(folder)
        try:
            content = records.parse(path, 'Evaluate again')
            if isinstance(content, dict) and {'protocol', 'shots', 'classes'} <= set(content):
                board.entries += _entries(folder, name)
        except UNREADABLE as error:
            board.left_out.append((name, reason(error)))
    return board


def _json_files(folder, without) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(
            one
            for one in folders
            if one not in SKIPPED and (Path(parent) / one).resolve() != without.resolve()
        )
        yield from (Path(parent) / name for name in sorted(files) if name.endswith('.json'))


def _entries(folder, name) -> list[BoardEntry]:
    record = result_file.read_result(folder / name)
    if record.get('inputs', 'episodes') not in INPUTS or 'partitions' in record:
        return []
    tables.class_rows(record)
    tables.fold_rows([record])
    size, found = 'own' if record.get('resolution') == 'own' else 'square', []
    for shot in record['shots']:
        counts, digest = None, record['protocol']['hash']
        if record.get('episodes_file'):
            _, counts = bootstrap.load(folder / name, int(shot))
            rows = zip(counts.class_id, counts.query, counts.supports, strict=True)
            digest = named_hash((int(c), str(q), [str(s) for s in k]) for c, q, k in rows)
        if size in record['shots'][shot]:
            found.append(BoardEntry(Result(name, record), int(shot), digest, size, counts))
    return found


def _same(entry: BoardEntry) -> list:
    """Return what the entries of one table have in common."""
    record = entry.result.record
    facts = [record[name] for name in ('data', 'void', 'fold')]
    side = record['label_size'] if entry.size == 'square' else 'own'
    return [*facts, entry.shot, entry.hash, side]


def _section(entries, number, folder, out, resamples) -> Section:
    entries = sorted(entries, key=lambda one: -one.scores['miou'])
    first, names = entries[0].result.record, _names(entries)
    side = 'own' if entries[0].size == 'own' else f'{first["label_size"]}px'
    title = f'{first["protocol"]["name"]}, fold {first["fold"]}, {entries[0].shot}-shot'
    facts = (
        f'Data {first["data"]}, void rule {first["void"]}, masks compared at {side}, episodes {entries[0].hash}. '
        'Percent; the interval is of mIoU over other query images of these classes'
    )
    bars = f'figures/classes_{number}.png'
    scores = {name: one.scores['per_class'] for name, one in zip(names, entries, strict=True)}
    class_bars.draw(scores, out / bars)
    parts = [facts, _ranking(entries, names), *_verdicts(entries, names, resamples)]
    parts += [Figure(bars, f'IoU by class: {title}')]
    return Section(title, [*parts, *_pictures(entries, names, number, folder, out)])


def _names(entries) -> list[str]:
    """Return the methods' names; results of the same name also get their run folder's name, or else their path."""
    names = [method_words(one.result.record) for one in entries]
    results = [one.result for one in entries]
    runs = [result.workdir for result in results]
    if len(set(zip(names, runs, strict=True))) < len(names):
        runs = [result.path.with_suffix('').as_posix() for result in results]
    return [
        f'{name} ({run})' if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _ranking(entries, names) -> Table:
    rows = []
    for place, (name, entry) in enumerate(zip(names, entries, strict=True), 1):
        scores, record = entry.scores, entry.result.record
        seeds = list(record['shots'][str(entry.shot)]['episodes'].values())
        interval = scores.get('miou_interval')
        rows.append(
            [
                f'{place}. {name}',
                _percent(scores['miou']),
                '-' if scores['miou_std'] is None else _percent(scores['miou_std']),
                '-' if not interval else ' to '.join(map(_percent, interval)),
                _percent(scores['fb_iou']),
                f'{len(seeds)} x {seeds[0]}' if len(set(seeds)) == 1 else str(sum(seeds)),
                str(record['checkpoint']['selection']),
            ]
        )
    header = ['method', 'mIoU', 'std', '95 % interval', 'FB-IoU', 'episodes', 'selection']
    return Table(header, rows)


def _percent(value) -> str:
    return f'{100 * value:.2f}'


def _verdicts(entries, names, resamples) -> list[str | Table]:
    """Compare each method with each below it; those without a file of episodes are left out."""
    known = [pair for pair in zip(names, entries, strict=True) if pair[1].counts is not None]
    if len(known) < 2:
        return []
    rows = []
    for (better, a), (worse, b) in itertools.combinations(known, 2):
        try:
            found = bootstrap.paired_bootstrap(
                b.counts, a.counts, label_size=a.size, resamples=resamples
            ).miou
            interval = f'{100 * found.low:+.2f} to {100 * found.high:+.2f}'
            verdict = MARKS[found.verdict]
        except ValueError:  # a class with a single query image
            interval, verdict = '-', 'too few images'
        gain = f'{100 * (a.scores["miou"] - b.scores["miou"]):+.2f}'
        rows.append([better, verdict, worse, gain, interval])
    words = 'Pairwise verdicts on mIoU, by the paired bootstrap of simpropnet compare'
    header = ['method', 'is', 'than', 'difference', '95 % interval']
    return [words, Table(header, rows)]


def _pictures(entries, names, number, folder, out) -> list[Figure]:
    """Put the pictures that several methods have of an episode side by side, the best method first."""
    found: dict[str, dict[str, Path]] = {}
    context: dict[str, Path] = {}
    for name, entry in zip(names, entries, strict=True):
        pictures = shared_pictures.folder_beside(folder / entry.result.path)
        for path in sorted(pictures.glob(f'*_k{entry.shot}_*.jpg')):
            if path.stem.endswith(shared_pictures.CONTEXT):
                context[path.stem.removesuffix(shared_pictures.CONTEXT)] = path
            else:
                found.setdefault(path.stem, {})[name] = path
    made = []
    for episode, paths in found.items():
        target = f'figures/{number}_{episode}.jpg'
        pictures = {'support and truth': context[episode]} if episode in context else {}
        overlay.save(_beside({**pictures, **paths}, entries, names, episode), out / target)
        made.append(Figure(target, episode))
    return made


def _beside(paths: Mapping[str, Path], entries: Sequence[BoardEntry], names, episode) -> np.ndarray:
    scores = {name: _iou(entry, episode) for name, entry in zip(names, entries, strict=True)}
    drawn = []
    for name, path in paths.items():
        with Image.open(path, formats=formats.STORED) as image:
            picture = np.asarray(image.convert('RGB'))
        iou = scores.get(name)
        drawn.append(overlay.captioned(picture, name if iou is None else f'{name}: {iou}'))
    height = min(picture.shape[0] for picture in drawn)
    return overlay.beside([picture[:height] for picture in drawn])


def _iou(entry, episode) -> str | None:
    """Return an episode's IoU in percent, from its name: ..._s0_k1_0007."""
    if entry.counts is None:
        return None
    seed, _, number = episode.rsplit('_', 3)[1:]
    rows = np.flatnonzero(entry.counts.seed == int(seed.removeprefix('s')))
    counts, row = entry.counts.counts[entry.size], rows[int(number)]
    return f'{100 * counts.intersection[row] / max(counts.union[row], 1):.1f}'
