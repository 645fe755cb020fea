"""Masks of other programs, scored on our episodes; and several protocols in one table."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.episode_files import episode_name
from simpropnet_jax.episodes.protocols import PRESETS
from simpropnet_jax.evaluation import trivial
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.external import predictions
from simpropnet_jax.evaluation.external.predictions import evaluate_predictions, score_predictions
from simpropnet_jax.evaluation.results.bootstrap import miou_interval
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.evaluation.run import evaluate_protocols
from simpropnet_jax.setup import data
from simpropnet_jax.setup.data import evaluation_episodes
from simpropnet_jax.setup.run import store_config
from tests.fakes import SMALL, decoded, fake_source, records_of

FOLD, CLASSES, SIDE = 0, (1, 2, 3, 4, 5), 65
SQUARE = replace(PRESETS['simpropnet'], episodes=20, seeds=(0, 4), resolution=SIDE, void='ignore')
OWN = replace(SQUARE, resolution='own', void='background')


@pytest.fixture(scope='module')
def source():
    fake = fake_source(n=120, name='fake')
    return Source('fake', fake.index, records_of(fake))


@pytest.fixture(scope='module')
def episodes(source):
    return {
        (k, s): protocols.episodes(SQUARE, source.index, FOLD, k, s)
        for k in (1, 2)
        for s in SQUARE.seeds
    }


def label_of(source, number):
    return decoded(source.example(number)[1])


def stretched(values, side):
    return np.asarray(Image.fromarray(values).resize((side, side), Image.NEAREST))


def write(folder, source, episodes, mask, protocol='simpropnet'):
    """A mask of every episode, of `mask(label, episode)`: bool."""
    folder.mkdir(exist_ok=True)
    for (shot, seed), drawn in episodes.items():
        for number, episode in enumerate(drawn):
            values = mask(label_of(source, episode.query), episode).astype(np.uint8) * 255
            Image.fromarray(values).save(
                folder / f'{episode_name(protocol, FOLD, shot, seed, number)}.png'
            )


def left_half(label, episode):
    return np.broadcast_to(np.arange(label.shape[1]) < label.shape[1] // 2, label.shape)


def test_the_truth_is_perfect_at_any_size(source, episodes, tmp_path):
    write(tmp_path, source, episodes, lambda label, e: label == e.class_id)
    for protocol, name in ((SQUARE, 'square'), (replace(OWN, void='ignore'), 'own')):
        result, counts = score_predictions(tmp_path, source, episodes, protocol, FOLD)
        assert all(
            one[name]['miou'] == one[name]['fb_iou'] == 1 for one in result['shots'].values()
        )
        assert result['shots']['2']['episodes'] == {'0': 20, '4': 20}
        assert result['images'] == len({e.query for drawn in episodes.values() for e in drawn})
        assert (
            counts[2].supports.shape == (40, 2)
            and counts[2].query[0] == source.ids[episodes[2, 0][0].query]
        )


def test_masks_of_the_squares_size_score_as_a_method_that_answers_them(source, episodes, tmp_path):
    """Against the trivial answers, which go through the loader."""
    blank = np.empty((SIDE, SIDE, 3))
    write(tmp_path, source, episodes, lambda label, e: trivial.centre_box(blank, blank, blank))
    result, _ = score_predictions(tmp_path, source, episodes, SQUARE, FOLD)
    for seed in SQUARE.seeds:
        expected = trivial.score(source, episodes[1, seed], CLASSES, SIDE)['centre box']
        assert result['shots']['1']['square']['seeds'][str(seed)]['miou'] == pytest.approx(
            expected, abs=1e-12
        )


@pytest.mark.parametrize('protocol', [SQUARE, OWN], ids=['square', 'own'])
def test_counts_are_those_of_the_labels_pixel_by_pixel(protocol, source, episodes, tmp_path):
    write(tmp_path, source, episodes, left_half)
    _, counts = score_predictions(tmp_path, source, episodes, protocol, FOLD)
    (found,) = counts[1].counts.values()
    for row, e in enumerate([*episodes[1, 0], *episodes[1, 4]]):
        label = label_of(source, e.query)
        mask = left_half(label, e)
        if protocol is SQUARE:
            label, mask = stretched(label, SIDE), stretched(mask.astype(np.uint8), SIDE) > 0
            known = label != 255
        else:
            known = np.ones(label.shape, bool)  # void is background
        truth = label == e.class_id
        assert [int(x[row]) for x in found] == [
            (truth & mask & known).sum(),
            ((truth | mask) & known).sum(),
            (~truth & ~mask & known).sum(),
            ((~truth | ~mask) & known).sum(),
        ]


@pytest.mark.parametrize('palette', [False, True])
def test_labels_of_a_supervised_network_are_named_by_image(palette, source, episodes, tmp_path):
    """Class ids shifted by two rows; the episode's class is the foreground. Other images may be there, too."""
    shifted = {number: np.roll(label_of(source, number), 2, 0) for number in range(60, 120)}
    for number, label in shifted.items():
        image = Image.fromarray(label)
        if palette:
            image.putpalette([*range(256)] * 3)
        image.save(tmp_path / f'{source.ids[number]}.png')
    by_image, counts = score_predictions(tmp_path, source, episodes, OWN, FOLD)
    write(tmp_path / 'masks', source, episodes, lambda label, e: np.roll(label, 2, 0) == e.class_id)
    (tmp_path / 'masks').rename(masks := tmp_path.with_name(tmp_path.name + '_masks'))
    by_episode, _ = score_predictions(masks, source, episodes, OWN, FOLD)
    assert by_image == by_episode and 0.5 < by_image['shots']['1']['own']['miou'] < 0.99
    assert set(counts[1].counts) == {'own'}


