"""Whole images: label maps at their own sizes, counted, written, read back; a training from end to end."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import deeplabv3plus
from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.datasets.index import Pairs, listed_pairs
from simpropnet_jax.episodes.loader import image_batches, own_labels
from simpropnet_jax.evaluation import oracle as supervised
from simpropnet_jax.evaluation import run as evaluation
from simpropnet_jax.ops.resize import resize_bilinear
from simpropnet_jax.setup.run import store_config
from simpropnet_jax.training import loop
from tests.fakes import SMALL, fake_source

SIZE = 41


class Tiny(nn.Module):
    def setup(self):
        self.conv = nn.Conv(21, (9, 9), strides=8, padding=4)

    def logits(self, images, train=False):
        return self.conv(images)


@pytest.fixture(scope='module')
def source():
    return fake_source(n=24, classes=3, size=(40, 57))


def brute_force(prediction, label, classes):
    matrix = np.zeros((classes, classes), int)
    for truth, found in zip(label.ravel(), prediction.ravel(), strict=True):
        if truth != 255:
            matrix[truth, found] += 1
    iou, known = [], label != 255
    for c in range(classes):
        found, true = known & (prediction == c), label == c
        iou.append((found & true).sum() / (found | true).sum() if (found | true).any() else np.nan)
    return matrix, iou


def test_confusion_and_iou_are_those_of_counting_one_pixel_after_the_other():
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 1, 2, 4, 255], np.uint8), (13, 17))
    prediction = rng.choice(np.array([0, 1, 2, 3], np.uint8), (13, 17))
    matrix = supervised.confusion(prediction, label, classes=6)
    expected, iou = brute_force(prediction, label, 6)
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_allclose(supervised.class_iou(matrix), iou)
    assert np.isnan(iou[5]) and iou[3] == iou[4] == 0


def test_label_maps_have_their_own_sizes_and_are_those_of_one_image_at_a_time(
    source, mesh_of, tmp_path
):
    variables = Tiny().init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), method='logits')
    predictor = supervised.LabelPredictor(
        Tiny(),
        source,
        convention='torchvision',
        size=SIZE,
        mesh=mesh_of(2),
        batch=5,
        backend='threads',
    )
    result = supervised.score(predictor, source, variables, tmp_path)
    numbers = np.flatnonzero(source.index.lists['val'])
    assert (
        len(list(tmp_path.iterdir())) == result['images'] == len(numbers) == 12
    )  # two whole batches of 6
    total = 0
    for batch in image_batches(source, numbers, size=SIZE, batch=1, backend='threads'):
        number = int(batch['number'][0])
        label = own_labels(source, [number])[0]
        logits = Tiny().apply(variables, normalise(batch['image'], 'torchvision'), method='logits')
        expected = np.asarray(resize_bilinear(logits, label.shape)[0])
        with Image.open(tmp_path / f'{source.ids[number]}.png') as image:
            assert image.mode == 'P' and image.getpalette('RGB')[3 * 15 : 3 * 16] == [192, 128, 128]
            prediction = np.asarray(image)
        # They may differ where two classes are equally likely to the last bit.
        chosen = np.take_along_axis(expected, prediction[..., None].astype(int), -1)[..., 0]
        np.testing.assert_allclose(chosen, expected.max(-1), atol=1e-4)
        total = total + brute_force(prediction, label, 21)[0]
    iou = supervised.class_iou(total)
    assert result['miou'] == pytest.approx(np.nanmean(iou))
    assert result['pixel_accuracy'] == pytest.approx(np.trace(total) / total.sum())
    assert result['per_class']['aeroplane'] == pytest.approx(iou[1])
    assert [n for n, x in result['per_class'].items() if x is None] == [
        n for n, x in zip(result['per_class'], iou, strict=True) if np.isnan(x)
    ]


@pytest.fixture
def folder(source, tmp_path):
    """The true label maps, but void, and the left half of the first image's, is background."""
    numbers = np.flatnonzero(source.index.lists['val'])
    for number, label in zip(numbers, own_labels(source, numbers), strict=True):
        label = np.where(label == 255, np.uint8(0), label)
        if number == numbers[0]:
            label[:, : label.shape[1] // 2] = 0
        supervised.write_label(tmp_path / f'{source.ids[number]}.png', label)
    return tmp_path


def test_the_iou_of_a_pair_is_that_of_its_class_in_its_image(source, folder):
    pairs = listed_pairs(source.index, 'val', (1, 2, 3), 'none')
    order = np.random.default_rng(0).permutation(len(pairs))
    pairs = Pairs(pairs.image[order], pairs.class_id[order])
    iou = supervised.oracle_iou(folder, source, pairs)
    assert iou.shape == (24,)
    first = pairs.image == pairs.image.min()
    assert (iou[~first] == 1).all() and sorted(iou[first])[0] == 0 and sorted(iou[first])[1] > 0.9


def test_label_maps_that_cannot_be_used_are_refused_by_name(source, folder):
    pairs = listed_pairs(source.index, 'val', (1, 2, 3), 'none')
    path = folder / f'{source.ids[pairs.image[3]]}.png'
    good = np.asarray(Image.open(path))

    def refused(image, *parts):
        image.save(path)
        with pytest.raises(ValueError) as error:
            supervised.oracle_iou(folder, source, pairs)
        assert all(part in str(error.value) for part in (str(path), *parts))

    refused(
        Image.fromarray(good[:-1]),
        f'is {good.shape[1]} x {good.shape[0] - 1} pixels',
        'use the size of the label',
    )
    refused(Image.fromarray(good).convert('RGB'), 'has the mode RGB', 'one channel of class ids')
    refused(Image.fromarray(np.full_like(good, 21)), 'has the value 21', 'from 0 to 20')
    path.write_bytes(b'no picture')
    with pytest.raises(ValueError, match=f'{path.name} cannot be read as a picture'):
        supervised.oracle_iou(folder, source, pairs)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=rf'has no {path.name} \(1 of 12 images are missing\)'
    ):
        supervised.oracle_iou(folder, source, pairs)


