"""Named evaluation protocols: which (query, supports, class) episodes a number was measured on, and how.

Compare two numbers only under the same protocol; its hash identifies the exact episodes.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from simpropnet_jax.datasets.index import Index, Pairs, listed_pairs
from simpropnet_jax.episodes.presets import OF_PAPERS, PRESETS, Protocol
from simpropnet_jax.episodes.sampler import (
    EVALUATION,
    Episode,
    draw_supports,
    images_by_class,
    random_bits,
)

__all__ = [
    'OF_PAPERS',
    'PRESETS',
    'Protocol',
    'episodes',
    'get_protocol',
    'identical_episodes',
    'named_hash',
    'next_class',
    'other_class_episodes',
    'protocol_hash',
]

# Stream of the random numbers that choose queries if the supports' bits do not; distinct from the sampler's streams.
QUERIES = EVALUATION + 1


def get_protocol(name: str) -> Protocol:
    """Return the preset of this name.

    Raises:
      ValueError: there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f'protocol must be one of {", ".join(PRESETS)}, got {name!r}')
    return PRESETS[name]


def episodes(
    protocol: Protocol,
    index: Index,
    fold: int,
    shot: int,
    seed: int,
    classes: Sequence[int] | None = None,
) -> list[Episode]:
    """Draw the episodes of one seed: queries in the protocol's order, supports uniform from the class's other images.

    The k supports are the first k of one shuffle, so the 1-shot support is the first 5-shot support and results at
    several shots are paired. `Episode.pair` is a position in the pairs listed for these classes; it is -1 if the query
    shows too little of the class to be listed.

    An episode of several classes is as many of these in turn, with one query and each class's own supports.

    Args:
      classes: by default the fold's five novel classes; pass its base classes to select a checkpoint without novel
        classes.

    Raises:
      ValueError: a class has fewer than shot + 1 listed images, or there are fewer classes than an episode has.
    """
    classes = tuple(index.novel_classes(fold) if classes is None else classes)
    pairs = listed_pairs(index, protocol.image_list, classes, protocol.tiny_rule)
    members = images_by_class(pairs, shot, classes)
    position = {
        pair: i
        for i, pair in enumerate(zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True))
    }
    if protocol.ways > 1:
        return _of_several_classes(protocol, pairs, members, position, (shot, seed, fold))
    query = _query_order(protocol.order, index, pairs, members, seed, fold)
    drawn = []
    for i in range(protocol.episodes):
        image, class_id = query(i)
        pair = position.get((image, class_id), -1)
        bits = random_bits(1 + len(members[class_id]), seed, fold, EVALUATION, i)
        supports = draw_supports(pairs, members[class_id], pair, shot, bits[1:])
        drawn.append(Episode(image, supports, class_id, pair))
    return drawn


def _of_several_classes(
    protocol: Protocol,
    pairs: Pairs,
    members: dict[int, np.ndarray],
    position: dict[tuple[int, int], int],
    place: tuple[int, int, int],
) -> list[Episode]:
    """Draw episodes of several classes in random order; the query shows at least one of them, drawn among them.

    No support is the query, not even of another class, which PANet's code does not exclude.

    Args:
      position: (image, class) -> position in `pairs`.
      place: shot, seed and fold.
    """
    shot, seed, fold = place
    classes, drawn = tuple(members), []
    if len(classes) < protocol.ways:
        raise ValueError(
            f'protocol {protocol.name!r} has {protocol.ways} classes in an episode, but fold {fold} holds out '
            f'{len(classes)}'
        )
    for i in range(protocol.episodes):
        bits = random_bits(len(classes) + 2, seed, fold, QUERIES, i)
        order = np.argsort(bits[: len(classes)], kind='stable')[: protocol.ways]
        chosen = [classes[number] for number in order]
        of_class = members[chosen[int(bits[-2] % protocol.ways)]]
        image = int(pairs.image[of_class[int(bits[-1] % len(of_class))]])
        for way, class_id in enumerate(chosen):
            pair = position.get((image, class_id), -1)
            bits = random_bits(len(members[class_id]), seed, fold, QUERIES + 1 + way, i)
            supports = draw_supports(pairs, members[class_id], pair, shot, bits)
            drawn.append(Episode(image, supports, class_id, pair))
    return drawn


