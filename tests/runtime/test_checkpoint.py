"""Checkpoints that a disk, a crash or a full quota damaged, without a training around them."""

import contextlib
import errno
import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.run import provenance
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.runtime.workdir import WriteError
from simpropnet_jax.setup.weights import restore
from tests.small_checkpoint import write_checkpoint

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


def test_a_full_disk_is_noticed_between_two_checkpoints(directory, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, 'write_json', full)
    with pytest.raises(WriteError, match='^checkpoint 9 in .* could not be written .No space left'):
        with opened(directory) as checkpoints:
            checkpoints.save(9, items(9))
            while checkpoints._manager.is_saving_in_progress():
                checkpoints.check()
            checkpoints.check()
            pytest.fail('it was not noticed')


def test_a_checkpoint_without_room_on_the_disk_is_not_begun(directory, monkeypatch):
    usage = shutil.disk_usage(directory)._replace(free=7_999)  # 50 x 40 numbers need 8,000
    monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
    with pytest.raises(WriteError, match='^checkpoint 9 in .* could not be written .No space left'):
        with opened(directory) as checkpoints:
            checkpoints.save(9, items(9))
    assert restored(directory)[0] == 6


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


def restored_best(directory):
    """What `eval --checkpoint RUN@best` reads."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    with opened(directory) as checkpoints:
        return checkpoints.restore_chosen(checkpoint.abstract_like(items(0), sharding), 'best')


SCORE_FILE = ('metrics', 'metrics')


@pytest.mark.parametrize('content', ['{"score": 0.1}', '{"score"', '', 'null', '[]', '{}', '\xff'])
def test_a_damaged_score_is_read_from_its_copy(content, directory, caplog):
    (directory / '6').joinpath(*SCORE_FILE).write_text(content)
    assert restored_best(directory)[::2] == (6, {})
    assert not caplog.records


@pytest.mark.parametrize('content', ['{', '', 'null', '[]', '{}', '{"score": 0.6}', '[' * 100_000])
def test_a_damaged_checksum_is_named_with_the_step_used_instead(
    content, directory, caplog, monkeypatch
):
    (directory / '6' / checkpoint.SUMS).write_text(content)
    step, read, damaged = restored_best(directory)
    jax.tree.map(np.testing.assert_array_equal, read, items(3))
    assert (step, list(damaged)) == (3, [6])
    assert damaged[6].startswith(f'{checkpoint.SUMS} is not as it was written')
    assert f'checkpoint 6 in {directory} is damaged ({damaged[6]}); falling back' in caplog.text
    monkeypatch.setenv(checkpoint.STRICT, '1')
    with pytest.raises(ValueError, match='^checkpoint 6 in .* is damaged .*leave out --strict'):
        restored_best(directory)


def test_a_checkpoint_without_any_score_left_is_named(directory, caplog, monkeypatch):
    sums = json.loads((directory / '6' / checkpoint.SUMS).read_text())
    del sums[checkpoint.SCORE]  # as older checkpoints are
    (directory / '6' / checkpoint.SUMS).write_text(json.dumps(sums))
    (directory / '6').joinpath(*SCORE_FILE).write_text('{"score": 0.9}')
    assert restored_best(directory)[::2] == (3, {6: 'its score cannot be read'})
    assert 'checkpoint 6' in caplog.text and 'using checkpoint 3' in caplog.text
    monkeypatch.setenv(checkpoint.STRICT, '1')
    with pytest.raises(ValueError, match='its score cannot be read'):
        restored_best(directory)


def test_checkpoints_from_before_there_were_sums_are_read(directory):
    sums = directory / '6' / checkpoint.SUMS
    assert {name.split('/')[0] for name in json.loads(sums.read_text())} == {
        *ITEMS,
        'metrics',
        checkpoint.SCORE,
    }
    sums.unlink()
    assert restored(directory)[0] == 6


def test_a_stop_that_the_hosts_agreed_on_within_several_steps_is_heard(tmp_path, monkeypatch):
    with contextlib.closing(checkpoint.Checkpoints(tmp_path)) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, 'reached_preemption', lambda step: step == 5)
        assert checkpoints.preempted(range(4, 7)) and not checkpoints.preempted(range(7, 10))


def test_the_result_file_names_the_damaged_checkpoint(tmp_path):
    method, weights = write_checkpoint(tmp_path / 'run', steps=(1, 2))
    (tmp_path / 'run' / 'checkpoints' / '1' / checkpoint.SUMS).write_text('{')
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    variables, step, replaced = restore(method, tmp_path / 'run', 'best', sharding)
    jax.tree.map(np.testing.assert_array_equal, variables, weights[2])
    origin = provenance(method, tmp_path / 'run', step, replaced)
    record = result_file.write_result(
        tmp_path / 'r.json', {}, protocol='p', protocol_hash='h', **origin
    )
    entry = json.loads((tmp_path / 'r.json').read_text())['checkpoint']
    problem = {'1': f'{checkpoint.SUMS} is not as it was written'}
    assert entry == record['checkpoint']
    assert entry['step'] == 2 and entry['replaced'] == {'asked': 'best', 'damaged': problem}
