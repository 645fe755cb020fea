"""The jitted, sharded, cached evaluation against one episode at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.episodes.loader import image_batches, own_labels
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.evaluator import Evaluator, evaluate
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.evaluation.external.scoring import resized
from simpropnet_jax.models.layers import masked_average, resize_mask
from simpropnet_jax.models.method import FewShotMethod
from simpropnet_jax.ops.resize import resize_bilinear
from tests.fakes import fake_source

SIZE, CLASSES = 41, (1, 2, 3)
COMMON = dict(classes=CLASSES, convention='torchvision', batch=6)
encoded_images, seen_supports = [], []


class Tiny(FewShotMethod):
    """One strided convolution, distance to foreground and background averages; features are a pytree."""

    watched: bool = False

    def setup(self):
        self.conv = nn.Conv(4, (9, 9), strides=8, padding=4)

    def encode(self, images, train=False):
        if self.watched:
            jax.debug.callback(
                lambda x: encoded_images.extend(np.asarray(x).sum((1, 2, 3))), images
            )
        x = self.conv(images)
        return {'fine': x, 'coarse': nn.avg_pool(x, (3, 3), (1, 1), 'SAME')}

    def probe_each(self, features, masks, valid):
        size = features['fine'].shape[-3:-1]
        weights = resize_mask(jnp.stack([(1 - masks) * valid, masks * valid]), size)
        if self.watched:
            jax.debug.callback(lambda x: seen_supports.extend(np.asarray(x).sum((1, 2, 3))), masks)
        return [masked_average(features['fine'], w) for w in weights]

    def decode(self, features, probe, train=False):
        x = features['fine'] + 0.1 * features['coarse']
        return jnp.stack([-jnp.square(x - p[:, None, None]).sum(-1) for p in probe], -1)


@pytest.fixture(scope='module')
def source():
    return fake_source(n=24, classes=3, size=(40, 57))


@pytest.fixture(scope='module')
def variables():
    return Tiny().init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE)))


@pytest.fixture(scope='module')
def episodes(source):
    """20 and 17 one-shot, 11 three-shot: no number is a multiple of the batch. Sets share episodes."""
    rng = np.random.default_rng(0)

    def draw(shot, n):
        result = []
        for i in range(n):
            class_id = CLASSES[i % 3]
            query, *supports = rng.permutation(np.flatnonzero(source.index.pixels[:, class_id]))[
                : shot + 1
            ]
            result.append(Episode(int(query), tuple(int(s) for s in supports), class_id, 0))
        return result

    first = draw(1, 20)
    return {(1, 0): first, (1, 7): draw(1, 9) + first[:8], (3, 0): draw(3, 11)}


def devices(n):
    return jax.make_mesh((n,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:n])


def binary(label, c, void):
    return np.where(label == 255, 255 if void == 'ignore' else 0, label == c)


def segment_one(variables, source, e, void):
    """Return an episode's logits [h, w, 2] and its query's label, every image read and encoded again."""
    module, numbers = Tiny(), [e.query, *e.supports]
    loaded = next(image_batches(source, numbers, size=SIZE, batch=len(numbers), backend='threads'))
    features = module.apply(variables, normalise(loaded['image'], 'torchvision'), method='encode')
    label = binary(loaded['label'], e.class_id, void)
    masks, valid = jnp.float32(label[None, 1:] == 1), jnp.float32(label[None, 1:] != 255)
    supports = jax.tree.map(lambda f: f[None, 1:], features)
    probe = module.apply(variables, supports, masks, valid, method='probe')
    query = jax.tree.map(lambda f: f[:1], features)
    return module.apply(variables, query, probe, method='decode'), loaded['label'][0]


def one_at_a_time(variables, source, listed, void, label_size):
    """Return the episodes' totals: logits of both classes resized per image."""
    result = []
    for e in listed:
        logits, truth = segment_one(variables, source, e, void)
        if label_size == 'own':
            truth = own_labels(source, [e.query])[0]
        truth = binary(truth, e.class_id, void)
        logits = np.asarray(resize_bilinear(logits, truth.shape))
        result.append(metrics.counts(logits[..., 1] > logits[..., 0], truth[None].astype(np.uint8)))
    counts = metrics.Counts(*(np.concatenate(x) for x in zip(*result, strict=True)))
    return metrics.accumulate(counts, [e.class_id for e in listed], CLASSES)


