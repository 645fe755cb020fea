"""H-PASCAL-5i by hand: who is easy, who is small, who supports whom, and a file that cannot be changed unnoticed."""

import json
import re

import numpy as np
import pytest

from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes import hpascal, hpascal_file
from simpropnet_jax.episodes.hpascal import (
    PARTITIONS,
    Parameters,
    difficulty,
    size_class,
    split_class,
    supports,
)

HALVES = Parameters(rule='halves', supports=2, episodes=6, cell=1, partition=2)
FOUND = {
    'oracle': {'folder': 'masks', 'miou': 0.41349, 'images': 12, 'listed': 12, 'weak': True},
    'features': {
        'network': 'resnet50',
        'layer': 'layer3 of ResNet-50',
        'source': 'layer3, a.h5',
        'size': 33,
    },
}


def test_an_index_names_the_three_halvings():
    assert (
        PARTITIONS['L0'] == (0, 0, 0)
        and PARTITIONS['L3'] == (0, 1, 1)
        and PARTITIONS['L6'] == (1, 1, 0)
    )
    assert (
        hpascal.describe('L1') == 'easy, large, dissimilar'
        and hpascal.describe('L6') == 'hard, small, similar'
    )


def test_the_box_is_around_all_pixels_of_the_class():
    label = np.zeros((10, 20), np.uint8)
    label[2, 3] = label[5, 12] = 7
    label[9, 19] = 8
    assert hpascal.bounding_box_share(label, 7) == 4 * 10 / 200


# mean 0.5, population standard deviation 0.25: only what is beyond 0.25 and 0.75 counts, not what is at them
SIGMA = [0.25, 0.25, 0.75, 0.75], [-1, -1, -1, -1]
WIDE = [0.0, 0.5, 0.5, 0.5, 0.5, 1.0], [1, -1, -1, -1, -1, 0]
# 0.16 of 13 is 2 at either end; of 3 equals at an end all are in
QUANTILE = [0, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 1, 1] + [-1] * 8 + [0, 0]


@pytest.mark.parametrize(
    ('rule', 'values', 'levels'),
    [
        ('sigma', *SIGMA),
        ('sigma', *WIDE),
        ('quantile', *QUANTILE),
        ('quantile', [1.0, 2.0], [1, 0]),
        ('halves', [1, 2, 3, 4], [1, 1, 0, 0]),
        ('halves', [1, 2, 3, 4, 5], [1, 1, 1, 0, 0]),
        ('halves', [0, 0, 0, 1], [1, 1, 1, 0]),
        ('halves', [0, 1, 1, 1], [1, 0, 0, 0]),
        *(
            (rule, values, [-1] * len(values))
            for rule in hpascal.RULES
            for values in ([0.1] * 3, [0.7], [])
        ),
    ],
)
def test_levels(rule, values, levels):
    values = np.array(values, float)
    assert difficulty(values, rule, Parameters()).tolist() == levels
    assert size_class(values, rule, Parameters()).tolist() == levels


def test_a_rule_that_leaves_too_few_gives_way_to_the_next():
    scores = np.array(
        [0.99] * 20 + [0.5] * 4
    )  # mean 0.91, deviation 0.18: none is easy by one sigma
    sizes = np.tile([0.1, 0.2, 0.3, 0.4], 6)
    assert difficulty(scores, 'sigma', Parameters()).max() == 1 and 0 not in difficulty(
        scores, 'sigma', Parameters()
    )
    split = split_class(scores, sizes, Parameters(cell=2))
    # by 'quantile' all 20 equals are easy, 4 hard; one sigma leaves one large and one small of the hard
    assert (split.difficulty_rule, split.size_rule) == ('quantile', 'halves')
    assert hpascal.cell_counts(split.hard, split.small) == {
        'easy large': 10,
        'easy small': 10,
        'hard large': 2,
        'hard small': 2,
    }
    literal = split_class(scores, sizes, Parameters(cell=0))
    assert (literal.difficulty_rule, literal.size_rule) == ('sigma', 'sigma')


