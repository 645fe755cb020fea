"""Turn a folder of results into one page, in Markdown and HTML: tables, curves and pictures.

`simpropnet report` writes it. Results stand in one table only if they can be compared. Files that are damaged, or of
another program, are named at the end of the page.
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simpropnet_jax.analysis import background, hierarchy_table
from simpropnet_jax.evaluation.results import tables
from simpropnet_jax.evaluation.results.grouping import Result, comparable, distinct, groups
from simpropnet_jax.evaluation.results.naming import PARTS, method_words
from simpropnet_jax.report import curves, document, partition_bars, study_table
from simpropnet_jax.report.document import Figure, Printed, Section, Table
from simpropnet_jax.report.gather import Found, RunCurve, gather, premise_table

TITLES = {
    ('episodes', 'predictions'): 'mIoU by fold',
    ('identical',): 'Identical inputs: the query is its own support',
    ('zero_mask',): 'Empty support masks',
    ('other_class',): 'Supports of another class',
}


def write_page(folder: Path, out: Path) -> Found:
    """Write the page of a folder of work directories.

    Args:
      out: folder of the page; existing report.md, report.html and pictures in it are overwritten.
    Returns:
      Everything found for the page.
    Raises:
      ValueError: the folder has no results, or `out` contains the folder.
      OSError: the folder does not exist, or the page cannot be written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}: give one that holds run folders')
    if folder.resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f'--out {out} holds the results themselves: give another folder, such as {out / "report"}'
        )
    found = gather(folder, out)
    if not any((*_records(found), found.studies, found.curves, found.pictures)):
        left = f' ({len(found.left_out)} files cannot be read)' if found.left_out else ''
        raise ValueError(f'{folder} has no results{left}: `simpropnet eval` writes RUN/eval/*.json')
    sections = [s for s in _sections(found, folder, out) if s.parts]
    out.mkdir(parents=True, exist_ok=True)
    title = f'Results of {folder.resolve().name}'
    (out / 'report.md').write_text(document.markdown(title, sections))
    (out / 'report.html').write_text(document.to_html(title, sections))
    return found


def _records(found: Found) -> list[Result]:
    return [*found.results, *found.hpascal, *found.supervised, *found.premises]


def _sections(found: Found, folder: Path, out: Path) -> list[Section]:
    return [
        *(
            Section(title, fold_tables(_of_inputs(found.results, *inputs)))
            for inputs, title in TITLES.items()
        ),
        Section(
            'Parts of SimPropNet (its Table 4)',
            _parts_tables(_of_inputs(found.results, 'episodes')),
        ),
        Section('One method under several protocols', _protocol_tables(found.results)),
        Section('H-PASCAL-5i by partition', _partition_tables(found.hpascal, out)),
        Section('Studies', _study_tables(found.studies)),
        Section('mIoU by class', _class_tables(found.results)),
        Section('Where the errors are', _premise_tables(found.premises, out)),
        Section('Supervised networks', _supervised_tables(found.supervised)),
        Section('Training', _curve_figures(found.curves, out)),
        Section('Pictures', _pictures(found.pictures, folder, out)),
        Section('Where the numbers come from', _origins(found)),
        Section('Left out', [f'{path.as_posix()}: {why}' for path, why in found.left_out]),
    ]


def _of_inputs(results: Sequence[Result], *inputs: str) -> list[Result]:
    return [r for r in results if r.record.get('inputs', 'episodes') in inputs]


def fold_tables(results: Sequence[Result]) -> list[str | Table]:
    """Return a heading and a table for each kind of results, with a column for each fold."""
    made = []
    for group in groups(results, comparable):
        records = distinct(group)
        made += [
            tables.heading(records, _episodes(records)).strip(),
            Table(*tables.fold_rows(records)),
        ]
    return made


def _episodes(records):
    """Describe the number of episodes per seed, if it is the same in all records."""
    first = next(iter(records[0]['shots'].values())).get('episodes', {})
    counts = set(first.values())
    same = all(
        one.get('episodes') == first for record in records for one in record['shots'].values()
    )
    return f'{len(first)} x {counts.pop()} episodes' if same and len(counts) == 1 else 'Percent'


