"""Checkpoints that a disk, a crash or a full quota damaged, without a training around them."""

import contextlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.runtime import checkpoint

ITEMS = ('variables', 'optimizer')


def items(step):
    weights = np.random.default_rng(step).normal(size=(50, 40)).astype(np.float32)
    return {'variables': {'w': jnp.asarray(weights)}, 'optimizer': {'step': jnp.asarray(step)}}


def opened(directory):
    return contextlib.closing(checkpoint.Checkpoints(directory))


def restored(directory):
    """(step, items) of the newest readable checkpoint, as a resuming run reads it."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with opened(directory) as checkpoints:
        return checkpoints.restore(checkpoint.abstract_like(items(0), sharding))


def assert_falls_back(directory, caplog):
    """From 6 to 3, to the last bit, with one warning that names both."""
    caplog.clear()
    step, read = restored(directory)
    assert step == 3
    jax.tree.map(np.testing.assert_array_equal, read, items(3))
    (warning,) = [
        record.getMessage() for record in caplog.records if record.name == checkpoint.__name__
    ]
    assert warning.startswith(f'checkpoint 6 in {directory} is damaged (')
    assert warning.endswith('); falling back to checkpoint 3')


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp('saved') / 'checkpoints'
    with opened(directory) as checkpoints:
        for step in (3, 6):
            checkpoints.save(step, items(step), score=step / 10)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    """A copy of checkpoints 3 and 6, free to be damaged."""
    return shutil.copytree(saved, tmp_path / 'checkpoints')


def files(directory):
    """The files of checkpoint 6 that hold its items; others are orbax's notes about it."""
    return [
        path
        for name in ITEMS
        for path in sorted((directory / '6' / name).rglob('*'))
        if path.is_file()
    ]


def test_one_flipped_bit_in_any_file(directory, caplog):
    for path in files(directory):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        assert_falls_back(directory, caplog)
        path.write_bytes(content)
    assert restored(directory)[0] == 6


def truncate(directory):
    biggest = max(files(directory), key=lambda path: path.stat().st_size)
    biggest.write_bytes(biggest.read_bytes()[:-1])


def lose_a_file(directory):
    max(files(directory), key=lambda path: path.stat().st_size).unlink()


def empty_all_files(directory):
    for path in (directory / '6').rglob('*'):
        if path.is_file():
            path.write_bytes(b'')


def lose_all_files(directory):
    shutil.rmtree(directory / '6')
    (directory / '6').mkdir()


@pytest.mark.parametrize('damage', [truncate, lose_a_file, empty_all_files, lose_all_files])
def test_a_damaged_newest_checkpoint(damage, directory, caplog):
    damage(directory)
    assert_falls_back(directory, caplog)


def test_a_checkpoint_that_is_still_being_written_is_left_alone_by_readers(directory, caplog):
    (directory / '6').rename(directory / '6.orbax-checkpoint-tmp')
    lost = max(
        (directory / '6.orbax-checkpoint-tmp').rglob('*'), key=lambda path: path.stat().st_size
    )
    lost.unlink()
    assert restored(directory)[0] == 3
    assert not caplog.records and (directory / '6.orbax-checkpoint-tmp').is_dir()
    with opened(directory) as checkpoints:  # of the run that goes on
        checkpoints.delete_after(3)
        assert f'checkpoint 6 in {directory} is half-written; going on from step 3' in caplog.text
        assert [path.name for path in directory.iterdir()] == ['3']
        checkpoints.save(6, items(6))
    assert restored(directory)[0] == 6


def test_a_half_written_checkpoint_alone_is_none(tmp_path):
    (tmp_path / 'checkpoints' / '3.orbax-checkpoint-tmp').mkdir(parents=True)
    assert not checkpoint.exist(tmp_path)


def test_where_all_are_damaged_the_error_says_what_is_wrong(directory):
    for path in directory.rglob('*'):
        if path.is_file():
            path.write_bytes(b'')
    with pytest.raises(ValueError, match=rf'^no readable checkpoint in {directory}: '):
        restored(directory)


def test_a_damaged_score_is_no_score(directory):
    (directory / '6' / 'metrics' / 'metrics').write_text('{"score": 0.9}')
    with opened(directory) as checkpoints:
        assert checkpoints.best_step() == 3


def test_checkpoints_from_before_there_were_sums_are_read(directory):
    sums = directory / '6' / checkpoint.SUMS
    assert {name.split('/')[0] for name in json.loads(sums.read_text())} == {*ITEMS, 'metrics'}
    sums.unlink()
    assert restored(directory)[0] == 6


def test_a_stop_that_the_hosts_agreed_on_within_several_steps_is_heard(tmp_path, monkeypatch):
    with contextlib.closing(checkpoint.Checkpoints(tmp_path)) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, 'reached_preemption', lambda step: step == 5)
        assert checkpoints.preempted(range(4, 7)) and not checkpoints.preempted(range(7, 10))
