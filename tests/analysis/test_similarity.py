"""Similarity of regions by hand: masked averages, cosines, pairs, the ratio of errors to objects, backgrounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import background as background_config
from simpropnet_jax.analysis import background, similarity
from simpropnet_jax.backbones import extractor as features
from simpropnet_jax.backbones.extractor import Extractor, load_extractor
from simpropnet_jax.backbones.resnet import parameter_shapes
from simpropnet_jax.backbones.weights import Backbone
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.protocols import PRESETS
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.external.predictors import Predictor
from simpropnet_jax.ops.resize import resize_bilinear
from tests.fakes import decoded, fake_source, records_of


def vector(*values):
    return np.array(values, np.float64)


@pytest.fixture(scope='module')
def source():
    """Twelve images of every class of folds 0 and 1 on the val list."""
    drawn = fake_source(n=120, classes=10)
    return Source('drawn', drawn.index, records_of(drawn))


def colours(images):
    """Features: the colours themselves, every eighth pixel."""
    return jnp.asarray(images[:, ::8, ::8], jnp.float32)


EXTRACTOR = Extractor('colours', 'colours', colours)


def test_a_masked_average_is_that_of_the_features_resized_to_the_mask():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(5, 4, 3)).astype(np.float32), rng.random((31, 22)) > 0.7
    resized = np.asarray(resize_bilinear(jnp.asarray(values[None]), mask.shape)[0])
    np.testing.assert_allclose(
        similarity.masked_average(values, mask), resized[mask].mean(0), atol=1e-5
    )
    assert not similarity.masked_average(values, np.zeros((31, 22), bool)).any()


def test_cosine():
    assert similarity.cosine(vector(3, 4), vector(4, 3)) == pytest.approx(24 / 25)
    assert np.isnan(similarity.cosine(vector(0, 0), vector(4, 3)))


def test_pairs_are_of_one_class_and_none_comes_twice():
    images = {3: [5, 6, 7, 8, 9], 7: [1, 2, 2], 9: range(20)}
    found = similarity.same_class_pairs(images, 23)
    assert len(set(found)) == len(found) == 8 + 1 + 7  # of class 7 there is one
    assert all(a < b and {a, b} <= set(images[c]) for c, a, b in found)
    assert (
        found
        == similarity.same_class_pairs(images, 23)
        != similarity.same_class_pairs(images, 23, seed=1)
    )
    assert len(similarity.same_class_pairs(images, 10**6)) == 10 + 1 + 190


def test_ratios_and_the_rule_that_skips():
    keys = [(2, n) for n in range(4)]
    truth = dict(zip(keys, [vector(1, 0), vector(1, 1), vector(0, 1), vector(1, 0)], strict=True))
    error = dict(zip(keys, [vector(0, 2), vector(3, 4), vector(1, 1), vector(0, 0)], strict=True))
    vectors = {key: {'truth': truth[key], 'error': error[key]} for key in keys}
    pixels = {(2, 0): 100, (2, 1): 100, (2, 2): 99, (2, 3): 500}
    pairs = [(2, 0, 1), (2, 0, 2), (2, 1, 2), (2, 0, 3)]
    found, skipped, undefined = similarity.error_ratios(pairs, vectors, pixels, min_pixels=100)
    assert found == [(2, pytest.approx(4 / 5), pytest.approx(np.sqrt(0.5)))]
    assert skipped == 2  # image 2 has a pixel too few
    assert undefined == 1  # the masked average of image 3's errors is zero
    found, skipped, undefined = similarity.error_ratios(pairs, vectors, pixels, min_pixels=1)
    assert (
        len(found) == 2 and skipped == 0 and undefined == 2
    )  # of images 0 and 2, the objects have nothing in common


@pytest.fixture
def predictor_of(source):
    """predictor_of(mask): the val images with a bus or a car as queries, class ids 6 and 7; of image 0 twice."""
    val = np.flatnonzero(source.index.lists['val'])
    episodes = [
        Episode(int(n), (int(n),), c, -1) for c in (6, 7) for n in val if source.index.pixels[n, c]
    ]
    episodes.append(episodes[0])

    def make(mask):
        def predict():
            for number, episode in enumerate(episodes):
                yield (
                    (1, 0),
                    number,
                    mask(decoded(source.example(episode.query)[1]), episode.class_id, number),
                )

        return Predictor('drawn', source, 1, PRESETS['hsnet'], episodes, predict, {'path': None})

    return make


def test_errors_on_the_object_are_as_alike_as_objects(predictor_of):
    """Nothing is predicted, so that the errors are the objects; the second prediction of an image does not count."""

    def last(number):
        return number == 24

    predictor = predictor_of(lambda label, c, number: np.full(label.shape, last(number)))
    assert len(predictor.episodes) == 25
    record = similarity.measure(
        [predictor], EXTRACTOR, size=65, pairs=100, min_pixels=1, backend='threads'
    )
    assert record['ratio'] == {
        'mean': pytest.approx(1),
        'std': pytest.approx(0, abs=1e-9),
        'pairs': 100,
    }
    assert (
        record['per_class'].keys() == {'bus', 'car'}
        and record['skipped'] == 0
        and record['drawn'] == 100
    )
    cells = {
        line.split('  ')[0]: line.split()[-5:] for line in similarity.table(record).splitlines()
    }
    assert cells['drawn'] == [
        '1.00',
        '0.00',
        '100',
        *(f'{record["cosine"][name]:.2f}' for name in ('error', 'truth')),
    ]
    assert cells['CANet, the papers'] == ['0.87', '0.25', '1000', '-', '-']


def test_errors_elsewhere_are_not_and_void_is_no_error(predictor_of):
    """The object is found, and the lower quarter, gray in all images, is added. Void is predicted, too."""

    def mask(label, class_id, number):
        added = np.arange(label.shape[0])[:, None] >= label.shape[0] * 3 // 4
        return (label == class_id) | (label == 255) | added

    predictor = predictor_of(mask)
    regions = similarity.mispredicted([predictor])
    assert len(regions) == 24
    for segmented in list(predictor)[:3]:
        found = regions[segmented.episode.class_id, segmented.episode.query]
        np.testing.assert_array_equal(found['error'], (segmented.label == 0) & segmented.prediction)
        np.testing.assert_array_equal(found['truth'], segmented.label == 1)
    record = similarity.measure([predictor], EXTRACTOR, size=65, pairs=60, backend='threads')
    assert record['cosine']['error'] > 0.99
    with pytest.raises(
        ValueError, match='no pair of 60 has 1000000 mispredicted pixels in both images'
    ):
        similarity.measure(
            [predictor], EXTRACTOR, size=65, pairs=60, min_pixels=10**6, backend='threads'
        )


def test_objects_and_backgrounds_by_class_by_hand():
    vectors = {
        (1, 0): {'object': vector(1, 0), 'background': vector(1, 1)},
        (1, 1): {'object': vector(3, 4), 'background': vector(2, 2)},
        (1, 2): {'object': vector(0, 1), 'background': vector(0, 0)},  # it is all object
    }
    pairs = [(1, 0, 1), (1, 0, 2), (1, 1, 2)]
    assert background.class_similarity(pairs, vectors) == {
        1: {'object': pytest.approx(3 / 5), 'background': pytest.approx(1), 'pairs': 1}
    }


def test_the_table_and_the_bars_of_a_data_set(source, tmp_path):
    """Ten of twenty classes are drawn; an object is all of one colour, and a background of others and gray."""
    config = background_config.get_config()
    config.update_from_flattened_dict({'pairs': 200, 'features.size': 65, 'data.loader': 'threads'})
    background.check(config, tmp_path / 'b.png')
    record = background.measure(config, EXTRACTOR, source)
    assert record['drawn'] == 200 and len(record['per_class']) == 10
    assert all(one['pairs'] == 20 for one in record['per_class'].values())
    bus, index = record['per_class']['bus'], source.index
    numbers = np.flatnonzero(index.lists['val'] & (index.hits[:, 6] > 2))
    regions = {(6, n): {'object': decoded(source.example(n)[1]) == 6} for n in numbers.tolist()}
    vectors = similarity.region_vectors(source, regions, EXTRACTOR, 65, backend='threads')
    drawn = similarity.same_class_pairs(
        {
            c: np.flatnonzero(index.lists['val'] & (index.hits[:, c] > 2)).tolist()
            for c in range(1, 11)
        },
        200,
    )
    expected = [
        similarity.cosine(vectors[6, a]['object'], vectors[6, b]['object'])
        for c, a, b in drawn
        if c == 6
    ]
    assert bus['object'] == pytest.approx(np.mean(expected))
    background.draw(record, tmp_path / 'figures' / 'b.png')
    assert (tmp_path / 'figures' / 'b.png').stat().st_size > 5000
    text = background.table(record)
    assert f'in {record["more_alike"]} of 10 classes (SimPropNet, Figure 3: 20 of 20)' in text
    assert (
        next(line for line in text.splitlines() if line.startswith('bus ')).split()[1]
        == f'{bus["object"]:.3f}'
    )
    with pytest.raises(ValueError, match='--out must end in .png, .pdf or .svg'):
        background.check(config, tmp_path / 'b.txt')
    config.data.loader = 'none'
    with pytest.raises(
        ValueError, match="config.data.loader must be 'auto', 'tfdata' or 'threads', got 'none'"
    ):
        background.check(config, tmp_path / 'b.png')


def test_levels_of_a_network_stand_one_after_the_other(monkeypatch):
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(stride_on='1x1', width=4)
    params = jax.tree.map(
        lambda shape: rng.normal(0, 0.2, shape).astype(np.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
    monkeypatch.setattr(
        features, 'load_backbone', lambda path, width: Backbone(params, 'keras', 'drawn')
    )
    images = rng.integers(0, 256, (1, 33, 33, 3), dtype=np.uint8)
    extractor = load_extractor('resnet50', 'drawn', 4, ('layer2', 'layer3'))
    last = load_extractor('resnet50', 'drawn', 4)
    assert extractor.source == 'layer2+layer3 of resnet50, drawn' and last.source.startswith(
        'layer3 of ResNet-50'
    )
    both, alone = extractor(images), last(images)
    assert both.shape == (1, 5, 5, 32 + 64)
    np.testing.assert_allclose(both[..., 32:], alone, rtol=1e-5)
    with pytest.raises(
        ValueError, match='of resnet50 must be among layer1, layer2, layer3, got layer4'
    ):
        load_extractor('resnet50', 'drawn', 4, ('layer4',))
    with pytest.raises(ValueError, match='layer1, layer2 of resnet50 have different strides'):
        load_extractor('resnet50', 'drawn', 4, ('layer1', 'layer2'))