def _parts_tables(results: Sequence[Result]) -> list[str | Table]:
    """Make the paper's table, for one shot and one label size, if there are at least two parts to compare."""
    made = []
    for group in groups((r for r in results if r.record['method'] in PARTS), comparable):
        records = distinct(group)
        header, rows = tables.fold_rows(records)
        shot, label_size = header.index('shot'), header.index('labels')
        rows = [row for row in rows if row[shot] == '1' and (row[label_size] != 'own')]
        kept = [i for i, name in enumerate(header) if name not in ('shot', 'labels', 'FB-IoU')]
        if len({record['method'] for record in records}) > 1:
            cells = [[row[i] for i in kept] for row in rows]
            made += [
                tables.heading(records, 'One-shot').strip(),
                Table([header[i] for i in kept], cells),
            ]
    return made


def _protocol_tables(results: Sequence[Result]) -> list[str | Printed]:
    """Make the tables that `simpropnet eval --protocols` prints, each for the same weights."""
    made = []
    same = ('fold', 'data', 'size', 'checkpoint', 'weights')

    def weights(result: Result) -> list:
        facts = [result.record.get(name) for name in same]
        return [result.workdir, method_words(result.record), *facts]

    for group in groups((r for r in results if 'resolution' in r.record), weights):
        if len({r.record['protocol']['name'] for r in group}) > 1:
            made += [group[0].workdir, Printed(tables.protocol_table([r.record for r in group]))]
    return made


def _partition_tables(results: Sequence[Result], out: Path) -> list[str | Table | Figure]:
    made: list = []

    def alike(result: Result) -> list:
        record = result.record
        facts = [get(record) for get in hierarchy_table.ALIKE.values()]
        return [*facts, record['label_size'], record['hpascal'].get('sha256')]

    for number, group in enumerate(groups(results, alike), 1):
        records = distinct(group)
        for label_size in records[0]['cmps']:
            if not all(label_size in record['cmps'] for record in records):
                continue
            for parts in (
                hierarchy_table.parts(records, label_size),
                hierarchy_table.cmps_parts(records, label_size),
            ):
                made += [
                    parts.heading.strip(),
                    *parts.legend.splitlines(),
                    Table(parts.header, parts.rows),
                ]
                made += parts.notes.splitlines()
        name = f'figures/partitions_{number}.png'
        partition_bars.draw(records, out / name)
        made.append(Figure(name, 'mIoU by partition, the mean over the splits that have it'))
    return made


def _study_tables(studies: Sequence[Result]) -> list[str | Table]:
    made = []
    for study in studies:
        made += [
            f'{study.path.as_posix()}: intervals are of the differences, 95 %, over other query images'
        ]
        made += [Table(*study_table.table_rows(study.record))]
    return made


def _premise_tables(premises: Sequence[Result], out: Path) -> list[str | Printed | Figure]:
    """Show the printed output for each file; for backgrounds also the bars, as in the paper."""
    made: list = []
    for number, (path, record) in enumerate(premises, 1):
        table = premise_table(record)
        made += [path.as_posix(), Printed(table(record))]
        if table is background.table:
            name = f'figures/background_{number}.png'
            background.draw(record, out / name)
            made.append(Figure(name, 'Similarity of objects and of backgrounds, by class'))
    return made


def _class_tables(results: Sequence[Result]) -> list[str | Table]:
    made = []

    def columns(result: Result) -> list:
        record = result.record
        inputs = record.get('inputs', 'episodes')
        return [record['fold'], record['classes'], inputs, comparable(result)]

    for group in sorted(groups(results, columns), key=lambda one: one[0].record['fold']):
        records, rows = distinct(group), []
        for record in records:
            header, cells = tables.class_rows(record)
            first = {
                'method': method_words(record),
                'input': str(record['size'] or tables.ABSENT),
            }
            rows += [first | dict(zip(header, row, strict=True)) for row in cells]
        names = list(max(rows, key=len))  # earlier versions wrote no intervals
        made.append(tables.heading(records, f'split-{records[0]["fold"] + 1}').strip())
        made.append(Table(names, [_cells(row, names) for row in rows]))
    return made


def _cells(row: dict[str, str], names: Sequence[str]) -> list[str]:
    return [row.get(name, tables.ABSENT) for name in names]


def _percent(value: float | None) -> str:
    return tables.ABSENT if value is None else f'{100 * value:.2f}'