def _query_order(
    order: str, index: Index, pairs: Pairs, members: dict[int, np.ndarray], seed: int, fold: int
) -> Callable[[int], tuple[int, int]]:
    """Return a function from episode number to the query's image and class, in one of the orders of `Protocol`."""
    classes, images = tuple(members), np.unique(pairs.image)

    def bits(count, number):
        return random_bits(count, seed, fold, QUERIES, number)

    def listed(pair):
        return (int(pairs.image[pair]), int(pairs.class_id[pair]))

    def in_turn(i):
        of_class = members[classes[i % len(classes)]]
        return listed(of_class[int(random_bits(1, seed, fold, EVALUATION, i)[0]) % len(of_class)])

    def at_random(i):
        drawn_class, drawn_query = bits(2, i).tolist()
        of_class = members[classes[drawn_class % len(classes)]]
        return listed(of_class[drawn_query % len(of_class)])

    def shuffled(i):
        cycle, place = divmod(i, len(pairs))
        return listed(np.argsort(bits(len(pairs), cycle), kind='stable')[place])

    def by_image(i):
        image = int(images[i % len(images)])
        shown = [c for c in classes if index.pixels[image, c] > 0]
        return image, shown[int(bits(1, i)[0]) % len(shown)]

    def in_order(i):
        return listed(i % len(pairs))

    def in_order_first(i):
        return in_order(i) if i < len(pairs) else shuffled(i)

    return {
        'classes': in_turn,
        'random': at_random,
        'pairs': in_order,
        'shuffled': shuffled,
        'pairs first': in_order_first,
        'images': by_image,
    }[order]


def identical_episodes(protocol: Protocol, index: Index, fold: int) -> list[Episode]:
    """Return every listed pair of the fold's novel classes once, with the query as its own support."""
    pairs = listed_pairs(index, protocol.image_list, index.novel_classes(fold), protocol.tiny_rule)
    listed = zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True)
    return [
        Episode(image, (image,), class_id, pair) for pair, (image, class_id) in enumerate(listed)
    ]


def next_class(classes: Sequence[int]) -> dict[int, int]:
    """Map each class to the next one of the fold, and the last to the first."""
    return dict(zip(classes, [*classes[1:], *classes[:1]], strict=True))


def other_class_episodes(
    drawn: Sequence[Episode], protocol: Protocol, index: Index, fold: int
) -> list[Episode]:
    """Replace the supports of each episode by the supports of an episode of the fold's next class (`next_class`).

    Query and `class_id` stay, so a method that uses its support scores low. No new support is the query or shows the
    episode's own class, however small.

    Raises:
      ValueError: there is no second class, or none of its episodes has suitable supports.
    """
    classes = index.novel_classes(fold)
    after, turn = next_class(classes), dict.fromkeys(classes, 0)
    showing = {
        c: set(listed_pairs(index, protocol.image_list, (c,), 'none').image.tolist())
        for c in classes
    }
    donors = {c: [e.supports for e in drawn if e.class_id == c] for c in classes}
    changed = []
    for episode in drawn:
        own, other = episode.class_id, donors[after[episode.class_id]]
        start, unfit = turn[own], showing[own] | {episode.query}
        tried = (other[(start + i) % len(other)] for i in range(len(other)))
        supports = next((one for one in tried if unfit.isdisjoint(one)), None)
        if supports is None:
            name = index.class_names[own]
            raise ValueError(
                f'no episode of another class has supports without {name}: other_class needs more images'
            )
        changed.append(episode._replace(supports=supports))
        turn[own] += 1
    return changed


def protocol_hash(drawn: Iterable[Episode], ids: Sequence[str]) -> str:
    """Return twelve hex digits of the sha256 of the episodes' image ids and classes.

    It depends on the ids and not on their numbers: the same episodes over another index have the same hash.

    Args:
      drawn: episodes of every seed, in order.
      ids: image ids of the Index.
    """
    return named_hash((e.class_id, ids[e.query], [ids[s] for s in e.supports]) for e in drawn)


def named_hash(drawn: Iterable[tuple[int, str, Sequence[str]]]) -> str:
    """Compute `protocol_hash` of episodes as (class id, image id of the query, image ids of the supports)."""
    lines = (' '.join([str(class_id), query, *supports]) for class_id, query, supports in drawn)
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]
