"""Folds, the label index and the rules that turn it into pairs."""

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.datasets.folds import CLASS_NAMES, base_classes, novel_classes
from simpropnet_jax.datasets.index import TINY_RULES, Index, counts, listed_pairs


def test_folds_split_the_twenty_classes():
    assert [CLASS_NAMES[c] for c in novel_classes(1)] == ['bus', 'car', 'cat', 'chair', 'cow']
    assert sorted(c for fold in range(4) for c in novel_classes(fold)) == list(range(1, 21))
    for fold in range(4):
        assert sorted(novel_classes(fold) + base_classes(fold)) == list(range(1, 21))


def test_wrong_fold_is_one_plain_sentence():
    with pytest.raises(
        ValueError, match=r'^fold must be 0, 1, 2 or 3, got 4 \(PASCAL-5i .* split-4\)$'
    ):
        base_classes(4)


@pytest.fixture(scope='module')
def labels() -> dict[str, np.ndarray]:
    """Blocky labels large enough that each rule keeps some pairs and refuses others."""
    rng = np.random.default_rng(3)
    result = {}
    for number in range(60):
        blocks = rng.choice([0, 0, 0, 255, *range(1, 21)], rng.integers(3, 9, 2)).astype(np.uint8)
        result[f'image{number:02}'] = blocks.repeat(rng.integers(12, 40), 0).repeat(
            rng.integers(12, 40), 1
        )
    return result


@pytest.fixture(scope='module')
def index(labels) -> Index:
    names = sorted(labels)
    shuffled = [(name, labels[name]) for name in np.random.default_rng(1).permutation(names)]
    return Index.build(shuffled, {'val': names[:10], 'trainaug': names[10:]})


def expected_pairs(labels, rule, classes, drop=()):
    """The rules as protocols state them, one pixel loop at a time."""
    result = []
    for name in sorted(labels)[10:]:
        label = labels[name]
        if any((label == c).any() for c in drop):
            continue
        for c in sorted(classes):
            mask = label == c
            sampled = sum(
                mask[y, x] for y in range(1, len(mask), 32) for x in range(1, mask.shape[1], 32)
            )
            enough = {'oslsm': sampled > 2, 'px2048': mask.sum() >= 2048, 'none': mask.any()}
            if enough[rule]:
                result.append((name, c))
    return result


@pytest.mark.parametrize('rule', TINY_RULES)
@pytest.mark.parametrize('drop_novel', [False, True])
def test_pairs_match_the_rules_applied_by_hand(index, labels, rule, drop_novel):
    drop = (4,) if drop_novel else ()
    classes = (17, 3, 9, 11, 12)
    pairs = listed_pairs(index, 'trainaug', classes, rule, drop_images_with=drop)
    found = [(index.ids[i], c) for i, c in zip(pairs.image, pairs.class_id, strict=True)]
    assert found == expected_pairs(labels, rule, classes, drop)
    assert 0 < len(found) < len(labels) * len(classes)


def test_tiny_object_rules_at_their_limits():
    label = np.zeros((100, 100), np.uint8)
    label.ravel()[:2048] = 1
    label[60:, :60] = 2  # holds four of the sampled pixels: rows 65 and 97, columns 1 and 33
    label[65, 33] = 0

    def listed(rule, *, without=None):
        changed = label.copy()
        if without:
            changed[without] = 0
        index = Index.build([('a', changed)], {'val': ['a']})
        return listed_pairs(index, 'val', [1, 2], rule).class_id.tolist()

    assert listed('px2048') == [1, 2] and listed('px2048', without=(0, 0)) == [2]
    assert listed('oslsm') == [1, 2] and listed('oslsm', without=(97, 1)) == [1]


def test_saved_index_reads_back_the_same(index, tmp_path):
    index.save(tmp_path / 'index.npz')
    again = Index.load(tmp_path / 'index.npz')
    assert again.ids == index.ids and all(type(i) is str for i in again.ids)
    for field in ('pixels', 'hits', 'height', 'width'):
        np.testing.assert_array_equal(getattr(again, field), getattr(index, field))
        assert getattr(again, field).dtype == np.int32
    assert counts(again) == counts(index)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            ('noval', [1], 'none'),
            r"'noval' is not known .* which has trainaug, val .*dataset/train\.txt",
        ),
        (('test', [1], 'none'), r"'test' is not known for this data, which has trainaug, val$"),
        (('val', [1], 'tiny'), "tiny_rule must be 'oslsm', 'px2048' or 'none', got 'tiny'"),
        (('val', [0], 'none'), 'class id must be 1..20, got 0'),
        (('val', [1], 'none', [21]), 'class id must be 1..20, got 21'),
    ],
)
def test_wrong_choices_are_refused(index, arguments, message):
    with pytest.raises(ValueError, match=message):
        listed_pairs(index, *arguments)


def test_rules_on_real_labels(real_data):
    voc = real_data / 'voc_subset' / 'VOCdevkit' / 'VOC2012'
    ids = (voc / 'ImageSets' / 'Segmentation' / 'val.txt').read_text().split()
    labels = ((i, np.asarray(Image.open(voc / 'SegmentationClassAug' / f'{i}.png'))) for i in ids)
    found = counts(Index.build(labels, {'val': ids}))
    # Counted apart from this code, by a plain loop over the labels.
    assert found['images']['val'] == 523
    assert found['none']['val']['pairs'] == [124, 199, 294, 105]
    assert found['px2048']['val']['pairs'] == [107, 185, 265, 94]
    assert found['oslsm']['val']['pairs'] == [100, 178, 260, 93]
