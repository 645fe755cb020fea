"""Test a run that is stopped or damaged and resumes; test_nothing_lost.py kills it."""

import json
import os
import shutil
import signal
import struct

import jax
import numpy as np
import pytest
from tensorboard.util.tensor_util import make_ndarray

from simpropnet_jax.training import loop, selection

KILLED_AT = 5
pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def uninterrupted(small_config, tmp_path_factory, traced_once):
    """(work directory, parameters) of a run that nothing interrupted."""
    workdir = tmp_path_factory.mktemp('uninterrupted')
    return workdir, final(loop.train_and_evaluate(small_config(), workdir))


@pytest.fixture
def whole(uninterrupted, tmp_path):
    """The parameters of that run; tmp_path / 'whole' is a copy of its work directory, free to be damaged."""
    shutil.copytree(uninterrupted[0], tmp_path / 'whole')
    return uninterrupted[1]


def final(state):
    return jax.device_get((state.params, state.opt_state))


def assert_bitwise_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def lines(workdir):
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def at_step(monkeypatch, number, act):
    """Calls `act` when the metrics of a step come in."""
    add = loop._Log.add

    def patched(self, step, *made):
        add(self, step, *made)
        if step == number:
            act()

    monkeypatch.setattr(loop._Log, 'add', patched)


def test_sigterm_saves_and_the_same_command_goes_on(small_config, tmp_path, monkeypatch, whole):
    at_step(monkeypatch, KILLED_AT, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stopped:
        loop.train_and_evaluate(small_config(), tmp_path / 'stopped')
    assert stopped.value.code == loop.STOPPED_BY_SIGNAL
    assert lines(tmp_path / 'stopped')[-1]['step'] == KILLED_AT
    monkeypatch.undo()
    assert_bitwise_equal(
        final(loop.train_and_evaluate(small_config(), tmp_path / 'stopped')), whole
    )


def test_a_damaged_checkpoint_falls_back_to_the_one_before(small_config, tmp_path, whole, caplog):
    workdir = tmp_path / 'whole'
    for path in (workdir / 'checkpoints' / '6').rglob('*'):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[:500])
    state = loop.train_and_evaluate(small_config(), workdir)
    assert 'checkpoint 6' in caplog.text and 'falling back to checkpoint 3' in caplog.text
    assert_bitwise_equal(final(state), whole)


def test_another_config_on_the_same_workdir_is_refused(small_config, tmp_path, whole):
    with pytest.raises(ValueError, match=r'train.learning_rate: was 0.0025, now 0.1'):
        loop.train_and_evaluate(small_config(**{'train.learning_rate': 0.1}), tmp_path / 'whole')


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(
    small_config, tmp_path, monkeypatch
):
    flush = loop._Log.flush

    def poisoned(self, step):
        nan = {'loss': np.float32('nan')}
        self.waiting = [
            (n, m | nan if n == KILLED_AT else m, count) for n, m, count in self.waiting
        ]
        flush(self, step)

    monkeypatch.setattr(loop._Log, 'flush', poisoned)
    with pytest.raises(
        loop.NonFiniteLossError, match=r'nan.*at step 5; the last good checkpoint is step 3'
    ):
        loop.train_and_evaluate(small_config(), tmp_path)
    assert sorted(p.name for p in (tmp_path / 'checkpoints').iterdir()) == ['3']


def test_best_and_latest_are_kept(small_config, tmp_path, monkeypatch):
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(selection.Selection, 'run', lambda *_: next(scores))
    loop.train_and_evaluate(small_config(**{'select.every': 1}), tmp_path)
    assert sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir()) == [2, 5, 6]


def test_selection_writes_scores_and_pictures(small_config, tmp_path, whole):
    scored = [line for line in lines(tmp_path / 'whole') if 'novel_val_miou' in line]
    assert [line['step'] for line in scored] == [3, 6]
    assert {p.name for p in (tmp_path / 'whole' / 'figures').iterdir()} == {
        'step0000003.png',
        'step0000006.png',
    }
    (path,) = (tmp_path / 'whole').glob('events.out.tfevents*')
    read = [(event.step, value) for event in events(path) for value in event.summary.value]
    of_loss = {
        step: float(make_ndarray(value.tensor)) for step, value in read if value.tag == 'loss'
    }
    logged = {line['step']: line['loss'] for line in lines(tmp_path / 'whole') if 'loss' in line}
    assert of_loss == pytest.approx(logged) and len(logged) == 6
    pictures = [value.tensor.string_val for _, value in read if value.tag == 'episodes']
    assert pictures and all(png.startswith(b'\x89PNG') for _, _, png in pictures)


def events(path):
    """What TensorBoard reads: of each record the length, a checksum, the event, a checksum."""
    from tensorboard.compat.proto import event_pb2

    content = path.read_bytes()
    while content:
        (length,) = struct.unpack('<Q', content[:8])
        yield event_pb2.Event.FromString(content[12 : 12 + length])
        content = content[16 + length :]