def test_supports_are_ranked_and_never_both_similar_and_dissimilar():
    distances = np.array([0.0, 3.0, 1.0, 2.0, 2.0, 9.0])
    others = np.array([1, 2, 3, 4])
    assert supports(distances, others, 2, False).tolist() == [
        2,
        3,
    ]  # of the equals 3 and 4 the first
    assert supports(distances, others, 2, True).tolist() == [1, 3]
    assert supports(distances, others, 5, False).tolist() == [2, 3]  # half of four
    assert supports(distances, np.array([5, 2, 1]), 5, True).tolist() == [5]


@pytest.fixture
def twelve():
    """Twelve images of one class: 0-5 easy, 6-11 hard; in either, three large and three small; on a line by number."""
    pairs = Pairs(np.arange(12, dtype=np.int32), np.full(12, 3, np.int32))
    scores = np.r_[np.full(6, 0.9), np.full(6, 0.2)]
    sizes = np.tile([0.8, 0.8, 0.8, 0.1, 0.1, 0.1], 2)
    place = np.arange(12.0)
    return pairs, scores, sizes, np.abs(place[:, None] - place)


def test_partitions(twelve):
    splits, found = hpascal.partitions(*twelve, HALVES)
    assert splits[3].difficulty_rule == splits[3].size_rule == 'halves'
    assert list(found) == [f'L{i}' for i in range(8)]
    queries = {name: sorted({e.query for e in one.episodes}) for name, one in found.items()}
    assert queries == {
        'L0': [0, 1, 2],
        'L1': [0, 1, 2],
        'L2': [3, 4, 5],
        'L3': [3, 4, 5],
        'L4': [6, 7, 8],
        'L5': [6, 7, 8],
        'L6': [9, 10, 11],
        'L7': [9, 10, 11],
    }
    for name, one in found.items():
        assert one.queries == {3: 3} and len(one.episodes) == 6
        for e in one.episodes:
            assert e.class_id == 3 and e.pair == e.query and e.query not in e.supports
            assert {twelve[2][s] for s in e.supports} == {twelve[2][e.query]}, (
                name
            )  # of the query's size

    first = {e.query: e.supports for e in found['L0'].episodes[:3]}
    assert first == {0: (1, 2), 1: (0, 2), 2: (1, 0)}  # the nearest large ones, of any difficulty
    assert {e.query: e.supports for e in found['L0'].episodes[3:]} == {
        0: (2, 1),
        1: (2, 0),
        2: (0, 1),
    }
    assert {e.query: e.supports for e in found['L1'].episodes[:3]} == {
        0: (8, 7),
        1: (8, 7),
        2: (8, 7),
    }
    assert [e.query for e in found['L0'].episodes] == [
        e.query for e in found['L1'].episodes
    ]  # paired
    assert hpascal.partitions(*twelve, HALVES)[1] == found


def test_a_partition_with_few_queries_is_empty_and_a_class_that_cannot_be_split_has_none(
    twelve, caplog
):
    pairs, scores, sizes, distances = twelve
    with caplog.at_level('WARNING'):
        _, found = hpascal.partitions(
            *twelve, Parameters(rule='halves', cell=1, partition=4), fold=2
        )
    assert all(one.episodes == [] and one.queries == {3: 3} for one in found.values())
    assert (
        'fold 2, L3 (easy, small, dissimilar) is empty: it has 3 queries, fewer than 4'
        in caplog.text
    )
    pairs = Pairs(pairs.image, np.r_[np.full(10, 3, np.int32), [5, 5]].astype(np.int32))
    _, found = hpascal.partitions(pairs, scores, sizes, distances, HALVES)
    assert {
        class_id for one in found.values() for class_id, count in one.queries.items() if count
    } == {3}


def test_a_fallback_is_said_with_what_it_leaves(twelve, caplog):
    with caplog.at_level('INFO'):
        hpascal.partitions(*twelve, Parameters(cell=3, partition=1))
    said = 'bird: difficulty by quantile, size by quantile, because sigma leaves too few queries; now 3 easy large, '
    assert said in caplog.text


@pytest.fixture
def file(twelve, tmp_path):
    pairs, scores, sizes, _ = twelve
    ids = [f'2007_{i:06d}' for i in range(12)]
    parameters = Parameters(rule='halves', supports=2, episodes=6, cell=1, partition=2)
    fold = hpascal_file.fold_record(
        pairs, (2, 3), scores, sizes, *hpascal.partitions(*twelve, parameters), ids
    )
    facts = {'data': 'drawn', 'image_list': 'val', 'tiny_rule': 'none', **FOUND}
    hpascal_file.write(tmp_path / 'h.json', parameters, {0: fold}, **facts)
    return tmp_path / 'h.json', ids