def refused(message, folder, source, episodes, protocol=SQUARE):
    with pytest.raises(ValueError, match=message):
        score_predictions(folder, source, episodes, protocol, FOLD)


def test_files_that_are_missing_or_strange_are_counted_and_named(source, episodes, tmp_path):
    write(tmp_path, source, episodes, left_half)
    for number in (3, 4, 5, 6):
        (tmp_path / f'simpropnet_f0_s0_k1_000{number}.png').unlink()
    (tmp_path / 'simpropnet_f0_s0_k1_0003.jpg').write_bytes(b'')
    first = ', '.join(f'simpropnet_f0_s0_k1_000{number}.png' for number in (3, 4, 5))
    refused(
        rf'4 missing \({first}, ...\) and 1 not expected \(simpropnet_f0_s0_k1_0003.jpg\)',
        tmp_path,
        source,
        episodes,
    )
    refused(r'80 missing \(simpropnet_f0_s0_k1_0000.png', tmp_path.parent, source, episodes)
    with pytest.raises(FileNotFoundError, match='there is no folder .*nowhere with predictions'):
        score_predictions(tmp_path / 'nowhere', source, episodes, SQUARE, FOLD)


def test_masks_of_another_protocol_or_fold_are_not_taken_for_these(source, episodes, tmp_path):
    write(tmp_path, source, episodes, left_half)
    refused(
        '80 missing .hsnet_f0_s0_k1_0000.png, .* and 80 not expected .simpropnet_f0_',
        tmp_path,
        source,
        episodes,
        replace(SQUARE, name='hsnet'),
    )
    with pytest.raises(ValueError, match='80 missing .simpropnet_f1_s0_k1_0000.png'):
        score_predictions(tmp_path, source, episodes, SQUARE, 1)


