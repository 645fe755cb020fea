"""The evaluator's other modes, each against one episode at a time, computed with plain NumPy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.augment import scale_crop_flip
from simpropnet_jax.episodes.loader import image_batches, own_labels
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.models.method import FewShotMethod
from simpropnet_jax.models.self_support import confident
from tests.evaluation.test_evaluate import SIZE, Tiny, devices
from tests.fakes import FakeSource, encode, fake_source

CLASSES = (1, 2, 3, 4, 5)
SETTINGS = dict(classes=CLASSES, convention='torchvision', batch=4)
LOADING = dict(size=SIZE, backend='threads')
apply = jax.jit(Tiny().apply, static_argnames='method')
crop = jax.jit(scale_crop_flip, static_argnames='size')


@pytest.fixture(scope='module')
def source():
    return fake_source(n=20, classes=5, size=(40, 57))


@pytest.fixture(scope='module')
def variables():
    return jax.jit(Tiny().init)(
        jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )


@pytest.fixture(scope='module')
def episodes(source):
    """Seven episodes of two shots: no multiple of the batch; two queries are of one class."""
    images = [np.flatnonzero(source.index.pixels[:, c]).tolist() for c in CLASSES]
    drawn = [Episode(i[0], (i[2], i[1]), c, 0) for c, i in zip(CLASSES, images, strict=True)]
    return {
        (2, 0): [
            *drawn,
            *(Episode(i[3], (i[1], i[0]), c, 0) for c, i in zip(CLASSES[:2], images, strict=False)),
        ]
    }


def read(source, number, size):
    """Image u8 [size, size, 3] and label u8 [size, size]."""
    loaded = next(image_batches(source, [number], size=size, batch=1, backend='threads'))
    return loaded['image'][0], loaded['label'][0]


def stretched(x, shape):
    """A map [h, w] resized bilinearly, corners on corners."""
    for axis, n in enumerate(shape):
        positions = np.linspace(0, x.shape[axis] - 1, n)
        x = np.apply_along_axis(
            lambda line, p=positions: np.interp(p, np.arange(len(line)), line), axis, x
        )
    return x


def probability(
    variables,
    source,
    e,
    shape,
    sides=(SIZE,),
    support=None,
    zero_mask=False,
    rounds=0,
    support_class=None,
):
    """The foreground's probability [*shape] in one episode, the mean over the sides of the query.

    Args:
      support: number -> image and label of a support, in place of those that were read.
      rounds: of self-support.
      support_class: class id -> class of the supports' masks.
    """

    def run(method, *args):
        return apply(variables, *args, method=method)

    def encoded(images):
        return run('encode', normalise(np.stack(images), 'torchvision'))

    images, labels = zip(
        *(support(n) if support else read(source, n, SIZE) for n in e.supports), strict=True
    )
    labels = np.stack(labels)[None]
    shown = support_class[e.class_id] if support_class else e.class_id
    masks = np.float32(labels == shown) * (not zero_mask)
    features = jax.tree.map(lambda f: f[None], encoded(images))
    probe = run('probe', features, jnp.array(masks), jnp.array(labels != 255, jnp.float32))
    found = []
    for side in sides:
        query = encoded([read(source, e.query, side)[0]])
        logits = run('decode', query, probe)
        for _ in range(rounds):
            own = (
                jax.tree.map(lambda f: f[:, None], query),
                *(mask[:, None] for mask in confident(logits)),
            )
            mean = [(one + other) / 2 for one, other in zip(probe, run('probe', *own), strict=True)]
            logits = run('decode', query, mean)
        logits = np.asarray(logits[0], np.float64)
        exp = np.exp([stretched(logits[..., i], shape) for i in range(2)])
        found.append(exp[1] / exp.sum(0))
    return np.mean(found, 0)


def assert_counts(evaluator, variables, source, episodes, **options):
    """Check that each episode's counts match probability > 1/2, except for pixels decided by rounding."""
    for (shot, _), listed in episodes.items():
        for label_size, counts in evaluator.episode_counts[shot].counts.items():
            for i, e in enumerate(listed):
                label = (
                    read(source, e.query, SIZE)[1]
                    if label_size == 'square'
                    else own_labels(source, [e.query])[0]
                )
                binary = np.where(label == 255, 255, label == e.class_id).astype(np.uint8)
                p = probability(variables, source, e, label.shape, **options)
                expected = metrics.counts((p > 0.5)[None], binary[None])
                doubtful = (np.abs(p - 0.5) < 1e-5).sum()
                assert doubtful < 5
                for found, wanted in zip(counts, expected, strict=True):
                    assert abs(found[i] - wanted[0]) <= doubtful, (e, label_size)


