"""Episodes as plain files, for programs in any language: images, masks of the supports, and one JSON.

    FOLDER/episodes.json     the episodes, as `episodes.episode_files` describes; and paths for each episode:
                             query_image, support_images, support_masks, relative to FOLDER
    FOLDER/images/ID.jpg     each image once, byte for byte as prepared; .png if it is a PNG
    FOLDER/masks/ID_8.png    each support's mask of class 8: 255 on the object, 0 elsewhere, void pixels too

The truth of the queries is not written. `simpropnet eval --predictions` scores a mask for each episode; a mask has the
size of the query's image.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simpropnet_jax.episodes.episode_files import Sets, write_episodes
from simpropnet_jax.episodes.loader import binary_label, own_labels
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.io import formats
from simpropnet_jax.io.labels import FOREGROUND
from simpropnet_jax.runtime.progress import Progress

FILE = 'episodes.json'


def write_folder(
    out: Path, protocol: Protocol, fold: int, sets: Sets, source, progress: Progress | None = None
) -> str:
    """Write the episodes to a folder; an interrupted command may be repeated.

    Args:
      out: new or empty folder, or one that this function wrote.
      sets: {(shot, seed): episodes}.
      source: a datasets Source.
    Returns:
      The hash of the episodes.
    Raises:
      ValueError: the folder holds other files.
    """
    left = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if out.is_file() or left - {FILE, 'images', 'masks'}:
        raise ValueError(f'{out} exists and holds other files: give a new folder as --out')
    for name in ('images', 'masks'):
        (out / name).mkdir(parents=True, exist_ok=True)
    every = [episode for drawn in sets.values() for episode in drawn]
    used = sorted({number for e in every for number in (e.query, *e.supports)})
    shown = sorted({(number, e.class_id) for e in every for number in e.supports})
    images = {}
    for done, number in enumerate(used, 1):
        images[number] = _write_image(out, source, number)
        if progress:
            progress('write images', done, len(used))
    for done, (number, class_id) in enumerate(shown, 1):
        _write_mask(out, source, number, class_id)
        if progress:
            progress('write masks', done, len(shown))

    def paths(episode) -> dict[str, Any]:
        return {
            'query_image': images[episode.query],
            'support_images': [images[number] for number in episode.supports],
            'support_masks': [
                _mask_name(source, number, episode.class_id) for number in episode.supports
            ],
        }

    return write_episodes(out / FILE, protocol, fold, sets, source.index, paths)


def _write_image(out, source, number) -> str:
    stored = source.example(number)[0]
    with Image.open(io.BytesIO(stored), formats=formats.STORED) as image:
        ending = 'png' if image.format == 'PNG' else 'jpg'
    name = f'images/{source.ids[number]}.{ending}'
    (out / name).write_bytes(stored)
    return name


def _mask_name(source, number, class_id) -> str:
    return f'masks/{source.ids[number]}_{class_id}.png'


def _write_mask(out, source, number, class_id) -> None:
    label = binary_label(own_labels(source, [number])[0], class_id)
    mask = (label == FOREGROUND) * np.uint8(255)
    Image.fromarray(mask).save(out / _mask_name(source, number, class_id))
