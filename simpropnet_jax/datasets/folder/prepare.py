"""Checking your own images and masks, and preparing them as a data set."""

import collections
import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from simpropnet_jax.datasets import stored_files
from simpropnet_jax.datasets.folder import annotated, index_masks, inputs, lists, store
from simpropnet_jax.datasets.folder.draw import draw
from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.io import encoding
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.io.masks import DEFAULT, MaskOptions
from simpropnet_jax.runtime import paths

AHEAD = 16  # images that are decoded before they are asked for


def prepare(
    folder: Path,
    annotations: Sequence[Path] | None,
    out: Path | None,
    fraction: float,
    longest: int,
    *,
    mask_value: float | int | None = None,
    mask_threshold: float | int | None = None,
    invert: bool = False,
    crowds: str = 'void',
    classes: str | None = None,
) -> Findings:
    """Check a folder and, if nothing is wrong with it, prepare it.

    Args:
      annotations: files in COCO's JSON or labelme's, or folders of them; None: there are masks.
      out: None: nothing is written.
      fraction, longest: of the flags --val and --longest_side.
      mask_value: pixels of this value are the object, in every mask.
      mask_threshold: pixels of this value and above are the object.
      invert: object and background of every mask change places.
      crowds: what annotations with iscrowd 1 are, 'void' or 'object'.
      classes: of index masks, see `index_masks.parse`; None: each class has a folder of masks.
    Returns:
      What is wrong, and what is odd.
    Raises:
      ValueError, OSError: there is no such folder, it lacks a part, or `out` is there already or cannot be written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f'there is no folder {folder}')
    if out is not None and out.exists():
        raise ValueError(f'{out} is there already: delete it, or give another --out')
    findings, options = Findings(), MaskOptions(mask_value, mask_threshold, invert, crowds).check()
    entries = _entries(folder, annotations, classes, options, findings)
    if not entries:
        findings.mistake('folder in which no image has a mask', str(folder))
        return findings
    names = inputs.class_names(entries, findings)
    if len(names) == 1:
        findings.mistake(
            'folder in which every mask is void: --crowds object reads iscrowd 1 as objects',
            str(folder),
        )
        return findings
    held_out = lists.read_folds(folder, names, findings)
    if findings.mistakes:
        return findings
    making = paths.unfinished_folder(out) if out else contextlib.nullcontext()
    with making as target:
        content, void = [], {}
        drawn = _draw_all(entries, names, longest, target, content, findings)
        labelled = _noting_void(drawn, void)
        first = next(labelled, None)
        index = first and Index.build(itertools.chain([first], labelled), {}, len(names))
        if findings.mistakes:
            return findings
        splits = {entry.id: entry.splits for entry in entries}
        index = _listed(folder, index, content, names, splits, fraction, findings)
        print(_table(index, names, held_out, void))
        if findings.mistakes:
            return findings
        if target:
            store.write(target, index, names, held_out)
            os.rename(target, out)
    return findings


def _entries(folder, annotations, classes, options, findings) -> list[inputs.Entry]:
    """The images with masks, of folders, index masks or annotations."""
    if annotations is None and classes is None:
        return inputs.find_masks(folder, findings, options)
    if options._replace(crowds='void') != DEFAULT:
        raise ValueError(
            '--mask_value, --mask_threshold and --invert are for masks/CLASS/: leave them out with --coco or --classes'
        )
    if annotations is None:
        return index_masks.find(folder, index_masks.parse(classes), findings)
    if classes is not None:
        raise ValueError('--classes is for index masks: leave it out with --coco')
    return annotated.find(folder, annotations, findings, options.crowds)


def _draw_all(
    entries, names, longest, target, content, findings
) -> Iterator[tuple[str, np.ndarray]]:
    """Image id and label of each entry that can be read; writes both, and adds the hash of the pixels to `content`."""
    if target:
        for part in (stored_files.IMAGES, stored_files.LABELS):
            (target / part).mkdir(parents=True)
    waiting, rest = collections.deque(), iter(entries)
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, AHEAD)) as pool,
        tqdm(total=len(entries), disable=None) as bar,
    ):
        while True:
            for entry in itertools.islice(rest, AHEAD - len(waiting)):
                waiting.append((entry, pool.submit(draw, entry, names, longest)))
            if not waiting:
                return
            entry, future = waiting.popleft()
            drawn, found = future.result()
            findings.add(found)
            bar.update()
            if drawn is None:
                continue
            content.append(drawn.content)
            if target:
                (target / stored_files.IMAGES / f'{entry.id}{drawn.ending}').write_bytes(
                    drawn.image
                )
                (target / stored_files.LABELS / f'{entry.id}.png').write_bytes(
                    encoding.png(drawn.label)
                )
            yield entry.id, drawn.label


def _noting_void(labelled, void) -> Iterator[tuple[str, np.ndarray]]:
    """The same ids and labels; adds the share of void pixels of each to `void`, by id."""
    for name, label in labelled:
        void[name] = (label == VOID).mean()
        yield name, label


def _listed(folder, index, content, names, splits, fraction, findings) -> Index:
    """The index with the lists of images: of files, of the annotations' names, or else drawn."""
    shows = index.pixels[:, 1:] > 0
    chosen = (
        lists.read_lists(folder, index.ids, findings)
        or lists.of_splits({name: splits[name] for name in index.ids}, findings)
        or lists.split(index.ids, shows, content, fraction)
    )
    lists.check(chosen, index.ids, shows, content, names[1:], findings)
    return replace(
        index, lists={name: np.isin(index.ids, list(listed)) for name, listed in chosen.items()}
    )


def _table(index: Index, names, held_out, void) -> str:
    """A row for each class: images on each list, and the median shares of the image that it and void cover."""
    rows = [('class', 'train', 'val', 'of the image', 'void', 'held out by fold')]
    void_shares = np.array([void[name] for name in index.ids])
    for class_id, name in enumerate(names[1:], 1):
        pixels = index.pixels[:, class_id]
        share = (
            np.median((pixels / (index.height * index.width))[pixels > 0]) if pixels.any() else 0.0
        )
        empty = np.median(void_shares[pixels > 0]) if pixels.any() else 0.0
        counts = [str((pixels[index.lists[one]] > 0).sum()) for one in lists.FILES]
        folds = ', '.join(str(fold) for fold, held in enumerate(held_out) if class_id in held)
        rows.append((name, *counts, f'{share:.1%}', f'{empty:.1%}', folds or '-'))
    widest = max(len(row[0]) for row in rows)
    return (
        '\n'.join(
            f'{first:{widest}}' + ''.join(f'{cell:>18}' for cell in rest) for first, *rest in rows
        )
        + '\n'
    )