def test_the_answers_at_several_sizes_are_averaged(source, variables, episodes):
    bank = load_bank(source, episodes, scales=(0.7, 1.0, 1.3), **LOADING)
    sides = [
        min(range(1, 100, 8), key=lambda side, scale=scale: abs(side - scale * SIZE))
        for scale in (0.7, 1, 1.3)
    ]
    assert [images.shape[1] for images in bank.queries] == sides == [25, 41, 57]
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(2), **SETTINGS)
    evaluator.run(variables)
    assert_counts(evaluator, variables, source, episodes, sides=sides)


def test_one_other_size_takes_the_place_of_the_ordinary_one_for_queries_alone(
    source, variables, episodes
):
    bank = load_bank(source, episodes, scales=(1.3,), **LOADING)
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), **SETTINGS)
    evaluator.run(variables)
    assert_counts(evaluator, variables, source, episodes, sides=(57,))


def cropped(source, number):
    """A support as CANet's released test draws it, by the number of the image."""
    image, label = read(source, number, 62)  # 1.5 * 41, rounded up
    return crop(jax.random.key(number), image, label, size=SIZE)


def assert_cropped(bank, source):
    for number, image, label in zip(
        bank.numbers.tolist(), bank.supports.images, bank.supports.labels, strict=True
    ):
        expected = cropped(source, number)
        assert np.abs(image - expected[0]).max() < 0.51  # rounded
        assert (label != expected[1]).mean() < 1e-3


def test_supports_are_cropped_at_random_and_queries_are_not(source, variables, episodes):
    bank = load_bank(source, episodes, random_supports=True, **LOADING)
    again = load_bank(source, episodes, random_supports=True, **LOADING)
    ordinary = load_bank(source, episodes, **LOADING)
    assert_cropped(bank, source)
    np.testing.assert_array_equal(bank.supports.images, again.supports.images)
    np.testing.assert_array_equal(bank.supports.labels, again.supports.labels)
    np.testing.assert_array_equal(bank.labels, ordinary.labels)
    assert len(bank.queries) == 1
    np.testing.assert_array_equal(bank.queries[0], ordinary.images)
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), **SETTINGS)
    evaluator.run(variables)
    row = {number: i for i, number in enumerate(bank.numbers)}

    def support(number):
        return (bank.supports.images[row[number]], bank.supports.labels[row[number]])

    assert_counts(evaluator, variables, source, episodes, support=support)


def test_labels_of_cropped_supports_come_at_the_labels_size(source, episodes):
    bank = load_bank(source, episodes, random_supports=True, label_size=2 * SIZE, **LOADING)
    fine = load_bank(source, episodes, random_supports=True, **LOADING).supports.labels
    np.testing.assert_array_equal(bank.supports.labels, fine.repeat(2, 1).repeat(2, 2))


def test_a_crop_without_the_object_gives_numbers_all_the_same(variables):
    image, label = np.full((57, 57, 3), 90, np.uint8), np.zeros((57, 57), np.uint8)
    image[:4, :4], label[:4, :4] = (250, 0, 0), 1
    ids = tuple('abcdef')
    index = Index.build(((name, label) for name in ids), {'val': ids})
    source = FakeSource('corners', ids, index, (encode(image, label),) * len(ids))
    episodes = {(1, 0): [Episode(i, ((i + 1) % len(ids),), 1, 0) for i in range(len(ids))]}
    bank = load_bank(source, episodes, random_supports=True, **LOADING)
    lost = ~(bank.supports.labels == 1).any((1, 2))
    assert lost.any() and not lost.all()
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), **SETTINGS | {'classes': (1,)})
    assert np.isfinite(evaluator.run(variables)['shots']['1']['square']['miou'])

    def support(number):
        return (bank.supports.images[number], bank.supports.labels[number])

    assert_counts(evaluator, variables, source, episodes, support=support)


def test_empty_support_masks(source, variables, episodes):
    """Void pixels of a support stay void: the background's average is without them."""
    bank = load_bank(source, episodes, **LOADING)
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), zero_mask=True, **SETTINGS)
    evaluator.run(variables)
    assert_counts(evaluator, variables, source, episodes, zero_mask=True)


def test_supports_of_another_class(variables):
    """The query is compared with the class asked for; the supports show the next class, with that class's mask."""
    protocol = replace(protocols.PRESETS['simpropnet'], tiny_rule='none')
    source = fake_source(n=80, classes=5, size=(40, 57))
    drawn = protocols.episodes(replace(protocol, episodes=10), source.index, 0, 1, 0)
    after = protocols.next_class(CLASSES)
    assert after == {1: 2, 2: 3, 3: 4, 4: 5, 5: 1}
    changed = {(1, 0): protocols.other_class_episodes(drawn, protocol, source.index, 0)}
    for e, before in zip(changed[1, 0], drawn, strict=True):
        assert (e.query, e.class_id) == (
            before.query,
            before.class_id,
        ) and e.query not in e.supports
        pixels = source.index.pixels[list(e.supports)]
        assert pixels[:, after[e.class_id]].all() and not pixels[:, e.class_id].any()
    bank = load_bank(source, changed, **LOADING)
    evaluator = Evaluator(Tiny(), bank, changed, mesh=devices(1), support_class=after, **SETTINGS)
    evaluator.run(variables)
    assert_counts(evaluator, variables, source, changed, support_class=after)
    one_class = [e for e in drawn if e.class_id == 1]
    with pytest.raises(
        ValueError, match='no episode of another class has supports without aeroplane'
    ):
        protocols.other_class_episodes(one_class, protocol, source.index, 0)


