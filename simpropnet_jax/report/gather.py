"""Collect results, studies, curves and pictures of a folder of work directories, and the files that cannot be read."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from simpropnet_jax.analysis import background, hierarchy_table, overlap, similarity
from simpropnet_jax.config import rules
from simpropnet_jax.evaluation.oracle import OracleContent
from simpropnet_jax.evaluation.results import result_file, tables
from simpropnet_jax.evaluation.results.grouping import Result
from simpropnet_jax.io import formats
from simpropnet_jax.report import curves, study_table
from simpropnet_jax.report.curves import Curve
from simpropnet_jax.report.study_table import StudyRow
from simpropnet_jax.runtime import records

# Errors from files that are damaged or from another program.
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    IndexError,
    SyntaxError,
)  # the last is Pillow's
PICTURES = ('.jpg', '.jpeg', '.png')
SKIPPED = ('checkpoints',)  # folders
# Functions that print a premise experiment's record. Its file may have any name; these fields identify it.
PREMISES = (
    ({'by_class', 'by_image'}, overlap.table),
    ({'ratio', 'cosine'}, similarity.table),
    ({'more_alike', 'mean'}, background.table),
)


class RunCurve(NamedTuple):
    """The validation scores of a run, with its fold and data; None if not in its config.json."""

    curve: Curve
    fold: int | None
    data: str | None


@dataclass
class Found:
    """Everything that belongs on a page.

    Attributes:
      results: results on episodes; hpascal: results with partitions; supervised: results on whole images; studies;
        premises: measurements of the `analysis` commands.
      curves: curves of the runs with validation scores.
      pictures: paths, relative to the folder.
      left_out: (path, reason) of files that cannot be used.
    """

    results: list[Result] = field(default_factory=list)
    hpascal: list[Result] = field(default_factory=list)
    supervised: list[Result] = field(default_factory=list)
    studies: list[Result] = field(default_factory=list)
    premises: list[Result] = field(default_factory=list)
    curves: list[RunCurve] = field(default_factory=list)
    pictures: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)


def gather(folder: Path, without: Path) -> Found:
    """Read WORKDIR/eval/*.json, supervised/*.json, metrics.jsonl and figures/, study.json, and pictures in `folder`.

    Of other JSON files, only premise experiments are read. A file is used if it alone gives a table (a curve, a
    picture); otherwise it is left out and named.

    Args:
      without: a folder to skip: the folder of the page.
    """
    found = Found()
    for path in _files(folder, without):
        name = path.relative_to(folder)
        kept, read = _kind(name, found)
        if read is None:
            continue
        try:
            one = read(folder, name)
        except UNREADABLE as error:
            found.left_out.append((name, reason(error)))
            continue
        if one is not None:
            (
                found.hpascal if isinstance(one, Result) and 'partitions' in one.record else kept
            ).append(one)
    return found


def _files(folder: Path, without: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        kept = (
            f
            for f in folders
            if f not in SKIPPED and (Path(parent) / f).resolve() != without.resolve()
        )
        folders[:] = sorted(kept)
        yield from (Path(parent) / name for name in sorted(files))


def _kind(name: Path, found: Found) -> tuple[list, Callable | None]:
    """Return the list for a file, by its place, and the function that reads it."""
    if name.suffix == '.json' and name.parent.name in ('eval', 'supervised'):
        return (
            (found.results, _result)
            if name.parent.name == 'eval'
            else (found.supervised, _supervised)
        )
    if name.name == 'study.json':
        return found.studies, _study
    if name.name == 'metrics.jsonl':
        return found.curves, _curve
    if name.suffix == '.json':
        return found.premises, _premise
    if name.suffix.lower() in PICTURES and ('figures' in name.parts or len(name.parts) == 1):
        return found.pictures, _picture
    return [], None


def _result(folder, name):
    record = result_file.read_result(folder / name)
    if record['fold'] not in range(record.get('folds', 4)):  # earlier versions knew PASCAL-5i alone
        raise ValueError(
            f'it is of fold {record["fold"]!r}: there are {record.get("folds", 4)}, from 0 on'
        )
    tables.class_rows(record)
    tables.fold_rows([record])
    tables.heading([record], '')
    if 'resolution' in record:  # earlier versions wrote none
        tables.protocol_table([record])
    if 'partitions' in record:
        hierarchy_table.parts([record])
    return Result(name, record)


def _supervised(folder, name):
    return Result(name, records.read(folder / name, OracleContent, 'Evaluate again'))


def _study(folder, name):
    record = records.read(folder / name, dict[str, StudyRow], 'Re-run the sweep')
    study_table.table(record)
    return Result(name, record)


def _premise(folder, name):
    """Read a premise experiment; return None for other JSON, like a config."""
    record = records.parse(folder / name, 'Measure again')
    if premise_table(record) is None:
        return None
    records.verify(record, folder / name, 'Measure again')
    premise_table(record)(record)
    return Result(name, record)


def premise_table(record: Any) -> Callable[[dict[str, Any]], str] | None:
    """Return the function that prints a premise experiment's record; None for other records."""
    there = set(record) if isinstance(record, dict) else set()
    return next((table for fields, table in PREMISES if fields <= there), None)


def _curve(folder, name):
    run = folder / name.parent
    curve = curves.read_curve(
        run, name.parent.as_posix() if name.parent.name else folder.resolve().name
    )
    if not np.issubdtype(curve.miou.dtype, np.number):
        raise ValueError('it holds scores that are no numbers')
    if not (run / 'config.json').exists():
        return RunCurve(curve, None, None)
    config = rules.load(run / 'config.json')
    return RunCurve(curve, config.fold, config.data.name)


def _picture(folder, name):
    with Image.open(folder / name, formats=formats.STORED) as picture:
        picture.verify()
    return name


def reason(error: Exception) -> str:
    """Describe on one line why a file cannot be used."""
    if isinstance(error, KeyError):
        return f'it has no {error}'
    text = ' '.join(str(error).split())[:300]
    return text if isinstance(error, ValueError | OSError) else f'it is built otherwise ({text})'