def test_the_file_gives_back_the_episodes_whatever_the_numbers_of_the_images(twelve, file):
    path, ids = file
    _, found = hpascal.partitions(*twelve, HALVES)
    record = hpascal_file.read(path)
    assert record['data'] == 'drawn' and record['parameters']['rule'] == 'halves'
    facts = record['folds']['0']['classes']
    assert facts['bicycle'] == {'pairs': 0} and facts['bird']['pairs'] == 12
    assert facts['bird']['difficulty'] == {'rule': 'halves', 'hard_to': 0.2, 'easy_from': 0.9}
    assert facts['bird']['cells']['hard small'] == 3
    back = hpascal_file.episodes(record, 0, ids, shot=2)
    protocol = hpascal_file.protocol(record, back, 0, 'ignore')
    assert (protocol.name, protocol.tiny_rule, protocol.episodes, protocol.resolution) == (
        'hpascal',
        'none',
        48,
        321,
    )
    assert {
        name: [e._replace(pair=-1) for e in one.episodes] for name, one in found.items()
    } == back
    others = ['2007_a', *ids]
    assert hpascal_file.episodes(record, 0, others)['L0'][0].query == back['L0'][0].query + 1
    assert len(hpascal_file.episodes(record, 0, others)['L0'][0].supports) == 1


def test_what_the_file_cannot_give_is_said_in_one_sentence(file):
    path, ids = file
    record = hpascal_file.read(path)
    with pytest.raises(ValueError, match='has the folds 0, not 1'):
        hpascal_file.episodes(record, 1, ids)
    with pytest.raises(ValueError, match='L0 of fold 0 has queries with 2 supports, not 3'):
        hpascal_file.episodes(record, 0, ids, shot=3)
    with pytest.raises(ValueError, match='has an image 2007_000000, which the data set lacks'):
        hpascal_file.episodes(record, 0, ids[1:])
    for partition in record['folds']['0']['partitions'].values():
        partition['episodes'] = []
    with pytest.raises(
        ValueError, match='all partitions of fold 0 in the H-PASCAL-5i file are empty'
    ):
        hpascal_file.episodes(record, 0, ids)


@pytest.mark.parametrize(
    ('damage', 'sentence'),
    [
        (
            lambda text: text.replace('3 2007_000001', '3 2007_000002', 1),
            'is damaged or was changed by hand',
        ),
        (lambda text: text[:100], 'is damaged: it is not JSON'),
        (lambda text: json.dumps({'format': 1}), 'is not an H-PASCAL-5i file'),
        (
            lambda text: re.sub('"format": 2', '"format": 1', text),
            'has format 1, of another version, not 2: build it',
        ),
    ],
)
def test_a_damaged_file_is_refused(file, damage, sentence):
    path, _ = file
    changed = damage(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(ValueError, match=f'{path.name} {sentence}'):
        hpascal_file.read(path)


def test_the_oracle_and_the_features_are_labelled_where_they_are_not_the_papers():
    weak = 'Oracle masks, val mIoU 41.3 %: a weak oracle. Similarity by layer3 of ResNet-50 (the paper: ResNet-101).\n'
    assert hpascal_file.basis(FOUND) == weak
    good = FOUND['oracle'] | {'miou': 0.7, 'images': 9, 'weak': False}
    papers = FOUND['features'] | {'network': 'resnet101', 'layer': 'layer4 of ResNet-101'}
    assert hpascal_file.basis({'oracle': good, 'features': papers}) == (
        'Oracle masks, val mIoU 70.0 % on 9 of 12 images. Similarity by layer4 of ResNet-101.\n'
    )


@pytest.mark.parametrize(
    'change', [{'rule': 'thirds'}, {'share': 0.5}, {'episodes': 0}, {'cell': -1}]
)
def test_parameters_out_of_range_are_named(change):
    with pytest.raises(ValueError, match=f'{next(iter(change))} must be .*, got'):
        Parameters(**change)
