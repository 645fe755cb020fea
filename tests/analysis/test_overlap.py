"""Error overlap with an oracle: by hand, and from a work directory and PNG files to the table."""

import json

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.analysis import overlap
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.datasets.folds import CLASS_NAMES, novel_classes
from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes.loader import own_labels
from simpropnet_jax.evaluation import oracle as supervised
from simpropnet_jax.evaluation import run
from simpropnet_jax.evaluation.external import predictors
from simpropnet_jax.evaluation.external.predictions import evaluate_predictions
from simpropnet_jax.evaluation.external.write_masks import export
from simpropnet_jax.setup import data
from tests.fakes import SMALL, fake_source, records_of
from tests.small_checkpoint import write_checkpoint

CHANGES = {'data.loader': 'threads', 'eval.episodes': 20, 'eval.batch': 8}
NAMES = ('background', 'cat', 'dog', 'cow')


def digits(text):
    return np.array([[int(x) for x in text]], np.uint8)


def areas(label, prediction, oracle):
    """Of rows of digits; v is void."""
    return overlap.areas(
        digits(prediction) == 1,
        digits(oracle) == 1,
        np.where(digits(label) == 9, np.uint8(255), digits(label)),
    )


# label                        1111110000009999
CAT = areas('1111110000009999', '1110001100001100', '1111100110001010')
DOG = areas('1100', '1100', '1100')  # no error at all
LARGE = areas('1' * 8 + '0' * 4, '0' * 8 + '1111', '1111' + '0' * 4 + '1111')


def test_areas_of_a_pair_by_hand():
    """Of the object 3 to 5 are missed, by the oracle 5; 6 is added, by the oracle 6, 7 or so; void counts nowhere."""
    assert CAT == overlap.Areas(1, 3, 1, 3, 6, 3, 5, 8, 8)
    assert DOG == overlap.Areas(0, 0, 0, 0, 2, 2, 2, 2, 2)
    assert LARGE == overlap.Areas(4, 8, 4, 4, 8, 0, 4, 12, 12)


def test_quantities_of_a_pair_by_hand():
    found = overlap.quantities(overlap.Areas(*np.array([CAT, DOG]).T))
    np.testing.assert_allclose(found['fn_overlap'], [1 / 3, np.nan])
    np.testing.assert_allclose(found['fp_overlap'], [1 / 3, np.nan])
    np.testing.assert_allclose(found['miou_gap'], [2 / 8, 0])
    np.testing.assert_allclose(found['tp_gap'], [2 / 6, 0])


def test_by_class_sums_pixels_and_by_image_does_not():
    found = overlap.summarise([CAT, DOG, LARGE], [1, 2, 1], NAMES)
    by_class, by_image = found['by_class'], found['by_image']
    assert by_class['per_class'].keys() == {'cat', 'dog'}
    assert by_class['fn_overlap'] == pytest.approx(5 / 11)  # of the cat alone: the dog has no error
    assert by_class['undefined'] == {'fn_overlap': 1, 'fp_overlap': 1, 'miou_gap': 0, 'tp_gap': 0}
    assert by_class['miou_gap'] == pytest.approx(((9 - 3) / 20 + 0) / 2)
    assert by_class['tp_gap'] == pytest.approx(((9 - 3) / 14 + 0) / 2)
    assert by_image['fn_overlap'] == pytest.approx((1 / 3 + 4 / 8) / 2)
    assert by_image['miou_gap'] == pytest.approx((2 / 8 + 0 + 4 / 12) / 3)
    nothing = overlap.summarise([DOG], [2], NAMES)
    assert nothing['by_image']['fn_overlap'] is None and nothing['by_class']['miou_gap'] == 0


@pytest.fixture(scope='module')
def source():
    """Twelve images of every class of folds 0 and 1 on the val list."""
    drawn = fake_source(n=120, classes=10)
    return Source('drawn', drawn.index, records_of(drawn))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp('run')
    write_checkpoint(path)
    return path