def test_every_listed_pair_is_scored_with_itself_as_support(source, variables):
    protocol = replace(protocols.PRESETS['simpropnet'], tiny_rule='none')
    episodes = {(1, 0): protocols.identical_episodes(protocol, source.index, fold=0)}
    evaluator = Evaluator(
        Tiny(), load_bank(source, episodes, **LOADING), episodes, mesh=devices(1), **SETTINGS
    )
    result = evaluator.run(variables)['shots']['1']
    assert (
        result['episodes']['0'] == result['distinct_episodes'] == 20
    )  # ten images with two classes each
    np.testing.assert_array_equal(
        evaluator.episode_counts[1].query, evaluator.episode_counts[1].supports[:, 0]
    )
    assert_counts(evaluator, variables, source, episodes)


def test_queries_become_their_own_supports_at_every_size(source, variables, episodes):
    bank = load_bank(source, episodes, scales=(1.0, 1.3), **LOADING)
    evaluator = Evaluator(Tiny(), bank, episodes, mesh=devices(1), self_support=1, **SETTINGS)
    evaluator.run(variables)
    assert_counts(evaluator, variables, source, episodes, sides=(41, 57), rounds=1)
    counts, ((_, listed),) = evaluator.episode_counts[2].counts['own'], episodes.items()
    for _, i, mask in evaluator.predict(variables):
        objects = own_labels(source, [listed[i].query])[0] == listed[i].class_id
        assert (mask & objects).sum() == counts.intersection[i]


class Refined(FewShotMethod):
    """Foreground are the first rows of every image: a share of them that the refinements and the shot decide."""

    shares: tuple[tuple[float, ...], ...]  # of each shot, by the number of refinements
    iterative = True

    def encode(self, images, train=False):
        return images[:, ::8, ::8]

    def probe_each(self, features, masks, valid):
        return masks.mean((2, 3))

    def combine(self, each):
        return each

    def decode(self, features, probe, train=False, history=None, steps=None):
        share = self.shares[probe.shape[1] - 1][0 if steps is None else steps]
        foreground = share - jnp.linspace(0, 1, features.shape[1])[:, None]
        foreground = jnp.broadcast_to(foreground, features.shape[:3])
        return jnp.stack([-foreground, foreground], -1)


def refined(source, episodes, shares, **options):
    """Result of each shot, counts of its episodes, and the passes that were made, by shot."""
    stages = []

    def note(what, done, total):
        return stages.append(what) if done == total and 'shot' in what else None

    bank = load_bank(source, episodes, **LOADING)
    settings = SETTINGS | {'mesh': devices(1), 'label_sizes': ('square',)}
    evaluator = Evaluator(Refined(shares), bank, episodes, **settings, **options)
    return (
        evaluator.run({}, note)['shots'],
        evaluator.episode_counts,
        [int(name[0]) for name in stages],
    )


def test_refinement_goes_on_until_the_miou_drops(source, episodes):
    """Objects are in the upper three quarters: the more rows, the better, up to there."""
    (two,) = episodes.values()
    episodes = {(1, 0): [e._replace(supports=e.supports[:1]) for e in two], (2, 0): two}
    shares = (0.2, 0.4, 0.7, 0.3, 0.75), (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
    shots, counts, passes = refined(source, episodes, shares, refinement='until_drop')
    assert passes == [1] * 4 + [2] * 5  # the fourth was worse; the sixth would have been better
    assert (shots['1'].pop('refinements'), shots['2'].pop('refinements')) == (2, 4)
    fixed, fixed_counts, passes = refined(source, episodes, ((0.7,), (0.5,)))
    assert passes == [1, 2] and fixed == shots
    jax.tree.map(np.testing.assert_array_equal, counts, fixed_counts)
    often, _, passes = refined(source, episodes, shares, refinement='2')
    assert passes == [1, 2] and often['1'] == shots['1'] and often['2'] != shots['2']


def test_a_pass_that_changes_nothing_is_the_last(source, episodes):
    shots, _, passes = refined(source, episodes, ((), (0.4, 0.4, 0.7)), refinement='until_drop')
    assert shots['2']['refinements'] == 0 and len(passes) == 2


def test_what_does_not_refine_is_scored_once(source, episodes):
    bank = load_bank(source, episodes, **LOADING)
    evaluator = Evaluator(
        Tiny(), bank, episodes, mesh=devices(1), refinement='until_drop', **SETTINGS
    )
    assert not evaluator.until_drop