def _supervised_tables(results: Sequence[Result]) -> list[str | Table]:
    made = []
    for group in groups(
        results, lambda r: [r.record['data'], r.record['list'], list(r.record['per_class'])]
    ):
        first = group[0].record
        rows = [['mIoU', *(_percent(r.record['miou']) for r in group)]]
        rows += [
            [name, *(_percent(r.record['per_class'][name]) for r in group)]
            for name in first['per_class']
        ]
        rows += [['pixel accuracy', *(_percent(r.record['pixel_accuracy']) for r in group)]]
        names = [f'{r.record["method"]} ({r.path.with_suffix("").as_posix()})' for r in group]
        made.append(
            f'IoU in percent; data {first["data"]}, {first["images"]} images of {first["list"]}'
        )
        made.append(Table(['class', *names], rows))
        made += [
            f'{name} is a weak oracle.'
            for name, r in zip(names, group, strict=True)
            if r.record['weak_oracle']
        ]
    return made


def _curve_figures(runs: Sequence[RunCurve], out: Path) -> list[str | Table | Figure]:
    made: list = []
    for group in groups(runs, lambda r: [r.curve.score, r.fold, r.data]):
        first, drawn = group[0], [r.curve for r in group]
        words = [first.curve.score.removesuffix('_miou')] + (
            [] if first.fold is None else [f'fold {first.fold}']
        )
        words += [f'data {first.data}'] if first.data else []
        name = _file_name('curves ' + ' '.join(words)) + '.png'
        curves.draw(drawn, out / 'figures' / name)
        caption = f'Validation mIoU over the training: {", ".join(words)}'
        made += [Figure(f'figures/{name}', caption), Table(*curves.table_rows(drawn))]
    return made


def _pictures(paths: Sequence[Path], folder: Path, out: Path) -> list[Figure]:
    """Copy the pictures next to the page."""
    made, taken = [], set()
    for path in paths:
        stem, number = _file_name(path.with_suffix('').as_posix()), 1
        name = stem + path.suffix.lower()
        while name in taken:
            number += 1
            name = f'{stem}-{number}{path.suffix.lower()}'
        taken.add(name)
        target = out / 'figures' / 'of_runs' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, target)
        made.append(Figure(f'figures/of_runs/{name}', _in_words(path)))
    return made


def _in_words(path: Path) -> str:
    """Say what a picture of a run shows, and where it is."""
    case = re.fullmatch(r'(\d+)shot_(best|median|worst)', path.stem)
    step = re.fullmatch(r'step(\d+)', path.stem)
    if case:
        words = f'for each class the {case[1]}-shot episode of {case[2]} IoU, checkpoint {path.parent.name}'
    elif step:
        words = f'episodes of the validation at step {int(step[1]):,}'
    else:
        words = path.stem.replace('_', ' ')
    return f'{words[0].upper()}{words[1:]} ({path.as_posix()})'


def _file_name(words):
    return re.sub(r'[^A-Za-z0-9.-]+', '_', words)


def _origins(found: Found) -> list[str | Table]:
    """Make a row per result file and fold: checkpoint, episodes, software, hardware."""
    facts: list[tuple[Path, dict[str, Any]]] = [*found.results, *found.hpascal, *found.supervised]
    # 'folds' of a premise experiment are its runs; of a result it is their number.
    for path, record in found.premises:
        facts += [(path, {**record, **one}) for one in record.get('folds', [{}])]
    rows = []
    for path, record in sorted(facts, key=lambda one: one[0]):
        checkpoint, device = record.get('checkpoint') or {}, record.get('device') or {}
        step = tables.ABSENT if checkpoint.get('step') is None else str(checkpoint['step'])
        rows.append(
            [
                path.as_posix(),
                *(str(record.get(name, tables.ABSENT)) for name in ('method', 'fold', 'data')),
                step,
                str(checkpoint.get('selection', tables.ABSENT)),
                (record.get('protocol') or {}).get('hash', tables.ABSENT),
                f'{device.get("count", "?")} x {device.get("kind", "?")}',
                (record.get('versions') or {}).get('jax', '?'),
            ]
        )
    header = ['file', 'method', 'fold', 'data', 'step', 'selection', 'episodes', 'device', 'jax']
    return [Table(header, rows)] if rows else []


def count_words(found: Found) -> str:
    """Describe what a page shows, in words."""
    return f'{len(_records(found))} results, {len(found.curves)} curves, {len(found.pictures)} pictures'
