"""Named evaluation protocols: which (query, supports, class) episodes a number was measured on, and how.

Two numbers may be compared only under one protocol; its hash states the very episodes.

`PRESETS` has ours, 'simpropnet', and those of peers. Theirs reproduce a peer's rules, as its released code has them,
and not its random draws: those depend on the versions of its libraries, and where a peer draws without a seed nobody
has them. So a number under the preset 'hsnet' was measured as HSNet measures, on other episodes than HSNet's.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from simpropnet_jax.datasets.index import Index, Pairs, listed_pairs
from simpropnet_jax.episodes.sampler import (
    EVALUATION,
    Episode,
    draw_supports,
    images_by_class,
    random_bits,
)

# Stream of the random numbers that choose queries, where supports' bits do not: besides those of the sampler.
QUERIES = EVALUATION + 1


@dataclass(frozen=True)
class Protocol:
    """Everything that decides an evaluation's episodes, at which size masks are compared, and how void pixels count."""

    name: str
    image_list: str
    """List of the Index that queries and supports come from."""
    tiny_rule: str
    """Which (image, class) pairs are too small to be listed: 'oslsm', 'px2048' or 'none'."""
    order: str
    """Which queries, in which order.

    'classes': the fold's classes in turn, the query uniform in the class; 'random': the class is random, too;
    'pairs': every listed pair, by image and then class, again and again; 'shuffled': the same, shuffled anew each time;
    'pairs first': once in that order, and shuffled anew each time after that;
    'images': every image with a listed pair, again and again, with any class of the fold that it shows, however small.
    """
    episodes: int
    """Episodes of one seed and fold."""
    seeds: tuple[int, ...]
    resolution: int | str
    """Masks are compared on squares of this side, in pixels, or at each query label's 'own' size."""
    void: str
    """Pixels labelled 255: 'ignore' in mask and metric, 'background', or 'as trained': as config.data.void says."""


PRESETS = {
    # "Three sets of random support-query test pairs for each of the splits" (SimPropNet, section 4.1; their size is
    # not stated): 1,000 episodes as in OSLSM and CANet, over the pairs that CANet, PMMs and HSNet list.
    'simpropnet': Protocol(
        'simpropnet',
        image_list='val',
        tiny_rule='oslsm',
        order='classes',
        episodes=1000,
        seeds=(0, 1, 2),
        resolution=321,
        void='as trained',
    ),
    # icoz69/CaNet, dataset_mask_val.py: the list as it is and shuffled copies of it, cut to 1,000, no seed; 321 x 321
    # (original size in the paper); binary maps without void. Its random crop of supports is config.eval.random_support.
    'canet': Protocol(
        'canet',
        image_list='val',
        tiny_rule='oslsm',
        order='pairs first',
        episodes=1000,
        seeds=(0,),
        resolution=321,
        void='background',
    ),
    # dvlab-research/PFENet, test.py and util/dataset.py: 5,000 over the images in order, objects of 2,048 pixels
    # or more, manual_seed 321; logits resized to the original size (ori_resize), its padding ignored.
    'pfenet': Protocol(
        'pfenet',
        image_list='val',
        tiny_rule='px2048',
        order='images',
        episodes=5000,
        seeds=(321,),
        resolution='own',
        void='ignore',
    ),
    # juhongm999/hsnet, data/pascal.py: 1,000, the list's line idx % len(list), fix_randseed(0), 400 x 400. Its five
    # supports are drawn one by one and may be the same; here they differ.
    'hsnet': Protocol(
        'hsnet',
        image_list='val',
        tiny_rule='oslsm',
        order='pairs',
        episodes=1000,
        seeds=(0,),
        resolution=400,
        void='ignore',
    ),
    # lzzcd001/OSLSM, ss_settings.py and ss_datalayer.py: db_cycle 1000 over the shuffled list, seed 1385 ("Do not
    # change"); queries and labels stretched to 500 x 500; void is not told from the background.
    'oslsm': Protocol(
        'oslsm',
        image_list='val',
        tiny_rule='oslsm',
        order='shuffled',
        episodes=1000,
        seeds=(1385,),
        resolution=500,
        void='background',
    ),
    # chunbolang/BAM, test.py: PFENet's loader, 1,000 episodes of each of the five seeds that seed 123 gives, the mean.
    'bam': Protocol(
        'bam',
        image_list='val',
        tiny_rule='px2048',
        order='images',
        episodes=1000,
        seeds=(510, 365, 382, 322, 988),
        resolution='own',
        void='ignore',
    ),
    # kaixin96/PANet, test.py and config.py: five runs of 1,000 from seed 1234 on, random class and images, however
    # small the object, of 'trainaug' (not of VOC val), 417 x 417.
    'panet': Protocol(
        'panet',
        image_list='trainaug',
        tiny_rule='none',
        order='random',
        episodes=1000,
        seeds=(1234, 1235, 1236, 1237, 1238),
        resolution=417,
        void='ignore',
    ),
    # Ours, for one's own images: every object, however small; fewer episodes, as there are few images.
    'folder': Protocol(
        'folder',
        image_list='val',
        tiny_rule='none',
        order='classes',
        episodes=200,
        seeds=(0, 1, 2),
        resolution=321,
        void='as trained',
    ),
}


