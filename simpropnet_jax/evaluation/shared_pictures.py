"""Pictures of a few episodes, the same ones for every method, so that `simpropnet board` can show methods side by side.

Next to RESULT.json lies RESULT.pictures/: for the first episode of each class, NAME.jpg with the predicted mask and
NAME_episode.jpg with the first support and the truth. NAME is the episode's name in episode files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from simpropnet_jax.episodes.episode_files import episode_name
from simpropnet_jax.episodes.loader import binary_label, own_images, own_labels
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.io import overlay
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

SUFFIX = '.pictures'
CONTEXT = '_episode'  # ending of the names of pictures with support and truth
HEIGHT = 160  # pixels


class ShownEpisode(NamedTuple):
    """An episode with pictures: its name, its set (shot and seed), its number in the set, and itself."""

    name: str
    key: tuple[int, int]
    number: int
    episode: Episode


def folder_beside(result: AnyPath) -> AnyPath:
    """Return the folder of a result file's pictures."""
    return paths.parse(result).with_suffix(SUFFIX)


def choose(
    protocol: Protocol, fold: int, sets: Mapping[tuple[int, int], Sequence[Episode]]
) -> list[ShownEpisode]:
    """Return the first episode of each class, of the first set with the fewest shots.

    Empty if the episodes have several classes: their pictures would need several masks.
    """
    if protocol.ways > 1:
        return []
    key = min(sets, key=lambda one: one[0])
    found = {}
    for number, episode in enumerate(sets[key]):
        name = episode_name(protocol.name, fold, *key, number)
        found.setdefault(episode.class_id, ShownEpisode(name, key, number, episode))
    return list(found.values())


def write(folder: AnyPath, source, shown: ShownEpisode, mask: np.ndarray) -> None:
    """Draw an episode and its predicted mask.

    Args:
      folder: see `folder_beside`.
      source: a datasets Source.
      mask: bool [h, w], of any size; it is stretched to the query.
    """
    episode = shown.episode
    query, truth, _ = _read(source, episode.query, episode.class_id)
    support, support_mask, void = _read(source, episode.supports[0], episode.class_id)
    stretched = Image.fromarray(mask.astype(np.uint8)).resize(query.shape[1::-1], Image.NEAREST)
    predicted = overlay.predicted(query, np.asarray(stretched) > 0, truth, 1)
    overlay.save(predicted, folder / f'{shown.name}.jpg')
    context = [
        overlay.tinted(support, support_mask, overlay.TRUTH, void),
        overlay.tinted(query, truth, overlay.TRUTH),
    ]
    overlay.save(overlay.beside(context), folder / f'{shown.name}{CONTEXT}.jpg')


def _read(source, number, class_id):
    """Return an image u8, a mask and void pixels, of one height."""
    image = Image.fromarray(own_images(source, [number])[0])
    label = Image.fromarray(binary_label(own_labels(source, [number])[0], class_id))
    size = (max(1, round(image.width * HEIGHT / image.height)), HEIGHT)
    label = np.asarray(label.resize(size, Image.NEAREST))
    return np.asarray(image.resize(size, Image.BILINEAR)), label == FOREGROUND, label == VOID
