"""Pictures, few or ten thousand, segmented from the command line: files in, files out."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simpropnet_jax.inference import combine, outputs, presence, supports
from simpropnet_jax.inference.annotate import Style, annotations
from simpropnet_jax.inference.geometry import SMALLEST, Geometry
from simpropnet_jax.inference.queries import Query, find, output_names, read_ahead
from simpropnet_jax.inference.results import ONE_CLASS, Results
from simpropnet_jax.inference.segmenter import Segmenter
from simpropnet_jax.io import images
from simpropnet_jax.io.masks import MaskOptions
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.records import write_json

logger = logging.getLogger(__name__)

WRITE = ('mask', 'overlay')  # what is written if nothing is said


def predict(
    checkpoint: str | os.PathLike,
    given: Sequence[Sequence[str | os.PathLike]],
    query: Sequence[str | os.PathLike],
    out: Path,
    *,
    which: str = 'best',
    write: Sequence[str] = WRITE,
    threshold: float = 0.5,
    self_support: int = 0,
    overwrite: bool = False,
    mask_value: float | int | None = None,
    mask_threshold: float | int | None = None,
    invert: bool = False,
    crowds: str = 'void',
    size: int | None = None,
    fit: str = 'stretch',
    tiles: int = 1,
    absent_below: float | None = None,
    polygons: bool = False,
    components: bool = False,
) -> list[Path]:
    """Write masks and other outputs for pictures, folders and patterns; resume an unfinished folder.

    Args:
      checkpoint: the run folder.
      given: the supports, (image, mask) or (class, image, mask) files; see `supports`.
      query: pictures, folders (without their subfolders) or patterns; see `queries`.
      which: checkpoint, 'best', 'latest' or a step.
      out: created if missing; it holds `outputs.KINDS`, and the books that `results` keeps.
      write: kinds of output, of `outputs.KINDS`.
      threshold: probability that a class must exceed, between 0 and 1.
      self_support: rounds in which a query's confident pixels are its own support.
      overwrite: results of other supports, checkpoint, threshold and so on in `out` are removed, else an error.
      mask_value: pixels of this value are the object, in every mask of a support.
      mask_threshold: pixels of this value and above are the object.
      invert: object and background of every mask change places.
      crowds: what annotations with iscrowd 1 are, 'void' or 'object'.
      size: side in pixels of the network's square; None: the training's.
      fit, tiles, absent_below: see `Segmenter`.
      polygons, components: of COCO's annotations, see `annotate.Style`.
    Returns:
      The pictures that could not be read; they are logged at the end.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is compiled or written.
    """
    kinds, named_supports = outputs.check_kinds(write), supports.parse(given)
    if not 0 < threshold < 1:
        raise ValueError(f'--threshold must be between 0 and 1, both excluded, got {threshold}')
    if self_support < 0:
        raise ValueError(
            f'--self_support must be a number of rounds, 0 or more, got {self_support}'
        )
    options = MaskOptions(mask_value, mask_threshold, invert, crowds).check()
    style = Style(polygons, components).check(kinds)
    Geometry(SMALLEST, fit, tiles).check()  # the size depends on the checkpoint
    presence.check(absent_below)
    _check_folder(out, query)
    queries = find(query, out)
    if len(queries) == 1:
        images.read_image(queries[0].path)
    segmenter = Segmenter.from_checkpoint(
        checkpoint,
        which=which,
        self_support=self_support,
        size=size,
        fit=fit,
        tiles=tiles,
        absent_below=absent_below,
    )
    squares = supports.read_all(named_supports, segmenter.geometry, options)
    made_by = _made_by(checkpoint, segmenter, squares, threshold, self_support, kinds)
    results = Results(out, made_by | {'coco': list(style)}, overwrite)
    named = _named(queries, results)
    _check_inputs(
        out,
        [*(one.path for one in queries), *_files(named_supports)],
        named,
    )
    results.begin()
    classes = list(squares)
    if None not in classes:
        _write_legend(classes, out)
    todo = [(query, name) for query, name in named if not results.has(query)]
    if len(todo) < len(named):
        logger.info('%d of %d pictures are finished already', len(named) - len(todo), len(named))
    _mention_supports(queries, named_supports)
    if todo:
        logger.info('compiling for the first picture (up to a minute on a CPU, seconds later)')
    probes = [segmenter.probe(squares[one]) for one in classes] if todo else []
    unreadable = segment_all(segmenter, probes, todo, results, threshold, len(named))
    _finish(results, kinds)
    _mention_earlier(queries, results, kinds)
    for error in unreadable.values():
        logger.error('left out: %s', error)
    print(
        f'{len(named) - len(unreadable)} of {len(named)} pictures segmented: {_said(kinds)} are in {out}'
    )
    return list(unreadable)


def segment_all(
    segmenter: Segmenter,
    probes: Sequence[Any],
    todo: Sequence[tuple[Query, str]],
    results: Results,
    threshold: float = 0.5,
    total: int | None = None,
) -> dict[Path, Exception]:
    """Segments pictures one after the other while the next are read; in memory are never more than a few.

    Args:
      probes: one a class.
      todo: pictures and the names of their output.
      total: pictures with those that are finished, for the progress.
    Returns: the pictures that cannot be read, and why.
    """
    kinds, named = results.run['write'], results.run['supports'][0][0] is not None
    style, unreadable = Style(*results.run.get('coco', ())), {}
    with contextlib.closing(read_ahead([query.path for query, _ in todo])) as reading:
        for (query, name), image in _progress(
            zip(todo, reading, strict=True), len(todo), total or len(todo)
        ):
            if isinstance(image, Exception):
                unreadable[query.path] = image
                continue
            size = image.shape[:2]
            found = segmenter.look(probes, image)
            label, scores = combine.winners(found.log_odds, size, threshold)
            present = _presence(segmenter, results, name, found.presence)
            files = outputs.files_of(results.out, name, kinds)
            if 'mask' in files:
                outputs.write_mask(label, files['mask'], named)
            if 'overlay' in files:
                outputs.write_overlay(image, label, files['overlay'], named)
            rows = list(annotations(label, scores, style)) if 'coco' in kinds else []
            results.add(query, name, size, rows, present)
    return unreadable


def _presence(segmenter, results, name, scores):
    """Return the presence scores by class, rounded, and say which classes are not in the picture; None without."""
    if scores is None:
        return None
    classes = [category or ONE_CLASS for category, _ in results.run['supports']]
    found = dict(zip(classes, (round(score, 3) for score in scores), strict=True))
    for category, score in zip(classes, scores, strict=True):
        if score < segmenter.absent_below:
            logger.info(
                '%s: no %s found (presence %.3f is below --absent_below %g)',
                name,
                category,
                score,
                segmenter.absent_below,
            )
    return found


def _made_by(path, segmenter, squares, threshold, self_support, kinds):
    """What run.json says: `results.MADE_BY`, and where the checkpoint was."""
    return {
        'checkpoint': os.fspath(path),
        'step': segmenter.step,
        'weights': segmenter.weights_hash(),
        **segmenter.geometry._asdict(),
        'absent_below': segmenter.absent_below,
        'supports': [[name, supports.fingerprint(pairs)] for name, pairs in squares.items()],
        'threshold': threshold,
        'self_support': self_support,
        'write': list(kinds),
    }


def _named(queries, results):
    """Each query with the name of its output; pictures that are finished keep theirs."""
    others = results.names
    own = {query.place: Path(os.path.abspath(query.path)) for query in queries}
    kept = {place: others.pop(path) for place, path in own.items() if path in others}
    return list(zip(queries, output_names(list(own), kept, others.values()), strict=True))


def _mention_supports(queries, named_supports):
    """Say that supports and masks that lie among the queries are segmented, too."""
    given = {path.resolve() for path in _files(named_supports)}
    names = [query.path.name for query in queries if query.path.resolve() in given]
    if names:
        logger.info(
            'supports among the queries are segmented like the others: %s', ', '.join(names)
        )


def _files(named_supports):
    """The images and the files of their masks."""
    return [images.split_value(path)[0] for support in named_supports for path in support[1:]]


def _write_legend(classes, out):
    colors = outputs.palette().tolist()
    rows = [(0, 'background'), *enumerate(classes, 1)]
    write_json(
        out / 'classes.json', [{'index': i, 'name': name, 'color': colors[i]} for i, name in rows]
    )


def _finish(results, kinds):
    """Write what is made of all pictures, after the last one."""
    if 'coco' in kinds:
        results.write_coco()
    if 'sheet' in kinds:
        outputs.write_sheets(results.overlays(), results.out)


def _mention_earlier(queries, results, kinds):
    """Say that what is made of all pictures has those of earlier runs in the folder, too."""
    earlier = results.names.keys() - {Path(os.path.abspath(query.path)) for query in queries}
    joint = [kind for kind in ('coco', 'sheet') if kind in kinds]
    if earlier and joint:
        logger.info(
            '%s in %s also have %d pictures of earlier runs: --overwrite starts over',
            _said(joint),
            results.out,
            len(earlier),
        )


def _said(kinds):
    words = {'mask': 'masks', 'overlay': 'overlays', 'coco': 'predictions.json', 'sheet': 'sheets'}
    *first, last = [words[kind] for kind in kinds]
    return f'{", ".join(first)} and {last}' if first else last


def _check_folder(out, given):
    """Refuses a folder where the output would mix with what was given."""
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file: the output needs a folder')
    for value in given:
        if out.resolve() == paths.expanded(value).resolve():
            raise ValueError(f'{out} is the folder of the queries: the output needs another one')


def _check_inputs(out, inputs, named):
    """Refuses a folder where the output would replace what was given."""
    written = {
        path.resolve()
        for _, name in named
        for path in outputs.files_of(out, name, outputs.ENDINGS).values()
    }
    written.add((out / 'predictions.json').resolve())
    replaced = [path for path in inputs if path.resolve() in written]
    if replaced:
        raise ValueError(f'the output would replace {replaced[0]}: give another folder than {out}')


def _progress(steps, count, total):
    """Yield the steps; several get a progress bar with the time left."""
    from tqdm import tqdm

    pause = 0.1 if sys.stderr.isatty() else 30  # seconds between two updates; a log file needs few
    return tqdm(
        steps,
        desc='segment',
        unit='picture',
        leave=False,
        mininterval=pause,
        disable=count <= 1,
        total=total,
        initial=total - count,
    )