def test_files_of_a_wrong_size_or_content_are_counted_and_named(source, episodes, tmp_path):
    write(tmp_path, source, episodes, left_half)
    height, width = label_of(source, episodes[1, 0][2].query).shape
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint8)).save(
        tmp_path / 'simpropnet_f0_s0_k1_0002.png'
    )
    score_predictions(tmp_path, source, episodes, SQUARE, FOLD)
    refused(
        rf'1 unreadable or of a wrong size \(simpropnet_f0_s0_k1_0002.png: 65 x 65, not {width} x {height}\)',
        tmp_path,
        source,
        episodes,
        OWN,
    )
    (tmp_path / 'simpropnet_f0_s0_k1_0001.png').write_bytes(b'no picture')
    refused(
        '1 unreadable .*simpropnet_f0_s0_k1_0001.png is not a picture', tmp_path, source, episodes
    )
    labels = tmp_path / 'labels'
    labels.mkdir()
    for number in range(60, 120):
        Image.fromarray(label_of(source, number)).save(labels / f'{source.ids[number]}.png')
    query = episodes[1, 0][0].query
    for mode, message in {
        'RGB': 'of mode RGB, not of one channel',
        'L': 'the value 77 is no class id',
    }.items():
        Image.new(mode, (width, height), 77 if mode == 'L' else 'red').save(
            labels / f'{source.ids[query]}.png'
        )
        refused(f'1 unreadable .*{source.ids[query]}.png: {message}', labels, source, episodes)
    (labels / 'elsewhere.png').write_bytes(b'')
    refused(r'1 not expected \(elsewhere.png\)', labels, source, episodes)


def test_probability_maps_are_refused_and_not_scored_as_all_object(source, episodes, tmp_path):
    write(tmp_path, source, episodes, left_half)
    height, width = label_of(source, episodes[1, 0][1].query).shape
    ramp = np.linspace(0, 1, width) * np.ones((height, 1))
    path = tmp_path / 'simpropnet_f0_s0_k1_0001.png'
    for values in (
        ramp * 255,
        ramp * 250,
        np.round(ramp * 3) * 40,
        np.round(ramp * 2),
        1 + ramp * 9,
    ):
        Image.fromarray(values.astype(np.uint8)).save(path)
        refused(
            r'1 unreadable .*_0001.png: has shades of gray \(.*save 0 and 255, or give .*--mask_threshold',
            tmp_path,
            source,
            episodes,
        )
    Image.fromarray((ramp * 65535).astype(np.uint16)).save(path)
    refused('_0001.png: has shades of gray', tmp_path, source, episodes)
    Image.fromarray(np.dstack([(ramp * 255).astype(np.uint8)] * 3)).save(path)
    refused('_0001.png: has shades of gray', tmp_path, source, episodes)


def test_probability_maps_with_a_threshold_score_as_their_masks(source, episodes, tmp_path):
    few = {(1, 0): episodes[1, 0]}
    write(tmp_path / 'masks', source, few, left_half)
    (tmp_path / 'maps').mkdir()
    for path in (tmp_path / 'masks').iterdir():
        mask = np.asarray(Image.open(path)) > 0
        ramp = np.linspace(0, 99, mask.shape[1]).astype(np.uint8)
        Image.fromarray(np.where(mask, 100 + ramp, ramp)).save(tmp_path / 'maps' / path.name)
    expected, _ = score_predictions(tmp_path / 'masks', source, few, SQUARE, FOLD)
    found, _ = score_predictions(tmp_path / 'maps', source, few, SQUARE, FOLD, threshold=100)
    assert found == expected
    (tmp_path / 'labels').mkdir()
    for number in range(60, 120):
        image = Image.fromarray(label_of(source, number))
        image.save(tmp_path / 'labels' / f'{source.ids[number]}.png')
    with pytest.raises(ValueError, match='which hold class ids: leave out --mask_threshold'):
        score_predictions(tmp_path / 'labels', source, few, SQUARE, FOLD, threshold=128)


@pytest.mark.parametrize('value', [1, 255])
def test_binary_masks_named_by_image_are_refused(value, source, episodes, tmp_path):
    for number in range(60, 120):
        label = label_of(source, number)
        mask = ((label > 0) & (label < 255)) * np.uint8(value)
        Image.fromarray(mask).save(tmp_path / f'{source.ids[number]}.png')
    refused(
        f'named by image, which hold class ids, but they only hold 0, {value}; the classes of this fold are 1, 2, 3, 4,'
        ' 5. Write class ids, or name binary masks by episode',
        tmp_path,
        source,
        episodes,
    )


@pytest.fixture
def config(source, monkeypatch):
    from configs import prototype

    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    config = prototype.get_config(f'fold={FOLD}')
    config.update_from_flattened_dict(
        {k: v for k, v in SMALL.items() if k.split('.')[0] in ('data', 'eval')}
    )
    config.update_from_flattened_dict({'model.weights': '', 'model.width': 4, 'eval.label_size': 0})
    return config


