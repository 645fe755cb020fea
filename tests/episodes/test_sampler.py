"""Training episodes are a pure function of (seed, fold, i)."""

import collections

import numpy as np
import pytest

from simpropnet_jax.datasets.index import Pairs, listed_pairs
from simpropnet_jax.episodes.sampler import TrainSampler
from tests.fakes import fake_source


@pytest.fixture(scope='module')
def pairs():
    return listed_pairs(fake_source(160).index, 'trainaug', range(1, 21), 'oslsm')


def sampler(pairs, **changes):
    return TrainSampler(pairs, **dict(shot=3, seed=0, fold=1, batch=6) | changes)


def skewed_pairs(per_class):
    image = [number for n in per_class for number in range(n)]
    class_id = [c for c, n in enumerate(per_class, start=1) for _ in range(n)]
    return Pairs(np.array(image, np.int32), np.array(class_id, np.int32))


def test_every_pair_is_query_once_an_epoch_in_another_order_each_time(pairs):
    episode = sampler(pairs, batch=10)
    size = episode.steps_per_epoch * 10
    assert size == len(pairs) == 160
    first, second = ([episode(i).pair for i in range(e * size, (e + 1) * size)] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(160))
    assert first != second


def test_remainder_of_an_epoch_is_another_one_each_epoch(pairs):
    episode = sampler(pairs, batch=9)
    assert episode.steps_per_epoch == 17
    used = [{episode(i).pair for i in range(e * 153, (e + 1) * 153)} for e in (0, 1)]
    assert [len(u) for u in used] == [153, 153]
    assert used[0] != used[1]


@pytest.mark.parametrize('order', ['listed_pairs', 'classes'])
def test_supports_are_distinct_other_images_listed_for_the_class(pairs, order):
    episode = sampler(pairs, order=order)
    listed = set(zip(pairs.image.tolist(), pairs.class_id.tolist(), strict=True))
    for e in map(episode, range(400)):
        assert (e.query, e.class_id) == (pairs.image[e.pair], pairs.class_id[e.pair])
        assert len({e.query, *e.supports}) == 4
        assert all((support, e.class_id) in listed for support in e.supports)


@pytest.mark.parametrize('order', ['listed_pairs', 'classes'])
def test_any_episode_is_the_same_from_a_fresh_sampler_in_any_order(pairs, order):
    whole = [sampler(pairs, order=order)(i) for i in range(500)]
    restarted = sampler(pairs, order=order)
    for i in np.random.default_rng(0).permutation(500).tolist():
        assert restarted(i) == whole[i]
    for change in ({'seed': 1}, {'fold': 2}):
        other = sampler(pairs, order=order, **change)
        assert [other(i) for i in range(20)] != whole[:20]


def test_fewer_shots_are_the_first_of_more(pairs):
    one, five = sampler(pairs, shot=1), sampler(pairs, shot=5)
    assert all(one(i).supports == five(i).supports[:1] for i in range(100))


def test_every_other_image_is_drawn_as_support_about_equally():
    episode = TrainSampler(skewed_pairs([6]), shot=1, seed=0, fold=0, batch=6)
    seen = collections.Counter((e.query, *e.supports) for e in map(episode, range(6000)))
    assert len(seen) == 30
    assert 140 < min(seen.values()) and max(seen.values()) < 260


def test_classes_are_even_on_a_skewed_list_where_listed_pairs_follow_it():
    long_tailed = skewed_pairs([100, 10, 4])
    episode = TrainSampler(long_tailed, shot=1, seed=0, fold=0, batch=2, order='classes')
    seen = collections.Counter(episode(i).class_id for i in range(3000))
    assert all(900 < seen[c] < 1100 for c in (1, 2, 3))
    episode = TrainSampler(long_tailed, shot=1, seed=0, fold=0, batch=2)
    seen = collections.Counter(episode(i).class_id for i in range(114))
    assert seen == {1: 100, 2: 10, 3: 4}


def test_impossible_requests_say_what_and_why(pairs):
    with pytest.raises(
        ValueError, match=r'class 2 \(bicycle\) has 3 listed images, 3-shot episodes need 4'
    ):
        sampler(skewed_pairs([9, 3]))
    with pytest.raises(
        ValueError, match='batch must be from 1 to the number of listed pairs, 160, got 161'
    ):
        sampler(pairs, batch=161)
    with pytest.raises(
        ValueError, match="order must be one of listed_pairs, classes, got 'random'"
    ):
        sampler(pairs, order='random')
    with pytest.raises(ValueError, match='shot must be 1 or more, got 0'):
        sampler(pairs, shot=0)
