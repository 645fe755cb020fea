"""The benchmarks at a tiny size: the peer is the same network, and nothing is timed that is not the same."""

import json
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import canet as canet_config
from configs import simpropnet as simpropnet_config
from simpropnet_jax import models
from tests.fakes import SMALL
from tests.training import tiny

torch = pytest.importorskip('torch', reason='PyTorch is what the benchmarks compare with')

from benchmarks import evaluation, feeding, measure, peer, peer_loops, training  # noqa: E402

torch.set_num_threads(1)  # threads that wait for each other are slow where many tests run at once
SIZE = 33
METHODS = {
    'simpropnet': (simpropnet_config, {}),
    'with relu and gain': (
        simpropnet_config,
        {'model.fbaf_activation': 'relu', 'model.attention_gain': 5.0},
    ),
    'its baseline': (simpropnet_config, {'model.fbaf': False, 'train.dual_prediction': False}),
    'keras': (simpropnet_config, {'model.convention': 'keras'}),
    'canet': (canet_config, {'model.refinements': 2}),
}


def small(name, **changes) -> ConfigDict:
    module, own = METHODS[name]
    config = module.get_config('fold=1')
    config.update_from_flattened_dict(
        SMALL
        | {'model.encoder': 'resnet50', 'model.width': 8, 'model.features': 16}
        | own
        | changes
    )
    return config


@pytest.mark.parametrize('name', METHODS)
def test_the_peer_computes_the_same_logits(name):
    method = training.plain_method(small(name))
    params = measure.random_params(method)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 4, SIZE, SIZE, 3), np.uint8)
    masks, valid = rng.integers(0, 2, (2, 2, 3, SIZE, SIZE)).astype(np.float32)

    def forward(module, images, masks, valid):
        features = module.encode(images.reshape(-1, SIZE, SIZE, 3))
        features = features.reshape(2, 4, *features.shape[1:])
        return module.decode(features[:, 0], module.probe(features[:, 1:], masks, valid))

    normal = training.objectives.normalise(images, method.config.model.convention)
    apply = jax.jit(lambda *given: method.module.apply({'params': params}, *given, method=forward))
    ours = np.moveaxis(apply(normal, masks, valid), -1, 1)
    network = peer.with_weights(method.config.model, params, 'cpu').eval()
    images = torch.from_numpy(images)
    with torch.inference_mode():
        theirs = network(images[:, 0], images[:, 1:], torch.tensor(masks), torch.tensor(valid))[
            0
        ].numpy()
    assert ours.shape == theirs.shape == (2, 2, 5, 5)
    assert theirs.std() > 0.01  # not a comparison of constants
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()


@pytest.mark.slow
def test_a_training_step_is_checked_timed_and_written(tmp_path, capsys):
    settings = ['eager', 'channels_last+autocast']
    record = training.main(
        small('simpropnet'), [2], settings, repeats=2, matrix=64, out=tmp_path / 'step.json'
    )
    assert record == json.loads((tmp_path / 'step.json').read_text())
    assert [row['name'] for row in record['rows']] == [
        'ours float32',
        *(f'PyTorch {one}' for one in settings),
    ]
    for row in record['rows']:
        assert row['pairs_per_second'] == pytest.approx(2 / row['seconds']['median'])
        assert row['utilisation'] > 0 and len(row['seconds']['runs']) == 2
    assert record['versions'].keys() >= {'jax', 'torch'} and record['processor'] and record['cores']
    assert '| 2 | PyTorch channels_last+autocast |' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['simpropnet', 'canet'])
def test_loss_and_gradient_are_the_peers(name):
    method = training.plain_method(
        small(name, **{'data.void': 'background' if name == 'canet' else 'ignore'})
    )
    batch = training.random_batch(method, 2)
    assert ('history' in batch) == (name == 'canet')
    found = training.check(method, measure.random_params(method), batch, peer_loops, 'cpu')
    assert max(found.values()) < 1e-3


def test_another_gradient_is_noticed(monkeypatch):
    method = training.plain_method(small('simpropnet'))
    params, batch = measure.random_params(method), training.random_batch(method, 2)
    of = peer_loops.Training.cross_entropy
    monkeypatch.setattr(peer_loops.Training, 'cross_entropy', lambda *given: 1.01 * of(*given))
    with pytest.raises(ValueError, match='the two do not compute the same'):
        training.check(method, params, batch, peer_loops, 'cpu')


def test_operations_are_counted_forward_and_backward():
    layers = [
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.Conv2d(4, 5, 1),
        torch.nn.Conv2d(5, 6, 3, 2, 1),
    ]
    layers[0].requires_grad_(False)
    count = training.operations_of(torch.nn.Sequential(*layers), torch.zeros(2, 3, 9, 9))
    forward = [2 * 2 * 81 * 4 * 27, 2 * 2 * 81 * 5 * 4, 2 * 2 * 25 * 6 * 45]
    # Frozen: forward. First that is trained: its weights, too. Then also the input.
    assert count == forward[0] + 2 * forward[1] + 3 * forward[2]
    config = training.plain_method(small('simpropnet')).config
    batches = [training.random_batch(training.plain_method(config), size) for size in (1, 2)]
    one, two = (training.count_operations(config, batch, peer_loops) for batch in batches)
    assert 2 * one == two > 0


@pytest.fixture(scope='module')
def tiny_evaluation(prepared_data):
    changes = {
        'data.dir': str(prepared_data),
        'eval.shots': (2,),
        'eval.batch': 4,
        'eval.episodes': 15,
    }
    return small('simpropnet', **changes)


