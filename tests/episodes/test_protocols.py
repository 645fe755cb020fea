"""Evaluation episodes: fixed, paired over shots, and stated by a hash."""

import dataclasses

import numpy as np
import pytest

from simpropnet_jax.datasets.folds import base_classes
from simpropnet_jax.episodes.protocols import (
    PRESETS,
    Protocol,
    episodes,
    get_protocol,
    identical_episodes,
    protocol_hash,
)
from tests.fakes import fake_source

PROTOCOL = PRESETS['simpropnet']


@pytest.fixture(scope='module')
def index():
    return fake_source(240).index


def test_novel_classes_in_turn_from_the_evaluation_list(index):
    drawn = episodes(PROTOCOL, index, fold=2, shot=5, seed=0)
    assert [e.class_id for e in drawn] == [11, 12, 13, 14, 15] * 200
    for e in drawn:
        images = [e.query, *e.supports]
        assert len(set(images)) == 6
        assert index.lists['val'][images].all()
        assert (index.hits[images, e.class_id] > 2).all()


def test_one_shot_support_is_the_first_of_five(index):
    one, five = (episodes(PROTOCOL, index, fold=0, shot=shot, seed=1) for shot in (1, 5))
    assert [(e.query, e.class_id, e.pair, e.supports) for e in one] == [
        (e.query, e.class_id, e.pair, e.supports[:1]) for e in five
    ]


def test_queries_are_uniform_in_their_class(index):
    drawn = [e for seed in range(5) for e in episodes(PROTOCOL, index, fold=0, shot=1, seed=seed)]
    counts = np.unique([e.query for e in drawn if e.class_id == 3], return_counts=True)[1]
    assert len(counts) == (index.pixels[index.lists['val'], 3] > 0).sum()
    assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.5 * counts.mean()