def test_a_result_of_predictions_is_compared_as_any_other(config, source, tmp_path, capsys):
    config.eval.update(protocol='pfenet', episodes=120, shots=(1,), seeds=(0, 1))
    _, episodes = evaluation_episodes(config, source)
    paths = []
    for name, mask in {'good': lambda label, e: label == e.class_id, 'poor': left_half}.items():
        write(tmp_path / name, source, episodes, mask, 'pfenet')
        record = evaluate_predictions(config, tmp_path / 'W', tmp_path / name)
        paths.append(tmp_path / 'W' / 'eval' / f'pfenet_fold0_predictions_{name}.json')
        assert record == read_result(paths[-1]) and record['method'] == name
    assert (
        record['protocol']['name'] == 'pfenet'
        and record['resolution'] == 'own'
        and record['void'] == 'ignore'
    )
    low, high = record['shots']['1']['own']['miou_interval']
    assert low < record['shots']['1']['own']['miou'] < high
    printed = capsys.readouterr().out
    assert '95 % interval' in printed and f'{100 * low:.2f} to {100 * high:.2f}' in printed
    simpropnet(['compare', *map(str, paths), '--resamples', '200'])
    assert 'labels own' in (printed := capsys.readouterr().out) and 'A is better' in printed


def test_the_interval_holds_the_mean_of_other_images_as_often_as_it_says():
    """Images drawn from one population: how often is its mIoU in the interval of a sample?"""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(200):
        image = np.repeat(np.arange(60), 3)
        part = np.clip(rng.normal(50, 15, 60), 0, 100).round()[image] + rng.integers(-5, 6, 180)
        counts = metrics.Counts(*(x.astype(int) for x in (part, np.full(180, 100), part, part)))
        seeds = np.tile([0, 1, 2], 60)
        one = predictions.EpisodeCounts(
            seeds, image, image[:, None], image % 2 + 1, {'square': counts}
        )
        low, high = miou_interval(one, 'square', resamples=300)
        hits += low <= 0.5 <= high
    assert 180 <= hits <= 198
    single = one._replace(class_id=np.where(image == 0, 9, one.class_id))
    assert miou_interval(single, 'square', resamples=300) is None


@pytest.mark.slow
def test_several_protocols_in_one_table_each_as_it_is_or_as_the_config_changes_all(
    config, source, tmp_path, capsys, monkeypatch, one_device
):
    for name in ('hsnet', 'pfenet', 'panet_2way'):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], episodes=60, seeds=(2, 3)))
    for name in ('hsnet', 'panet_2way'):
        monkeypatch.setitem(PRESETS, name, replace(PRESETS[name], resolution=49))
    store_config(config, tmp_path)
    records = evaluate_protocols(None, tmp_path, ['hsnet', 'pfenet', 'panet_2way'])
    facts = [
        (r['protocol']['name'], r['resolution'], r['label_size'], r['shots']['1']['episodes'])
        for r in records
    ]
    sets = {'2': 60, '3': 60}
    assert facts[:2] == [('hsnet', 49, 49, sets), ('pfenet', 'own', 33, sets)]
    assert facts[2:] == [('panet_2way', 49, 49, sets)]  # two rows for each, of two classes
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    sizes = ('square', 'own', 'square')
    scores = [one['shots']['1'][size] for one, size in zip(records, sizes, strict=True)]
    for row, record, score in zip(rows, records, scores, strict=True):
        assert row[0] == record['protocol']['name'] and row[-1] == record['protocol']['hash']
        assert row[4:7] == ['2', 'x', '60'] and row[7] == f'{100 * score["miou"]:.2f}'
    config.eval.seeds = (5,)
    (record,) = evaluate_protocols(config, tmp_path, ['hsnet'])
    assert record['shots']['1']['episodes'] == {'5': 10}
    with pytest.raises(ValueError, match='protocol must be one of'):
        evaluate_protocols(config, tmp_path, ['hsnet', 'hsnot'])
    with pytest.raises(ValueError, match="'panet_2way' has 2 classes in an episode, which only"):
        evaluate_protocols(config, tmp_path, ['panet_2way'], inputs='zero_mask')
