"""A training on files of decoded images is the training on images that are decoded while they are streamed."""

import contextlib
import os
import signal
from types import SimpleNamespace

import pytest

from simpropnet_jax import models
from simpropnet_jax.episodes import decoded
from simpropnet_jax.runtime import sharding
from simpropnet_jax.setup.run import prepare_training
from simpropnet_jax.training import loop
from simpropnet_jax.training.feed import Feed
from simpropnet_jax.training.metrics_file import read_metrics
from tests.training import tiny

STEPS = {'train.steps': 6, 'select.every': 4, 'select.on': 'last', 'data.workers': 2}


def losses(workdir):
    return {
        row['step']: row['loss'] for row in read_metrics(workdir / 'metrics.jsonl') if 'loss' in row
    }


def test_losses_are_the_same_also_after_an_interruption(
    small_config, tmp_path, monkeypatch, one_device
):
    monkeypatch.setattr(models, 'build', tiny.build)
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path / 'cache'))
    loop.train_and_evaluate(small_config('fold=1', **STEPS), tmp_path / 'streamed')
    assert not (tmp_path / 'cache').exists()  # a CPU
    config, add = small_config('fold=1', **STEPS, **{'data.decoded': 'always'}), loop._Log.add

    def stopping(self, step, *rest):
        add(self, step, *rest)
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(loop._Log, 'add', stopping)
        loop.train_and_evaluate(config, tmp_path / 'decoded')
    files = sorted((tmp_path / 'cache').rglob('*.u8'))
    assert len(files) == 2 and max(losses(tmp_path / 'decoded')) == 2
    with files[0].open('r+b') as file:
        file.write(b'damage')  # it is written again
    loop.train_and_evaluate(config, tmp_path / 'decoded')
    expected = losses(tmp_path / 'streamed')
    assert losses(tmp_path / 'decoded') == expected and len(set(expected.values())) == 6


def test_a_disk_that_cannot_be_written_ends_a_training_only_if_it_must_have_the_files(
    small_config, tmp_path, monkeypatch, caplog
):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path / 'file'))
    for mode in ('always', 'auto'):
        run = prepare_training(small_config('fold=1', **{'data.decoded': mode}), tmp_path / 'run')
        feed = Feed(run, sharding.make_mesh())
        feed.decoded = True  # as on an accelerator
        if mode == 'always':
            with pytest.raises(OSError, match='file/decoded'):
                feed.load()
        else:
            feed.load()
    assert not feed.decoded and 'Images are decoded while they are streamed' in caplog.text
    with contextlib.closing(feed.groups(0, [1])) as groups:
        assert next(groups)[1]['query_image'].shape == (8, 33, 33, 3)


def test_decoded_images_without_room_are_refused_before_anything_is_written(
    small_config, tmp_path, monkeypatch
):
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(decoded.shutil, 'disk_usage', lambda place: SimpleNamespace(free=1000))
    with pytest.raises(ValueError, match="'always', but .* bytes and .*decoded has 1,000 free"):
        loop.train_and_evaluate(
            small_config('fold=1', **{'data.decoded': 'always'}), tmp_path / 'run'
        )
    assert not list(tmp_path.iterdir())
