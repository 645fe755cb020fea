"""Named evaluation protocols: which (query, supports, class) episodes a number was measured on.

Two numbers may be compared only under one protocol; its hash states the very episodes.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.datasets.index import Index, listed_pairs
from simpropnet_jax.episodes.sampler import EVALUATION, Episode, draw_supports, images_by_class, random_bits


@dataclass(frozen=True)
class Protocol:
    """Everything that decides an evaluation's episodes, and how void pixels count."""

    name: str
    image_list: str
    """List of the Index that queries and supports come from."""
    tiny_rule: str
    """Which (image, class) pairs are too small to be listed: 'oslsm', 'px2048' or 'none'."""
    episodes: int
    """Episodes of one seed and fold."""
    seeds: tuple[int, ...]
    void: str
    """Pixels labelled 255: 'ignore' in mask and metric, or 'background' as in the papers' binary masks."""


# "Three sets of random support-query test pairs for each of the splits" (SimPropNet, section 4.1; their size
# is not stated): 1,000 episodes as in OSLSM and CANet, over the pairs that CANet, PMMs and HSNet list.
PRESETS = {
    'simpropnet': Protocol(
        'simpropnet', image_list='val', tiny_rule='oslsm', episodes=1000, seeds=(0, 1, 2), void='ignore'
    ),
}


def get_protocol(name: str) -> Protocol:
    """The preset of this name.

    Raises:
      ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f'protocol must be one of {", ".join(PRESETS)}, got {name!r}')
    return PRESETS[name]


def episodes(
    protocol: Protocol, index: Index, fold: int, shot: int, seed: int, classes: Sequence[int] | None = None
) -> list[Episode]:
    """The episodes of one seed: classes in turn, query uniform in the class, supports from its other images.

    The k supports are the first k of one shuffle, so the 1-shot support is the first of the 5-shot ones and
    results at several shots are paired. `Episode.pair` counts in the pairs listed for these classes.

    Args:
      classes: the fold's five novel classes by default; its base classes to select a checkpoint without them.

    Raises:
      ValueError: a class has fewer than shot + 1 listed images.
    """
    classes = tuple(novel_classes(fold) if classes is None else classes)
    pairs = listed_pairs(index, protocol.image_list, classes, protocol.tiny_rule)
    members = images_by_class(pairs, shot, classes)
    drawn = []
    for i in range(protocol.episodes):
        class_id = classes[i % len(classes)]
        bits = random_bits(1 + len(members[class_id]), seed, fold, EVALUATION, i)
        pair = int(members[class_id][int(bits[0]) % len(members[class_id])])
        supports = draw_supports(pairs, members[class_id], pair, shot, bits[1:])
        drawn.append(Episode(int(pairs.image[pair]), supports, class_id, pair))
    return drawn


def identical_episodes(protocol: Protocol, index: Index, fold: int) -> list[Episode]:
    """Every listed pair of the fold's novel classes once, the query being its own support."""
    pairs = listed_pairs(index, protocol.image_list, novel_classes(fold), protocol.tiny_rule)
    listed = zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True)
    return [Episode(image, (image,), class_id, pair) for pair, (image, class_id) in enumerate(listed)]


def protocol_hash(drawn: Iterable[Episode], ids: Sequence[str]) -> str:
    """Twelve hex digits of the sha256 of the episodes' image ids and classes.

    It depends on the ids and not on their numbers: the same episodes over another index have the same hash.

    Args:
      drawn: episodes of every seed, in order.
      ids: the Index's.
    """
    lines = (' '.join([str(e.class_id), ids[e.query], *(ids[s] for s in e.supports)]) for e in drawn)
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]