@pytest.mark.slow
def test_evaluations_count_the_same_pixels_and_are_timed(tiny_evaluation, tmp_path, capsys):
    out = tmp_path / 'evaluation.json'
    record = evaluation.main(
        tiny_evaluation, repeats=2, check=7, peer_batch=2, loop_episodes=10, out=out
    )
    assert json.loads(out.read_text()) == record
    assert record['shots'].keys() == record['checked'].keys() == {'2'}
    for shot in record['shots'].values():
        assert shot['episodes'] == 15
        ours, loop, cached = (
            shot['rows'][name]
            for name in ('ours float32', 'PyTorch, loop, eager (of 10)', 'PyTorch, cached, eager')
        )
        assert loop['episodes'] == 10 and cached['episodes'] == 15
        assert 0 < ours['miou'] < 1 and ours['where'].keys() == {
            'read',
            'encode',
            'supports',
            'episodes',
        }
        for other in (loop, cached):
            assert (
                other['from_ours']['share_of_pixels'] < 1e-3 and other['from_ours']['miou'] < 1e-3
            )
        assert ours['times_loop'] == pytest.approx(
            loop['seconds']['median'] / ours['seconds']['median']
        )
    sizes = record['feature_bytes_per_image']
    assert sizes == {'simpropnet': 5 * 5 * 16 * 4, 'prototype': 5 * 5 * 24 * 8 * 4}
    assert record['peak_memory']['host'] > 1e8
    assert '| 2 | PyTorch, cached, eager |' in capsys.readouterr().out


@pytest.mark.slow
def test_an_evaluation_that_differs_is_not_timed(tiny_evaluation, monkeypatch):
    monkeypatch.setattr(peer_loops, 'VOID', 254)
    work = evaluation.prepare(tiny_evaluation, None)
    with pytest.raises(ValueError, match='does not compute what we do'):
        evaluation.compare_first(work, 2, 7, 'cpu')


def test_ways_of_feeding_are_timed_where_tensorflow_is_absent(
    prepared_data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    monkeypatch.setattr(models, 'build', tiny.build)
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path / 'cache'))
    changes = {'data.dir': str(prepared_data), 'train.steps_per_dispatch': 3}
    record = feeding.main(
        small('simpropnet', **changes), steps=2, repeats=2, out=tmp_path / 'feeding.json'
    )
    assert record == json.loads((tmp_path / 'feeding.json').read_text())
    there, threads, decoded, resident = record['rows']
    assert [row['name'] for row in record['rows'][1:]] == ['threads', 'decoded', 'resident']
    assert there['trained_pairs_per_second'] == pytest.approx(8 / there['seconds']['median'])
    for row in (threads, decoded, resident):
        assert row['waits'] == pytest.approx(
            1 - there['seconds']['median'] / row['seconds']['median']
        )
        assert row['pairs_per_second'] > 0 and row['pairs_per_core_second'] > 0
    assert [threads['steps_per_dispatch'], resident['steps_per_dispatch']] == [1, 3]
    assert record['resident_bytes'] == record['images'] * 4 * (33**2 + 50**2)
    written = sum(path.stat().st_size for path in (tmp_path / 'cache').rglob('*.u8'))
    assert record['decoded_bytes'] == written > record['resident_bytes']
    assert f'{record["resident_bytes"]:,} bytes' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'train.crc': True}, 'config.train.crc must be False, as the peer has it, got True'),
        ({'model.shots': 'attention', 'train.shot': 2}, "config.model.shots must be 'average'"),
    ],
)
def test_what_the_peer_lacks_is_refused(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        training.main(small('canet', **changes), [2])


def test_other_mistakes_are_refused():
    with pytest.raises(
        ValueError,
        match="made of eager, channels_last, autocast, compile, joined by .*, got 'fast'",
    ):
        training.main(small('canet'), [2], ['fast'])
    with pytest.raises(ValueError, match="--batches must be whole numbers, 1 or more, got 'x'"):
        training.main(small('canet'), ['2', 'x'])


def test_a_contestant_that_cannot_run_is_left_out(capsys):
    def fail():
        raise RuntimeError('no memory\nat all')

    times = measure.take_turns({'PyTorch a': lambda: None, 'PyTorch b': fail}, 3)
    assert times.keys() == {'PyTorch a'} and len(times['PyTorch a'].runs) == 3
    assert capsys.readouterr().err == 'PyTorch b is left out: no memory\n'
    with pytest.raises(ValueError, match='none of the rows ours'):
        measure.fastest(times, 'ours')


@pytest.mark.parametrize('name', ['training', 'evaluation'])
def test_without_pytorch_a_benchmark_ends_in_one_sentence(name, run_here, monkeypatch):
    """And its help is there all the same."""
    for module in list(sys.modules):  # or the benchmarks would keep PyTorch
        if module.partition('.')[0] == 'benchmarks':
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, 'torch', None)
    ended = run_here('-m', f'benchmarks.{name}', '--config', 'configs/simpropnet.py')
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        'error: the benchmarks compare with PyTorch, which is not installed: pip install'
    )
    assert ended.stderr.count('\n') == 1
    shown = run_here('-m', f'benchmarks.{name}', '--help')
    assert shown.returncode == 0 and 'error' not in shown.stderr
    assert f'simpropnet bench {name} --config' in shown.stdout and '--repeats' in shown.stdout