def assert_close(result, totals):
    """Check equality, except for pixels with two logits that differ by rounding: a few in 10,000."""
    assert result['miou'] == pytest.approx(metrics.miou(totals), abs=2e-4)
    assert result['fb_iou'] == pytest.approx(metrics.fb_iou(totals), abs=2e-4)
    np.testing.assert_allclose(
        list(result['per_class'].values()), metrics.class_iou(totals), atol=4e-4
    )


@pytest.mark.parametrize('n_devices', [1, 8])
@pytest.mark.parametrize('void', ['ignore', 'background'])
def test_equals_one_episode_at_a_time(source, variables, episodes, n_devices, void):
    result = evaluate(
        Tiny(),
        variables,
        source,
        episodes,
        size=SIZE,
        mesh=devices(n_devices),
        void=void,
        backend='threads',
        **COMMON,
    )
    assert {s: r['episodes'] for s, r in result['shots'].items()} == {
        '1': {'0': 20, '7': 17},
        '3': {'0': 11},
    }
    assert result['shots']['1']['distinct_episodes'] < 30
    for (shot, seed), listed in episodes.items():
        for label_size in ('square', 'own'):
            totals = one_at_a_time(variables, source, listed, void, label_size)
            assert 0.05 < metrics.miou(totals) < 0.95
            assert_close(result['shots'][str(shot)][label_size]['seeds'][str(seed)], totals)


def test_of_two_classes_the_higher_score_wins(source, variables):
    """As in `simpropnet segment`; a class counts where the query shows it (tests/evaluation/test_callables.py)."""
    rng, listed = np.random.default_rng(1), []
    showing = {c: np.flatnonzero(source.index.pixels[:, c]) for c in CLASSES}
    for i in range(7):
        query = int(showing[CLASSES[i % 3]][0])
        for c in rng.permutation([CLASSES[i % 3], CLASSES[(i + 1) % 3]]):
            support = rng.choice(showing[c])
            listed.append(Episode(query, (int(support),), int(c), 0))
    bank = load_bank(source, {(1, 0): listed}, size=SIZE, backend='threads')
    evaluator = Evaluator(Tiny(), bank, {(1, 0): listed}, mesh=devices(1), ways=2, **COMMON)
    result = evaluator.run(variables)['shots']['1']
    assert result['episodes'] == {'0': 7} and len(evaluator.episode_counts[1].query) == 14
    found = [segment_one(variables, source, e, 'ignore') for e in listed]
    maps = [np.asarray(logits[0, ..., 1] - logits[0, ..., 0]) for logits, _ in found]
    for size in ('square', 'own'):
        counts = []
        for i in range(0, 14, 2):
            truth = own_labels(source, [listed[i].query])[0] if size == 'own' else found[i][1]
            a, b = (resized(one, truth.shape) for one in maps[i : i + 2])
            predicted = np.where(np.maximum(a, b) > 0, np.where(a >= b, 1, 2), 0)
            numbers = np.select([truth == e.class_id for e in listed[i : i + 2]], [1, 2])
            numbers[truth == 255] = 255
            counts.append(metrics.counts_by_class(predicted[None], numbers[None], 2))
        flat = metrics.Counts(*(np.concatenate(x).reshape(-1) for x in zip(*counts, strict=True)))
        assert_close(result[size], metrics.accumulate(flat, [e.class_id for e in listed], CLASSES))


def test_each_image_is_encoded_and_each_support_looked_at_once_for_all_shots_and_seeds(
    source, variables, episodes
):
    encoded_images.clear(), seen_supports.clear()
    only = {'label_sizes': ('square',)}
    bank = load_bank(source, episodes, size=SIZE, backend='threads', **only)
    Evaluator(Tiny(watched=True), bank, episodes, mesh=devices(1), **only, **COMMON).run(variables)
    jax.effects_barrier()
    used = {n for listed in episodes.values() for e in listed for n in (e.query, *e.supports)}
    assert list(bank.numbers) == sorted(used)
    assert len(np.unique(encoded_images)) == len(used)
    assert len(encoded_images) == -(-len(used) // 6) * 6  # the last batch is filled up
    supports = {(n, e.class_id) for listed in episodes.values() for e in listed for n in e.supports}
    assert (
        len(seen_supports)
        == -(-len(supports) // 6) * 6
        < sum(len(e.supports) for s in episodes.values() for e in s)
    )


def test_later_runs_do_not_compile_and_follow_the_weights(source, variables, episodes):
    bank = load_bank(source, episodes, size=SIZE, backend='threads')
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), **COMMON)
    first = evaluator.run(variables)
    other = jax.tree.map(lambda x: x[..., ::-1] * 0.5 + 0.01, variables)
    second = evaluator.run(other)
    assert (
        evaluator.score._cache_size() == 2 and evaluator.encode._cache_size() == 1
    )  # 1-shot and 3-shot
    assert second['shots']['1']['own']['miou'] != first['shots']['1']['own']['miou']
    assert evaluator.run(variables)['shots'] == first['shots']