OF_PAPERS = tuple(name for name in PRESETS if name != 'folder')
"""For PASCAL-5i."""


def get_protocol(name: str) -> Protocol:
    """The preset of this name.

    Raises:
      ValueError: there is none.
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
    """The episodes of one seed: queries in the protocol's order, supports uniform from the class's other images.

    The k supports are the first k of one shuffle, so the 1-shot support is the first of the 5-shot ones and
    results at several shots are paired. `Episode.pair` counts in the pairs listed for these classes; it is -1 where the
    query shows too little of the class to be listed with it.

    Args:
      classes: the fold's five novel classes by default; its base classes to select a checkpoint without them.

    Raises:
      ValueError: a class has fewer than shot + 1 listed images.
    """
    classes = tuple(index.novel_classes(fold) if classes is None else classes)
    pairs = listed_pairs(index, protocol.image_list, classes, protocol.tiny_rule)
    members = images_by_class(pairs, shot, classes)
    position = {
        pair: i
        for i, pair in enumerate(zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True))
    }
    query = _query_order(protocol.order, index, pairs, members, seed, fold)
    drawn = []
    for i in range(protocol.episodes):
        image, class_id = query(i)
        pair = position.get((image, class_id), -1)
        bits = random_bits(1 + len(members[class_id]), seed, fold, EVALUATION, i)
        supports = draw_supports(pairs, members[class_id], pair, shot, bits[1:])
        drawn.append(Episode(image, supports, class_id, pair))
    return drawn


def _query_order(
    order: str, index: Index, pairs: Pairs, members: dict[int, np.ndarray], seed: int, fold: int
) -> Callable[[int], tuple[int, int]]:
    """Number of the episode -> the query's image and its class, in one of the orders of `Protocol`."""
    classes, images = tuple(members), np.unique(pairs.image)
    bits = lambda count, number: random_bits(count, seed, fold, QUERIES, number)
    listed = lambda pair: (int(pairs.image[pair]), int(pairs.class_id[pair]))

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

    in_order = lambda i: listed(i % len(pairs))
    in_order_first = lambda i: in_order(i) if i < len(pairs) else shuffled(i)
    return {
        'classes': in_turn,
        'random': at_random,
        'pairs': in_order,
        'shuffled': shuffled,
        'pairs first': in_order_first,
        'images': by_image,
    }[order]


def identical_episodes(protocol: Protocol, index: Index, fold: int) -> list[Episode]:
    """Every listed pair of the fold's novel classes once, the query being its own support."""
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
      ValueError: there is no second class, or no episode of it has such supports.
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
    """Twelve hex digits of the sha256 of the episodes' image ids and classes.

    It depends on the ids and not on their numbers: the same episodes over another index have the same hash.

    Args:
      drawn: episodes of every seed, in order.
      ids: the Index's.
    """
    return named_hash((e.class_id, ids[e.query], [ids[s] for s in e.supports]) for e in drawn)


def named_hash(drawn: Iterable[tuple[int, str, Sequence[str]]]) -> str:
    """`protocol_hash` of episodes as (class id, image id of the query, image ids of the supports)."""
    lines = (' '.join([str(class_id), query, *supports]) for class_id, query, supports in drawn)
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()[:12]
