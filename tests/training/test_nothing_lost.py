"""What a run meets on a bad day: kill -9, a full disk, a second run, a read-only folder, other devices."""

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from simpropnet_jax import models
from simpropnet_jax.runtime import checkpoint, sharding
from simpropnet_jax.runtime.workdir import WriteError, only_run
from simpropnet_jax.training import loop
from tests.fakes import SMALL
from tests.training import tiny

KILLS = 12


@pytest.fixture(scope='module')
def half(small_config, tmp_path_factory, traced_once):
    """Make the work directory of a run at step 3 of 6; `small_config()` resumes it, with the tiny network."""
    workdir = tmp_path_factory.mktemp('half')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, 'build', tiny.build)
        loop.train_and_evaluate(small_config(**{'train.steps': 3}), workdir)
        yield workdir


@pytest.fixture
def workdir(half, tmp_path):
    """A copy of it."""
    return shutil.copytree(half, tmp_path / 'run')


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def losses(workdir):
    """{step: loss} of metrics.jsonl, each step once."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    lines = [line for line in lines if 'loss' in line]
    assert len({line['step'] for line in lines}) == len(lines)
    return {line['step']: line['loss'] for line in lines}


def newest(workdir):
    there = (workdir / 'checkpoints').glob('*')
    return max((int(path.name) for path in there if path.name.isdigit()), default=0)


def final(workdir):
    """What a run of `tiny.train` ended with: parameters and momenta, to the bit, and the loss of every step."""
    with np.load(workdir / 'final.npz') as arrays:
        return [array.tobytes() for array in arrays.values()], losses(workdir)


@pytest.mark.slow
def test_kills_at_random_moments_change_no_bit(small_config, tmp_path):
    steps, rng = 20, random.Random(0)
    config = tmp_path / 'config.json'
    config.write_text(
        json.dumps(small_config(**{'train.steps': steps, 'select.every': 1}).to_dict())
    )

    def start(workdir):
        process = tiny.processes().Process(target=tiny.train, args=(config, workdir))
        process.start()
        return process

    def finish(workdir):
        process = start(workdir)
        process.join()
        assert process.exitcode == 0 and newest(workdir) == steps
        return final(workdir)

    whole = finish(tmp_path / 'whole')
    workdir, kills = tmp_path / 'killed0', 0
    while kills < KILLS:
        before, process = newest(workdir), start(workdir)
        while (
            kills % 2 and process.is_alive() and newest(workdir) == before
        ):  # half of them while it trains and saves
            time.sleep(0.01)
        process.join(rng.uniform(0, 1.5))
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:  # it was faster than the kills: the next run
            assert process.exitcode == 0 and final(workdir) == whole
            workdir = tmp_path / f'killed{kills}'
        assert newest(workdir) >= before or not workdir.exists()
    assert finish(workdir) == whole


@contextlib.contextmanager
def largest_file(size):
    """As on a full disk, no file grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ('size', 'what'), [(200_000, 'checkpoint 6 in'), (12_000, 'run')]
)  # the latter: a picture
def test_a_full_disk_ends_the_run_and_with_room_again_it_goes_on(
    size, what, small_config, workdir, capfd
):
    before = contents(workdir / 'checkpoints' / '3')
    with largest_file(size), pytest.raises(WriteError) as error:
        loop.train_and_evaluate(small_config(), workdir)
    sentence = str(error.value)
    assert what in sentence and 'could not be written' in sentence and 'File too large' in sentence
    assert '\n' not in sentence
    assert sentence.endswith(
        '; the last good checkpoint is step 3; fix this and re-run the same command to resume'
    )
    assert newest(workdir) == 3 and contents(workdir / 'checkpoints' / '3') == before
    assert 'Traceback' not in capfd.readouterr().err
    loop.train_and_evaluate(small_config(), workdir)
    assert newest(workdir) == 6 and sorted(losses(workdir)) == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_ends_the_run_at_the_next_step(small_config, workdir, monkeypatch):
    def full(_):
        raise WriteError('checkpoint 3 could not be written')

    monkeypatch.setattr(checkpoint.Checkpoints, 'check', full)
    with pytest.raises(WriteError, match='could not be written; the last good checkpoint is step'):
        loop.train_and_evaluate(small_config(**{'train.log_every': 1}), workdir)
    assert sorted(losses(workdir)) == [1, 2, 3, 4]


def test_an_image_that_cannot_be_read_is_not_called_an_error_of_writing(
    small_config, workdir, monkeypatch
):
    def lose_an_image(*_):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), 'image.jpg')

    monkeypatch.setattr(loop._Log, 'add', lose_an_image)
    with pytest.raises(FileNotFoundError):
        loop.train_and_evaluate(small_config(), workdir)


def test_a_second_run_on_the_same_work_directory_is_refused(small_config, workdir):
    with only_run(workdir):
        before = contents(workdir)
        with pytest.raises(
            WriteError,
            match=rf'another training \(process {os.getpid()} on .*\) is using {workdir}',
        ):
            loop.train_and_evaluate(small_config(), workdir)
        assert contents(workdir) == before
    loop.train_and_evaluate(small_config(), workdir)


def test_a_read_only_work_directory_is_refused():
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as later:
        workdir = Path(name)
        (workdir / 'lock').touch()
        (workdir / 'lock').chmod(0o666)  # that an earlier run's lock opens proves nothing
        workdir.chmod(0o555)
        if os.geteuid() == 0:  # whom permissions do not stop
            os.seteuid(65534)
            later.callback(os.seteuid, 0)
        with pytest.raises(
            WriteError, match=rf'^{workdir} cannot be written \(.*Permission denied\); make it'
        ):
            with only_run(workdir):
                pass


def test_the_command_ends_in_one_sentence_where_there_can_be_no_work_directory(
    tmp_path, prepared_data, run_here
):
    (tmp_path / 'file').touch()
    flags = [
        f'--config.{name}={value}' for name, value in (SMALL | {'data.dir': prepared_data}).items()
    ]
    words = ['--config=configs/simpropnet.py:fold=1', f'--workdir={tmp_path}/file/run']
    done = run_here('train.py', *words, *flags)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert (
        sentence.startswith(f'error: {tmp_path}/file/run cannot be written')
        and 'Not a directory' in sentence
    )


def test_a_run_goes_on_with_equal_losses_on_other_numbers_of_devices(
    small_config, workdir, tmp_path, mesh_of, monkeypatch
):
    curves = []
    for devices in (8, 2, 1):  # 8 made the first three steps
        copy = shutil.copytree(workdir, tmp_path / f'on{devices}')
        monkeypatch.setattr(sharding, 'make_mesh', lambda n=devices: mesh_of(n))
        state = loop.train_and_evaluate(small_config(), copy)
        assert len(state.step.devices()) == devices
        curves.append([losses(copy)[step] for step in (4, 5, 6)])
    np.testing.assert_allclose(curves[1:], [curves[0]] * 2, rtol=1e-5)
