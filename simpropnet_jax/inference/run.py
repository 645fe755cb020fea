"""One picture, or a folder of them, segmented from the command line: files in, files out."""

import collections
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simpropnet_jax import images, visualize
from simpropnet_jax.inference.segmenter import Segmenter, read_support

logger = logging.getLogger(__name__)


def predict(
    checkpoint: str | os.PathLike, supports: Sequence[tuple[Path, Path]], query: Path, out: Path
) -> list[Path]:  # fmt: skip
    """Writes OUT/<stem>_mask.png (0 and 255) and OUT/<stem>_overlay.jpg for one picture or a folder of them.

    Where two queries have one stem, each keeps its ending: cat.jpg_mask.png.

    Args:
      checkpoint: the folder that train.py wrote.
      supports: (image, mask) files.
      query: a picture, or a folder of pictures (without its subfolders).
      out: made if it is not there.
    Returns:
      The queries of a folder that could not be read; they are logged at the end.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if not query.exists():
        raise FileNotFoundError(f'there is no file or folder {query} to segment')
    queries = images.pictures_in(query) if query.is_dir() else [query]
    names = output_names(queries)
    _check_out(out, query, [*queries, *(path for pair in supports for path in pair)], names)
    for image, mask in supports:
        read_support(image, mask)
    if not query.is_dir():
        images.read_image(query)
    segmenter = Segmenter.from_checkpoint(checkpoint)
    probe = segmenter.probe(supports)
    out.mkdir(parents=True, exist_ok=True)
    unreadable = {}
    for path, name in zip(_progress(queries), names, strict=True):
        try:
            image = images.read_image(path)
        except (ValueError, OSError) as error:
            unreadable[path] = error
            continue
        mask, _ = segmenter.segment_with(probe, image)
        visualize.save(mask.astype(np.uint8) * 255, out / f'{name}_mask.png')
        visualize.save(visualize.overlay(image, mask, visualize.PREDICTION), out / f'{name}_overlay.jpg')
    for error in unreadable.values():
        logger.error('left out: %s', error)
    print(f'{len(queries) - len(unreadable)} of {len(queries)} pictures segmented: masks and overlays are in {out}')
    return list(unreadable)


def output_names(queries: Sequence[Path]) -> list[str]:
    """What the output of each query is called: its stem, or its whole name where others have the stem too."""
    stems = collections.Counter(path.stem.lower() for path in queries)  # a.jpg and A.jpg are one file on some systems
    taken = {stem for stem, count in stems.items() if count == 1}
    names = []
    for path in queries:
        name = path.stem
        if stems[name.lower()] > 1:
            name = path.name
            while name.lower() in taken:
                name += '_'
            taken.add(name.lower())
        names.append(name)
    return names


def _check_out(out, query, inputs, names):
    """Refuses a folder where the output would replace, or mix with, what was given."""
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file: the output needs a folder')
    if out.resolve() == query.resolve():
        raise ValueError(f'{out} is the folder of the queries: the output needs another one')
    written = {(out / f'{name}{ending}').resolve() for name in names for ending in ('_mask.png', '_overlay.jpg')}
    replaced = [path for path in inputs if path.resolve() in written]
    if replaced:
        raise ValueError(f'the output would replace {replaced[0]}: give another folder than {out}')


def _progress(queries):
    """The queries, with a bar and the time left where there are several."""
    from tqdm import tqdm

    pause = 0.1 if sys.stderr.isatty() else 30  # seconds between two updates; a log file needs few
    return tqdm(queries, desc='segment', unit='picture', leave=False, mininterval=pause, disable=len(queries) == 1)
