"""Test the episode file next to a result, and the paired bootstrap on it."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.evaluation.results import bootstrap, episode_counts
from simpropnet_jax.evaluation.results.bootstrap import compare_trainings, paired_bootstrap
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.result_file import write_result
from simpropnet_jax.runtime import records
from tests.evaluation.test_evaluate import SIZE, Tiny
from tests.fakes import fake_source

CLASSES, NAMES = (1, 2, 3), ('background', 'aeroplane', 'bicycle', 'bird')


def drawn(intersection, episodes, union=400):
    """Counts of the episodes (seed, query, support, class), in pixels of 1,000."""
    seed, query, support, class_id = zip(*episodes, strict=True)
    part = np.asarray(intersection).round().astype(np.int64)
    whole = np.full(len(part), union)
    counts = metrics.Counts(part, whole, 1000 - whole, 1000 - part)
    supports = np.array(support)[:, None]
    return EpisodeCounts(
        np.array(seed), np.array(query), supports, np.array(class_id), {'square': counts}
    )


def listed(rng, images=40, episodes=150):
    """Episodes of two seeds: an image is the query of several, with one or two classes."""
    result = []
    for i in range(episodes):
        query = int(rng.integers(images))
        class_id = CLASSES[query % 3] if i % 4 else CLASSES[(query + 1) % 3]
        result.append((i % 2, f'image{query:02d}', f'image{(query + 3) % images:02d}', class_id))
    return result


def two_methods(rng, episodes, gain=0.0, images=40):
    """Counts of A and B: how hard a query is counts for both; a part is each one's own."""
    query = np.array([int(e[1][-2:]) for e in episodes])
    hard, own = 60 * rng.standard_normal(images), 25 * rng.standard_normal((2, images))
    return [drawn(200 + hard[query] + own[i][query] + i * gain, episodes) for i in range(2)]


def miou(counts, weight):
    """The slow way: one number at a time."""
    per_class = []
    for c in np.unique(counts.class_id):
        of_seeds = []
        for seed in np.unique(counts.seed):
            part = whole = 0
            for i in np.flatnonzero((counts.class_id == c) & (counts.seed == seed)):
                part += weight[counts.query[i]] * counts.counts['square'].intersection[i]
                whole += weight[counts.query[i]] * counts.counts['square'].union[i]
            if whole:
                of_seeds.append(part / whole)
        if not of_seeds:
            return None
        per_class.append(sum(of_seeds) / len(of_seeds))
    return sum(per_class) / len(per_class)


def test_equals_a_bootstrap_of_one_draw_at_a_time(monkeypatch):
    """With so few images that classes often get no image, and are then drawn again."""
    rng = np.random.default_rng(0)
    episodes = listed(rng, images=9, episodes=18)
    a, b = two_methods(rng, episodes)
    names, rng, differences, refused = np.unique(a.query), np.random.default_rng(5), [], 0
    while len(differences) < 150:
        weight = dict.fromkeys(names, 0)
        for i in rng.integers(len(names), size=len(names)):
            weight[names[i]] += 1
        scores = miou(a, weight), miou(b, weight)
        if None in scores:
            refused += 1
        else:
            differences.append(scores[1] - scores[0])
    assert refused > 3
    monkeypatch.setattr(bootstrap, 'CELLS', 300)  # several chunks, which must not matter
    found = paired_bootstrap(a, b, resamples=150, seed=5, confidence=0.8).miou
    np.testing.assert_allclose(
        (found.low, found.high), np.quantile(differences, (0.1, 0.9)), rtol=1e-12
    )
    whole = dict.fromkeys(names, 1)
    assert (found.a, found.b) == (pytest.approx(miou(a, whole)), pytest.approx(miou(b, whole)))


def test_equal_methods_are_undecided_as_often_as_the_confidence_says():
    rng, verdicts = np.random.default_rng(1), []
    for _ in range(200):
        a, b = two_methods(rng, listed(rng))
        verdicts.append(paired_bootstrap(a, b, resamples=300).miou.verdict)
    assert 0.90 <= verdicts.count('undecided') / 200 <= 0.99


def test_a_better_method_is_found_in_either_place():
    rng = np.random.default_rng(2)
    a, b = two_methods(rng, listed(rng), gain=30)
    found = paired_bootstrap(a, b, resamples=500)
    assert found.miou.verdict == 'B is better' and found.miou.low > 0.02
    assert found.per_class.keys() == set(CLASSES)
    assert paired_bootstrap(b, a, resamples=500).miou.verdict == 'A is better'
    assert paired_bootstrap(a, a, resamples=500).miou.verdict == 'undecided'


