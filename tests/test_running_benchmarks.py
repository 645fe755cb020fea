"""The benchmarks that need no peer: what they say of a long run, and of how a command starts."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import everything, long_run, memory, quantisation, sizes, startup
from configs import prototype
from simpropnet_jax import models
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import checkpoint, records
from tests.compiling import QUICKLY
from tests.small_checkpoint import write_checkpoint
from tests.training import tiny


@pytest.mark.slow
def test_memory_and_checkpoints_of_a_long_run_are_watched(
    small_config, tmp_path, monkeypatch, capsys
):
    config_rules.validate(long_run.tiny(2000, 500), devices=1)

    def smaller(steps, every):  # with data that is there already
        changes = {
            'train.steps': steps,
            'train.log_every': 2,
            'select.on': 'last',
            'select.every': every,
        }
        return small_config(**changes)

    monkeypatch.setattr(long_run, 'tiny', smaller)
    monkeypatch.setattr(models, 'build', tiny.build)
    record = long_run.main(tmp_path / 'run', steps=80, every=20, out=tmp_path / 'long.json')
    assert json.loads((tmp_path / 'long.json').read_text()) == record
    steps, memory = np.array(record['memory']).T
    assert steps[0] == 2 and steps[-1] == 80 and len(steps) >= 40 and (memory > 1e8).all()
    assert len(record['saving_seconds']) == 4 and 0 < record['saving_share'] < 1
    assert '| memory, MiB |' in capsys.readouterr().out
    with pytest.raises(
        ValueError, match='run has checkpoints already; give a new folder as --workdir'
    ):
        long_run.main(tmp_path / 'run', steps=80, every=20)


def test_growth_is_the_slope_of_the_second_half():
    notes = long_run.Notes()
    notes.memory = [
        (step, 10**8 if step < 50 else 10**9 + 300 * step) for step in range(0, 100, 10)
    ]
    notes.saving = [(0.0, 5.0), (10.0, 0.1), (20.0, 0.3)]  # the first compiles
    record = notes.record()
    assert record['growth_per_1000_steps'] == pytest.approx(300_000)
    assert record['saving_share'] == pytest.approx(0.02)


@pytest.mark.slow
def test_the_first_step_and_mask_are_timed_with_and_without_a_cache(
    prepared_data, tmp_path, capsys, monkeypatch, preloaded_python
):
    monkeypatch.setattr(sys, 'executable', preloaded_python)
    monkeypatch.setattr(startup, 'FURTHER', 1)
    # A step of the baseline compiles sooner.
    method, _ = write_checkpoint(tmp_path / 'run', fbaf=False)
    method.config.data.dir = str(prepared_data)
    method.config.train.dual_prediction = False
    checkpoint.write_json(tmp_path / 'run' / 'config.json', config_rules.plain(method.config))
    # Of the commands: one device, for which a step compiles sooner. Here JAX has started.
    monkeypatch.setenv('XLA_FLAGS', QUICKLY)
    record = startup.main(tmp_path / 'run', repeats=1, out=tmp_path / 'startup.json')
    assert json.loads((tmp_path / 'startup.json').read_text()) == record
    assert all(
        len(found['runs']) == 1 and found['cold'] > 0 for found in record['seconds'].values()
    )
    assert record['seconds_to_load'] > 0
    assert '| segment, one query |' in capsys.readouterr().out
    with pytest.raises(
        ValueError, match='segment failed, so there is nothing to time: .*no file or folder'
    ):
        startup.predict(tmp_path / 'run', tmp_path, ('a', 'b'), ['nowhere.jpg'], tmp_path)


@pytest.mark.slow
def test_what_smaller_weights_cost_is_measured_on_the_same_episodes(small_config, tmp_path, capsys):
    write_checkpoint(tmp_path)
    config = config_rules.stored_config(tmp_path)
    config.data.dir = small_config().data.dir
    record = quantisation.main(tmp_path, folds=(0, 1), config=config, out=tmp_path / 'loss.json')
    assert records.read(tmp_path / 'loss.json', dict, 'Measure again') == record
    sizes = list(record['bytes'].values())
    assert sizes == sorted(sizes, reverse=True) and record['folds'] == [0, 1]
    assert {len(values) for found in record['miou'].values() for values in found.values()} == {2}
    assert '| weights | MB | shots | mIoU, folds 0, 1 | mean | loss |' in capsys.readouterr().out


def test_the_memory_of_an_evaluation_is_stated(tmp_path, capsys):
    config = prototype.get_config()
    config.model.update(weights='', width=4)
    config.eval.update(size=33, label_size=33, batch=8, own_size=False)
    record = memory.main(config, images=50, out=tmp_path / 'memory.json')
    assert json.loads((tmp_path / 'memory.json').read_text()) == record
    assert record['episodes'] == 50 and record['feature_bytes_per_image'] == 5 * 5 * 24 * 4 * 4
    assert 'features of an image 0.01 MB, of all 50' in capsys.readouterr().out
    with pytest.raises(ValueError, match='--images must be 40 or more'):
        memory.main(config, images=3)


def test_views_are_scored_by_class_and_presence_by_rank(tmp_path):
    assert sizes.shape_of('', 225)[:3] == (225, 'stretch', 1)
    assert sizes.shape_of('size=321,fit=pad,tiles=2', 225)[:3] == (321, 'pad', 2)
    for wrong in ('large', 'zoom=2'):
        with pytest.raises(ValueError, match='--view takes size=, fit= and tiles='):
            sizes.shape_of(wrong, 225)
    # Class, share, intersection, union: class 1 has 5/20, class 2 has 8/10.
    table = np.array([(1, 0.1, 4, 10), (1, 0.1, 1, 10), (2, 0.1, 8, 10)], float)
    assert sizes.mean_iou(table) == pytest.approx((0.25 + 0.8) / 2)
    assert sizes.area_under_curve([0.9, 0.5], [0.5, 0.1]) == pytest.approx(0.875)
    record = {'cycle': {'with': [0.5] * 19 + [0.1], 'without': [0.05, 0.6]}}
    assert '| cycle | 0.500 | 0.480 | 50% |' in sizes.presence_table(record)
    kept_without, kept_with = sizes.roc_curve([0.9, 0.5], [0.5, 0.1])
    assert np.trapezoid(kept_with, kept_without) == pytest.approx(0.875)
    sizes.draw_roc(record, 'novel', tmp_path / 'roc.png')
    assert Image.open(tmp_path / 'roc.png').size == (825, 750)


@pytest.mark.slow
def test_benchmarks_are_run_once_in_the_time_that_there_is(
    tmp_path, monkeypatch, capsys, preloaded_python
):
    whole = everything.BENCHMARKS['memory']
    monkeypatch.setitem(
        everything.BENCHMARKS, 'memory', whole._replace(words=(*whole.words, '--images', '50'))
    )
    small = ['model.weights=', 'model.width=4', 'eval.size=33', 'eval.own_size=False']

    def run(*changes, **how):
        return everything.main(tmp_path, ['memory'], changes=[*small, *changes], **how)['memory']

    assert run(minutes=0) == 'not begun, as time is over'
    assert run(minutes=0.005) == 'ended after 0.3 s, as time is over'
    monkeypatch.setattr(sys, 'executable', preloaded_python)
    assert (
        run('eval.batch=0')
        == 'failed: error: config.eval.batch must be a whole number, 1 or more, got 0'
    )
    assert run().startswith('measured in ')
    assert json.loads((tmp_path / 'memory.json').read_text())['episodes'] == 50
    said = (tmp_path / 'memory.txt').read_text()
    assert 'features of an image 0.01 MB, of all 50' in said and said in capsys.readouterr().out
    assert run(minutes=0) == 'measured before'


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'only': ['speed']}, "--only must be of training_simpropnet, .*, startup, got 'speed'"),
        ({'only': ['startup']}, 'startup needs --checkpoint, a trained run'),
        (
            {'changes': ['data.dri=packed']},
            'unknown config field config.data.dri; did you mean config.data.dir',
        ),
        (
            {'changes': ['tpc.steps=3']},
            '--config.tpc.steps=3: none of training_simpropnet, .*, memory has such a field',
        ),
    ],
)
def test_a_benchmark_that_cannot_be_run_is_named(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        everything.main(tmp_path / 'out', **given)
    assert not (tmp_path / 'out').exists()