@pytest.fixture
def config(workdir, source, monkeypatch):
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    config = stored_config(workdir)
    config.update_from_flattened_dict(CHANGES | {'eval.protocol': 'pfenet', 'eval.label_size': 0})
    return config


@pytest.fixture
def oracle(source, tmp_path):
    """The truth, but for the left half of every image, which is background."""
    folder = tmp_path / 'labels'
    folder.mkdir()
    numbers = np.flatnonzero(source.index.lists['val'])
    for number, label in zip(numbers, own_labels(source, numbers), strict=True):
        label = np.where(label == 255, np.uint8(0), label)
        label[:, : label.shape[1] // 2] = 0
        supervised.write_label(folder / f'{source.ids[number]}.png', label)
    return folder


def test_exported_masks_are_those_that_are_scored(config, workdir, tmp_path):
    """As PNG files they have the very numbers of the evaluation; and they are this diagnostic's input as well."""
    record = run.evaluate_run(config, workdir, pictures=False)
    assert export(config, workdir, tmp_path / 'ours') == 20
    files = evaluate_predictions(config, tmp_path, tmp_path / 'ours')
    for name in ('per_class', 'seeds'):
        assert files['shots']['1']['own'][name] == record['shots']['1']['own'][name]
    assert 0 < record['shots']['1']['own']['miou'] < 1

    (ours,) = predictors.open_predictors([workdir], config=config, pairs=12)
    (theirs,) = predictors.open_predictors([workdir], [tmp_path / 'ours'], config, pairs=12)
    assert (
        ours.name != theirs.name == 'ours'
        and ours.facts()['protocol'] == theirs.facts()['protocol']
    )
    both = list(zip(ours, theirs, strict=True))
    assert len(both) == 12
    for mine, other in both:
        assert mine.episode == other.episode
        np.testing.assert_array_equal(mine.prediction, other.prediction)
    assert any(mine.prediction.any() and (mine.label == 255).any() for mine, _ in both)
    with pytest.raises(ValueError, match='exists and is not an empty folder'):
        export(config, workdir, tmp_path / 'ours')


def test_masks_named_by_image_are_compared_with_the_oracle(
    config, workdir, source, oracle, tmp_path
):
    """The method is the truth without its left half, too: where the oracle errs it errs, and nowhere else."""
    (tmp_path / 'labels').rename(tmp_path / 'same')
    (same,) = predictors.open_predictors([workdir], [tmp_path / 'same'], config, pairs=20)
    record = overlap.measure([same], tmp_path / 'same')
    assert record['pairs'] == 20 and record['method'] == 'same'
    assert record['by_class']['fn_overlap'] == record['by_image']['fn_overlap'] == 1
    assert record['by_class']['miou_gap'] == record['by_image']['tp_gap'] == 0
    assert (
        record['by_class']['fp_overlap'] is None
        and record['by_class']['undefined']['fp_overlap'] == 5
    )
    pairs = Pairs(
        np.array([e.query for e in same.episodes]), np.array([e.class_id for e in same.episodes])
    )
    iou = supervised.oracle_iou(tmp_path / 'same', source, pairs)
    for segmented, expected in zip(same, iou, strict=True):
        found = segmented.prediction & (segmented.label == 1)
        assert found.sum() / (
            segmented.prediction & (segmented.label != 255) | (segmented.label == 1)
        ).sum() == (pytest.approx(expected))


def test_the_command_prints_ours_beside_the_papers(config, workdir, oracle):
    (ours,) = predictors.open_predictors([workdir], config=config, pairs=10)
    record = overlap.measure([ours], oracle)
    assert record['oracle']['images'] == record['oracle']['listed'] == 60
    assert record['oracle']['weak'] == (record['oracle']['miou'] < 0.5)
    assert (
        record['folds'][0]['checkpoint']['step'] == 1
        and record['folds'][0]['protocol']['name'] == 'pfenet'
    )
    assert set(record['by_class']['per_class']) <= {CLASS_NAMES[c] for c in novel_classes(1)}
    text = overlap.table(record | {'oracle': record['oracle'] | {'weak': True, 'miou': 0.499}})
    lines = {line.split('  ')[0]: line.split() for line in text.splitlines()}
    assert lines['CANet, the papers'][-4:] == ['18.32', '9.11', '23.28', '23.28']
    assert lines['AMP, the papers'][-3:] == ['19.06', '39.41', '39.41']
    assert (
        lines[f'{record["method"]}, by class'][-2] == f'{100 * record["by_class"]["miou_gap"]:.2f}'
    )
    assert (
        'A weak oracle: its val mIoU is below 50 %' in text
        and 'val mIoU of 49.90 % (60 of 60 images)' in text
    )
    assert 'weak' not in overlap.table(record | {'oracle': record['oracle'] | {'weak': False}})


def test_what_cannot_be_compared_is_refused_before_anything_is_segmented(
    config, workdir, source, oracle
):
    (ours,) = predictors.open_predictors([workdir], config=config, pairs=10)
    name = source.ids[ours.episodes[0].query]
    (oracle / f'{name}.png').unlink()
    with pytest.raises(FileNotFoundError, match=rf'has no {name}.png \(1 are missing\)'):
        overlap.measure([ours], oracle)
    Image.new('RGB', (5, 5)).save(oracle / f'{name}.png')
    with pytest.raises(ValueError, match=f'{name}.png has the mode RGB'):
        overlap.measure([ours], oracle)
    with pytest.raises(
        ValueError, match='there are 20 episodes of a fold for 21 pairs: give fewer --pairs'
    ):
        predictors.open_predictors([workdir], config=config, pairs=21)
    with pytest.raises(ValueError, match='must be a multiple of the work directories, 2, got 15'):
        predictors.open_predictors([workdir, workdir], pairs=15)
    with pytest.raises(
        ValueError, match='--config is of one fold, but there are 2 work directories'
    ):
        predictors.open_predictors([workdir, workdir], config=config)


@pytest.mark.slow
def test_the_commands_as_a_user_types_them(workdir, prepared_data, tmp_path, run_here, one_device):
    """Masks are exported, and compared with an oracle that is void of objects."""
    drawn = open_source('pascal5i/subset', prepared_data)
    (tmp_path / 'labels').mkdir()
    for number in np.flatnonzero(drawn.index.lists['val']).tolist():
        label = own_labels(drawn, [number])[0]
        supervised.write_label(
            tmp_path / 'labels' / f'{drawn.ids[number]}.png', np.zeros_like(label)
        )
    fields = SMALL | {
        'data.dir': prepared_data,
        'model.convention': 'torchvision',
        'model.attention_gain': 50.0,
    }
    small = [
        '--config',
        'configs/simpropnet.py:fold=1',
        *(f'--config.{name}={x}' for name, x in fields.items()),
    ]

    def run_module(name, *words):
        return run_here('-m', 'simpropnet_jax', *name.split(), *words)

    done = run_module('masks', '--checkpoint', workdir, '--out', tmp_path / 'ours', *small)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / 'ours').iterdir())) == 10
    given = ['--checkpoint', workdir, '--oracle', tmp_path / 'labels', *small]
    theirs = ['--predictions', tmp_path / 'ours', '--pairs', 10, '--out', tmp_path / 'o.json']
    done = run_module('diagnose overlap', *given, *theirs)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((tmp_path / 'o.json').read_text())
    assert (
        record['oracle']['weak'] and 'A weak oracle' in done.stdout and record['method'] == 'ours'
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith('ours, by class'))
    assert line.split()[3] == f'{100 * record["by_class"]["fn_overlap"]:.2f}'
    done = run_module('diagnose overlap', *given, '--pairs', 11)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith(
        'error: there are 10 episodes of a fold'
    )
    shown = run_module('diagnose similarity', '--help').stdout
    assert all(
        f'--{name}' in shown
        for name in ('checkpoint', 'predictions', 'pairs', 'out', 'features', 'min_pixels')
    )