def test_the_interval_by_hand():
    """Two images of IoU 0 and 1: drawn are two of the first, one of each, two of the second, 1 : 2 : 1."""
    counts = drawn([0, 400], [(0, 'image00', 'image01', 1), (0, 'image01', 'image00', 1)])
    nothing = drawn([0, 0], [(0, 'image00', 'image01', 1), (0, 'image01', 'image00', 1)])
    for confidence, interval in {0.95: [0, 1], 0.4: [0.5, 0.5]}.items():
        assert bootstrap.miou_interval(counts, 'square', confidence=confidence) == interval
        found = paired_bootstrap(nothing, counts, confidence=confidence).miou
        assert [found.low, found.high] == interval and (found.a, found.b) == (0, 0.5)
    assert bootstrap.with_intervals({'1': {'square': {'miou': 0.5}}}, {1: counts}) == {
        '1': {'square': {'miou': 0.5, 'miou_interval': [0, 1]}}
    }


def reordered(counts, order):
    part = metrics.Counts(*(values[order] for values in counts.counts['square']))
    columns = [getattr(counts, name)[order] for name in episode_counts.COLUMNS]
    return EpisodeCounts(*columns, {'square': part})


def test_the_order_of_episodes_does_not_matter():
    rng = np.random.default_rng(3)
    a, b = two_methods(rng, listed(rng))
    mixed = reordered(b, rng.permutation(len(b.seed)))
    assert paired_bootstrap(a, b, resamples=200) == paired_bootstrap(a, mixed, resamples=200)