def test_rules_of_another_kind_of_network_are_refused_before_anything_is_written(
    small_config, tmp_path
):
    few_shot = small_config()
    few_shot.train.classes = 'all'
    episodes = small_config(**{'select.on': 'val'})
    oracle = deeplabv3plus.get_config()
    oracle.update_from_flattened_dict(
        SMALL | {'data.dir': few_shot.data.dir, 'select.on': 'novel_val'}
    )
    for config, sentence in [
        (few_shot, "config.train.classes is 'all', so no class is novel"),
        (
            episodes,
            "config.select.on must be 'novel_val', 'base_val' or 'last' for simpropnet, a few-shot method, got 'val'",
        ),
        (
            oracle,
            "config.select.on must be 'val' or 'last' for deeplab, a supervised network, got 'novel_val'",
        ),
    ]:
        with pytest.raises(ValueError, match=sentence):
            loop.train_and_evaluate(config, tmp_path / 'W')
        assert not (tmp_path / 'W').exists()


def test_a_supervised_network_has_no_episodes_to_segment(prepared_data, tmp_path):
    config = deeplabv3plus.get_config()
    changes = {'model.convention': 'torchvision', 'data.dir': str(prepared_data)}
    config.update_from_flattened_dict(SMALL | changes)
    store_config(config, tmp_path)
    for evaluate in (
        lambda: evaluation.evaluate_run(None, tmp_path, inputs='zero_mask'),
        lambda: evaluation.evaluate_protocols(None, tmp_path, ['hsnet']),
    ):
        with pytest.raises(
            ValueError, match='holds deeplab, a supervised network that takes no supports'
        ):
            evaluate()
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


@pytest.mark.slow
def test_an_oracle_is_trained_selected_evaluated_and_read(
    prepared_data, tmp_path, run_here, one_device
):
    def run(*words):
        done = run_here(*words)
        assert done.returncode == 0, done.stderr[-2000:]
        return done

    fields = SMALL | {'data.dir': prepared_data, 'model.depths': '(1,1,1,1)', 'eval.batch': 16}
    words = [
        '--config',
        'configs/deeplabv3plus.py',
        *(f'--config.{name}={value}' for name, value in fields.items()),
    ]
    trained = run('train.py', *words, '--workdir', tmp_path / 'oracle')
    assert 'step 6/6' in trained.stderr and 'over all classes' in trained.stderr
    lines = [
        json.loads(line)
        for line in (tmp_path / 'oracle' / 'metrics.jsonl').read_text().splitlines()
    ]
    selected = {line['step']: line['val_miou'] for line in lines if 'val_miou' in line}
    assert selected.keys() == {3, 6}
    out = tmp_path / 'labels'
    command = [
        '-m',
        'simpropnet_jax',
        'oracle',
        '--checkpoint',
        tmp_path / 'oracle',
        '--out',
        out,
    ]
    printed = run(*command).stdout
    assert run('eval.py', '--workdir', tmp_path / 'oracle').stdout == printed
    record = json.loads((tmp_path / 'oracle' / 'supervised' / 'best_33px.json').read_text())
    assert (
        record['miou'] == pytest.approx(max(selected.values()))
        and record['checkpoint']['selection'] == 'val'
    )
    assert record['weak_oracle'] and 'a weak oracle: its mIoU is below 50 %' in printed
    assert len(record['per_class']) == 21 and record['images'] == len(list(out.iterdir())) == 40