def test_seed_decides_and_base_classes_can_be_asked_for(index):
    first, again, other = (
        episodes(PROTOCOL, index, fold=0, shot=1, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    base = episodes(PROTOCOL, index, fold=0, shot=1, seed=0, classes=base_classes(0))
    assert {e.class_id for e in base} == set(range(6, 21))


def test_identical_episodes_are_every_listed_pair_of_the_novel_classes_once(index):
    drawn = identical_episodes(PROTOCOL, index, fold=2)
    listed = [
        (i, c)
        for i in np.flatnonzero(index.lists['val'])
        for c in (11, 12, 13, 14, 15)
        if index.hits[i, c] > 2
    ]
    assert [(e.query, e.class_id) for e in drawn] == listed and len(set(listed)) > 50
    assert all(e.supports == (e.query,) and e.pair == i for i, e in enumerate(drawn))
    # Positions are those that the episodes of this fold have.
    assert {(e.query, e.class_id, e.pair) for e in episodes(PROTOCOL, index, 2, 1, 0)} <= {
        (e.query, e.class_id, e.pair) for e in drawn
    }


def test_too_few_images_name_the_class(index):
    with pytest.raises(
        ValueError, match=r'class 1 \(aeroplane\) has 12 listed images, 12-shot .* need 13'
    ):
        episodes(PROTOCOL, index, fold=0, shot=12, seed=0)
    with pytest.raises(ValueError, match=r'class 6 \(bus\) has 0 listed images'):
        episodes(PROTOCOL, fake_source(20, classes=5).index, fold=1, shot=1, seed=0)


def test_hash_is_of_ids_and_these_very_episodes(index):
    drawn = episodes(PROTOCOL, index, fold=0, shot=1, seed=0)
    # If this changes, so have the episodes that published numbers were measured on.
    assert protocol_hash(drawn, index.ids) == '8fcb80bf57ac'
    shifted = [
        e._replace(query=e.query + 1, supports=tuple(s + 1 for s in e.supports)) for e in drawn
    ]
    assert protocol_hash(shifted, ('another', *index.ids)) == protocol_hash(drawn, index.ids)
    assert protocol_hash(shifted, (*index.ids, 'another')) != protocol_hash(drawn, index.ids)
    shorter = dataclasses.replace(PROTOCOL, episodes=999)
    assert protocol_hash(episodes(shorter, index, 0, 1, 0), index.ids) != protocol_hash(
        drawn, index.ids
    )


# The peers' rules, as `PRESETS` says where from: list, tiny rule, order, episodes, seeds, size of comparison, void, and
# classes of an episode.
RULES = {
    'simpropnet': ('val', 'oslsm', 'classes', 1000, (0, 1, 2), 321, 'as trained'),
    'canet': ('val', 'oslsm', 'pairs first', 1000, (0,), 321, 'background'),
    'pfenet': ('val', 'px2048', 'images', 5000, (321,), 'own', 'ignore'),
    'hsnet': ('val', 'oslsm', 'pairs', 1000, (0,), 400, 'ignore'),
    'oslsm': ('val', 'oslsm', 'shuffled', 1000, (1385,), 500, 'background'),
    'bam': ('val', 'px2048', 'images', 1000, (510, 365, 382, 322, 988), 'own', 'ignore'),
    'panet': ('trainaug', 'none', 'random', 1000, (1234, 1235, 1236, 1237, 1238), 417, 'ignore'),
    'panet_2way': (
        'trainaug',
        'none',
        'random',
        1000,
        (1234, 1235, 1236, 1237, 1238),
        417,
        'ignore',
        2,
    ),
    'hsnet_coco': ('val', 'px2048', 'random', 1000, (0,), 400, 'background'),
    'pfenet_coco': ('val', 'px2048', 'images', 20000, (321,), 'own', 'background'),
    'hsnet_fss': ('val', 'none', 'pairs', 2400, (0,), 400, 'ignore'),
    'folder': ('val', 'none', 'classes', 200, (0, 1, 2), 321, 'as trained'),
}


def test_no_preset_changes_by_accident():
    assert {name: Protocol(name, *rules) for name, rules in RULES.items()} == PRESETS


# Of the fake data, fold 0, 1-shot, the first seed. If one changes, so have the episodes of published numbers.
HASHES = {
    'simpropnet': '8fcb80bf57ac',
    'canet': '8695f742851b',
    'pfenet': 'abb388d81b08',
    'hsnet': '45506e0207a4',
    'oslsm': 'c5e692eb989b',
    'bam': '288fc11e6067',
    'panet': '9e33a7a39c61',
    'panet_2way': 'c5a18a6ed390',
    'hsnet_coco': '76fa2269b150',
    'hsnet_fss': '807eb9b75ec6',
    'folder': '0e3aa27fbc1c',
}


@pytest.mark.parametrize('name', HASHES)  # pfenet_coco draws as pfenet, four times as often
def test_every_preset_keeps_to_its_list_and_its_draws(name, index):
    protocol = get_protocol(name)
    drawn = episodes(protocol, index, fold=0, shot=2, seed=protocol.seeds[0])
    listed = index.lists[protocol.image_list]
    assert protocol.name == name and len(drawn) == protocol.episodes * protocol.ways
    for e in drawn:
        assert len({e.query, *e.supports}) == 3 and listed[[e.query, *e.supports]].all()
        shown = [e.query, *e.supports] if protocol.ways == 1 else list(e.supports)
        assert (index.pixels[shown, e.class_id] > 0).all()
    one = episodes(protocol, index, fold=0, shot=1, seed=protocol.seeds[0])
    assert [e.supports[:1] for e in drawn] == [e.supports for e in one]
    assert protocol_hash(one, index.ids) == HASHES[name]


def pairs_of(drawn):
    return [(e.query, e.class_id) for e in drawn]


def test_the_list_in_order_and_again(index):
    listed = pairs_of(identical_episodes(PRESETS['hsnet'], index, fold=1))
    drawn = pairs_of(episodes(PRESETS['hsnet'], index, fold=1, shot=1, seed=0))
    assert drawn == [listed[i % len(listed)] for i in range(1000)]


def test_the_list_shuffled_anew_each_time(index):
    listed = pairs_of(identical_episodes(PRESETS['oslsm'], index, fold=1))
    first, other = (
        pairs_of(episodes(PRESETS['oslsm'], index, fold=1, shot=1, seed=seed)) for seed in (1385, 0)
    )
    n = len(listed)
    assert sorted(first[:n]) == sorted(first[n : 2 * n]) == listed
    assert listed != first[:n] != first[n : 2 * n] and first != other


def test_the_list_in_order_and_then_shuffled(index):
    listed = pairs_of(identical_episodes(PRESETS['canet'], index, fold=1))
    first, other = (
        pairs_of(episodes(PRESETS['canet'], index, fold=1, shot=1, seed=seed)) for seed in (0, 1)
    )
    n = len(listed)
    assert first[:n] == other[:n] == listed
    assert sorted(first[n : 2 * n]) == sorted(first[2 * n : 3 * n]) == listed
    assert listed != first[n : 2 * n] != first[2 * n : 3 * n] and first != other


def test_images_in_order_with_any_class_that_they_show(index):
    """Check that PFENet requires large objects when it lists images, but not when it draws a query's class."""
    image = int(np.flatnonzero(index.pixels[:, 1] > 0)[-1])
    small, pixels = 2, index.pixels.copy()
    pixels[image, small] = 2047
    index = dataclasses.replace(index, pixels=pixels)
    drawn = episodes(PRESETS['pfenet'], index, fold=0, shot=1, seed=321)
    images = np.flatnonzero(index.lists['val'] & (pixels[:, 1:6] >= 2048).any(1)).tolist()
    assert [e.query for e in drawn] == [images[i % len(images)] for i in range(5000)]
    found = {e.class_id for e in drawn if e.query == image}
    assert len(found) == 2 and small in found
    assert all((e.pair == -1) == ((e.query, e.class_id) == (image, small)) for e in drawn)
    assert not any(e.supports == (image,) and e.class_id == small for e in drawn)


def test_classes_at_random(index):
    counts = np.bincount(
        [e.class_id for e in episodes(PRESETS['panet'], index, fold=0, shot=1, seed=1234)]
    )[1:]
    assert len(counts) == 5 and 150 < counts.min() < counts.max() < 250
    assert counts.tolist() != [200] * 5


def test_unknown_protocol():
    with pytest.raises(
        ValueError, match="protocol must be one of simpropnet, canet, .*, got 'pfnet'"
    ):
        get_protocol('pfnet')