@pytest.mark.parametrize(('fit', 'group'), [(15, 5), (22, 6)])
def test_little_memory_is_enough(source, variables, episodes, fit, group):
    """A third of the images that fit is a group, in whole batches of six: same counts, masks in the same order."""
    bank = load_bank(source, episodes, size=SIZE, backend='threads')
    whole = Evaluator(Tiny(), bank, episodes, mesh=devices(2), **COMMON)
    room = fit * 6 * 6 * 8 * 4 / 2**30  # GiB of 'fine' and 'coarse', 6 x 6 x 4 float32 each
    limited = Evaluator(Tiny(), bank, episodes, mesh=devices(2), memory=room, **COMMON)
    seen, held = [], []
    expected = whole.run(variables)['shots']

    def progress(what, done, total):
        seen.append((what, done, total))
        held.append(
            sum(array.nbytes for array in jax.live_arrays() if array.shape[1:] == (6, 6, 4))
        )

    assert limited.run(variables, progress)['shots'] == expected
    assert max(held) == held[0] > 0  # of one group: it is gone before the next is encoded
    assert max(total for what, _, total in seen if what == 'encode images') == group
    assert sum(
        done for what, done, total in seen if what == 'encode images' and done == total
    ) <= 3 * len(bank.numbers)
    assert limited.encode._cache_size() == 1 and limited.score._cache_size() == 2
    for one, other in zip(limited.predict(variables), whole.predict(variables), strict=True):
        assert one[:2] == other[:2]
        np.testing.assert_array_equal(one[2], other[2])


def test_progress_reaches_the_total_of_each_stage(source, variables, episodes):
    seen = {}

    def progress(what, done, total):
        return seen.update({what: (done, total)})

    evaluate(
        Tiny(),
        variables,
        source,
        episodes,
        size=SIZE,
        mesh=devices(1),
        label_sizes=('square',),
        backend='threads',
        progress=progress,
        **COMMON,
    )
    assert list(seen) == [
        'load images',
        'encode images',
        'probe supports',
        '1-shot episodes',
        '3-shot episodes',
    ]
    assert all(done == total for done, total in seen.values())


def test_the_query_may_be_its_own_support(source, variables):
    """The papers' identical-input test."""
    images = [int(np.flatnonzero(source.index.pixels[:, c])[0]) for c in CLASSES]
    same = [Episode(image, (image,), c, 0) for image, c in zip(images, CLASSES, strict=True)]
    settings = COMMON | {'size': SIZE, 'mesh': devices(1), 'backend': 'threads'}
    result = evaluate(Tiny(), variables, source, {(1, 0): same}, **settings)
    assert_close(
        result['shots']['1']['own'], one_at_a_time(variables, source, same, 'ignore', 'own')
    )


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'void': 'skip'}, "void must be 'ignore' or 'background', got 'skip'"),
        ({'label_sizes': ('square', 'big')}, "label_sizes must be 'square', 'own' or both"),
        ({'label_sizes': ('own',)}, "loaded without the labels' own sizes"),
        ({'batch': 0}, 'batch must be at least 1, got 0'),
        (
            {'refinement': 'often'},
            "refinement must be 'fixed', 'until_drop' or a whole number as text, got 'often'",
        ),
        ({'classes': (1, 2, 3, 4)}, r'1-shot set of seed 0 has no episode of the classes \[4\]'),
        ({'episodes': {(1, 0): []}}, 'there is no episode'),
        (
            {'episodes': {(5, 2): [Episode(0, (1,), 1, 0)]}},
            'set of seed 2 has an episode with 1 supports',
        ),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_compiled(source, episodes, change, message):
    bank = load_bank(source, episodes, size=SIZE, label_sizes=('square',), backend='threads')
    arguments = (
        COMMON | {'episodes': episodes, 'label_sizes': ('square',), 'mesh': devices(1)} | change
    )
    with pytest.raises(ValueError, match=message):
        Evaluator(Tiny(), bank, **arguments)
    with pytest.raises(ValueError, match='image 999 of an episode is not in the image bank'):
        bank.positions(np.array([int(bank.numbers[0]), 999]))