def test_more_episodes_of_the_same_images_are_not_more_evidence():
    """Two further seeds that repeat the first ones' episodes: nothing new, so the same interval."""
    rng = np.random.default_rng(4)
    a, b = two_methods(rng, listed(rng))
    again = [reordered(x, np.tile(np.arange(len(x.seed)), 2)) for x in (a, b)]
    again = [x._replace(seed=x.seed + np.repeat([0, 2], len(x.seed) // 2)) for x in again]
    once, twice = paired_bootstrap(a, b, resamples=200), paired_bootstrap(*again, resamples=200)
    assert twice.episodes == 2 * once.episodes
    for one in ('a', 'b', 'low', 'high'):
        assert getattr(twice.miou, one) == pytest.approx(getattr(once.miou, one), abs=1e-12)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'resamples': 10}, 'resamples must be 100 or more, got 10'),
        ({'confidence': 95.0}, r'between 0 and 1 \(for example 0.95\), got 95.0'),
        ({'label_size': 'own'}, "no counts at the label size 'own', only 'square'"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    rng = np.random.default_rng(0)
    a, b = two_methods(rng, listed(rng))
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(a, b, **change)


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(0)
    a, b = two_methods(rng, listed(rng))
    other = b._replace(query=np.where(b.query == 'image05', 'image06', b.query))
    with pytest.raises(
        ValueError,
        match=r'different episodes \(150 and 150\), so their .* --inputs and config.eval',
    ):
        paired_bootstrap(a, other)
    single = [(0, 'image00', 'image01', 1)] * 3 + [(0, f'image0{i}', 'image01', 2) for i in (2, 3)]
    a, b = two_methods(rng, single)
    with pytest.raises(ValueError, match=r'classes \[1\] have a single query image'):
        paired_bootstrap(a, b)


@pytest.fixture(scope='module')
def results(tmp_path_factory):
    """Result files of two sets of weights, as an evaluation writes them."""
    source, rng = fake_source(n=24, classes=3, size=(40, 57)), np.random.default_rng(0)
    folder = tmp_path_factory.mktemp('results')

    def draw(shot, n):
        def images(c):
            return rng.permutation(np.flatnonzero(source.index.pixels[:, c]))[: shot + 1].tolist()

        drawn = [(c, images(c)) for c in CLASSES for _ in range(n)]
        return [Episode(numbers[0], tuple(numbers[1:]), c, 0) for c, numbers in drawn]

    first = draw(1, 6)
    episodes = {(1, 0): first, (1, 7): first[::-1] + draw(1, 1), (2, 0): draw(2, 3)}
    bank = load_bank(source, episodes, size=SIZE, backend='threads')
    mesh = jax.make_mesh((1,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:1])
    evaluator = Evaluator(
        Tiny(),
        bank,
        episodes,
        classes=CLASSES,
        convention='torchvision',
        mesh=mesh,
        class_names=NAMES,
    )
    init = jax.jit(Tiny().init)
    for key in (0, 1):
        variables = init(
            jax.random.key(key), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
        )
        write_result(
            folder / f'{key}.json',
            evaluator.run(variables),
            method=f'tiny{key}',
            fold=0,
            protocol='p',
            protocol_hash='ab',
            data='fake',
            selection='none',
            episodes={
                shot: counts.named(source.ids) for shot, counts in evaluator.episode_counts.items()
            },
        )
    return folder, episodes, source.ids


def test_one_training_each_is_the_paired_bootstrap_and_several_widen_it_by_students_t():
    rng = np.random.default_rng(0)
    episodes = listed(rng)
    a, b = two_methods(rng, episodes, gain=12)
    alone, single = (
        paired_bootstrap(a, b, resamples=500).miou,
        compare_trainings([a], [b], resamples=500),
    )
    assert single == alone

    def shifted(counts, by):
        return drawn(counts.counts['square'].intersection + by, episodes)

    ours, theirs = [shifted(b, by) for by in (-20, 0, 20)], [shifted(a, by) for by in (-20, 0, 20)]
    found = compare_trainings(theirs, ours, resamples=20_000)
    assert found.b - found.a == pytest.approx(alone.b - alone.a, abs=1e-3)
    # Standard deviations of the trainings: 20 of 400 pixels. t of 4 degrees of freedom holds 95 % within 2.776.
    half = 2.776 * 20 / 400 * (2 / 3) ** 0.5
    of_images = (alone.high - alone.low) / 2
    assert (found.high - found.low) / 2 == pytest.approx((half**2 + of_images**2) ** 0.5, rel=0.1)
    with pytest.raises(ValueError, match='different episodes'):
        compare_trainings([a], [b, drawn([1], [episodes[0]])])


def test_the_episodes_beside_a_result_give_its_numbers_exactly(results):
    folder, episodes, ids = results
    record = json.loads((folder / '0.json').read_text())
    assert record['episodes_file'] == '0.episodes.npz'
    assert {p.name for p in folder.iterdir()} == {
        f'{i}{end}' for i in (0, 1) for end in ('.json', '.episodes.npz')
    }
    for shot in (1, 2):
        counts = episode_counts.read(folder / '0.episodes.npz', shot)
        kept = [
            (e.query, e.supports, e.class_id)
            for (k, _), drawn in episodes.items()
            if k == shot
            for e in drawn
        ]
        assert counts.query.tolist() == [ids[query] for query, _, _ in kept]
        assert counts.supports.tolist() == [[ids[s] for s in supports] for _, supports, _ in kept]
        for label_size, per_episode in counts.counts.items():
            totals = {}
            for seed in np.unique(counts.seed).tolist():
                rows = counts.seed == seed
                part = metrics.Counts(*(values[rows] for values in per_episode))
                totals[seed] = metrics.accumulate(part, counts.class_id[rows], CLASSES)
            assert metrics.summarise(totals, NAMES) == record['shots'][str(shot)][label_size]


def test_the_command_prints_both_scores_and_a_verdict_per_class(results, capsys, refused):
    folder = results[0]
    a, b = str(folder / '0.json'), str(folder / '1.json')
    simpropnet(['compare', a, b, '--resamples', '200', '--label_size', 'own'])
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line[:1].strip()}
    mious = [
        json.loads((folder / f'{i}.json').read_text())['shots']['1']['own']['miou'] for i in (0, 1)
    ]
    assert rows['mIoU'][2:4] == [f'{100 * m:.2f}' for m in mious]
    assert set(NAMES[1:]) < rows.keys()
    simpropnet(['compare', a, a, '--shot', '2', '--resamples', '200'])
    assert capsys.readouterr().out.count('undecided') == 4
    with refused('.*has no 5-shot episodes, only 1-shot, 2-shot: choose another'):
        simpropnet(['compare', a, b, '--shot', '5'])


def edited(path, **changes):
    records.write(path, records.parse(path, '') | changes)


def test_files_that_do_not_belong_together_are_refused_in_one_sentence(
    results, tmp_path, refused, capsys
):
    for file in results[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    a, b = tmp_path / '0.json', tmp_path / '1.json'
    episodes = tmp_path / '1.episodes.npz'

    def refuses(message):
        with refused(f'.*{message}'):
            simpropnet(['compare', str(a), str(b)])

    edited(b, data='other')
    refuses(r'different data \(fake and other\) cannot be compared')
    edited(b, data='fake', label_size=99, inputs='zero_mask')
    refuses(r'different label size \(41 and 99\)')
    edited(b, label_size=41)
    simpropnet(['compare', str(a), str(b), '--resamples', '100'])
    assert re.match('A  tiny0, .*\nB  tiny1 \\(zero_mask\\), ', capsys.readouterr().out)
    edited(b, episodes_file='0.episodes.npz')
    refuses('0.episodes.npz does not give the numbers of .*1.json: evaluate again')
    edited(b, episodes_file='1.episodes.npz')
    whole = episodes.read_bytes()
    episodes.write_bytes(whole[: len(whole) // 2])
    refuses('1.episodes.npz is damaged')
    episodes.unlink()
    refuses('there is no file .*1.episodes.npz with the episodes of the result: evaluate again')
    edited(b, episodes_file=None)
    refuses('1.json was written without its episodes, by an earlier version: evaluate again')
