"""Conditioning before, mixed into and after the training; a run of all parts that ends early in either phase."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from configs import canet, simpropnet
from simpropnet_jax.models import method
from simpropnet_jax.runtime.checkpoint import HALF_WRITTEN
from simpropnet_jax.training import loop, phases
from tests.fakes import SMALL
from tests.training import tiny


def planned(words, **changes):
    config = simpropnet.get_config(words)
    config.tpc.update(epochs=2)
    config.update_from_flattened_dict(changes)
    return [tuple(phase) for phase in phases.plan(config.tpc, 100, 10)]


def test_metrics_are_averaged_over_the_steps_that_have_them():
    conditioning, episodes = {'loss': 4.0}, {'loss': 1.0, 'loss_cycle': 0.5}
    assert loop._means({84: conditioning, 85: conditioning, 86: episodes}) == {
        'loss': 3.0,
        'loss_cycle': 0.5,
    }


def test_phases_follow_each_other_and_conditioning_comes_where_it_is_asked_for():
    assert planned('') == planned('tpc_mixed') == [('episodes', 0, 100)]
    assert planned('tpc') == [('conditioning', 0, 20), ('episodes', 20, 120)]
    assert planned('tpc_after', **{'tpc.steps': 7}) == [
        ('episodes', 0, 100),
        ('conditioning', 100, 107),
    ]


def test_words_share_the_steps_of_a_short_recipe_in_any_order():
    one, other = simpropnet.get_config('tpc,cpu'), simpropnet.get_config('cpu,tpc')
    assert one.to_dict() == other.to_dict()
    assert one.tpc.steps + one.train.steps == simpropnet.get_config('cpu').train.steps


@pytest.fixture
def config(prepared_data):
    config = canet.get_config('fold=1,crc,tpc')
    config.update_from_flattened_dict(
        SMALL
        | {
            'data.dir': str(prepared_data),
            'tpc.steps': 3,
            'train.steps': 4,
            'train.history_drop': 0.3,
            'train.rate_factor': 1000.0,
            'select.every': 100,
        }
    )
    return config


def final(state):
    return jax.device_get((state.params, state.opt_state, state.history))


@pytest.mark.slow
def test_a_run_that_is_stopped_or_killed_in_either_phase_goes_on_as_if_it_had_not_been(
    config, tmp_path, monkeypatch, caplog, one_device, traced_once
):
    monkeypatch.setattr(method, 'make_backbone', tiny.make_backbone)
    whole = final(loop.train_and_evaluate(config, tmp_path / 'whole'))
    assert (whole[2] >= 0).any() and (whole[2] < 0).any()  # of some pairs it remembers an answer
    add = loop._Log.add
    for stop in (2, 3, 5):  # in the conditioning, between the phases, after them

        def stopping(self, step, *made, stop=stop):
            add(self, step, *made)
            if step == stop:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(loop._Log, 'add', stopping)
        with pytest.raises(SystemExit):
            loop.train_and_evaluate(config, tmp_path / 'stopped')
        # As kill -9 leaves it while the checkpoint between the phases is being written.
        if stop == 3:
            written = (
                shutil.copytree(tmp_path / 'stopped', tmp_path / 'killed') / 'checkpoints' / '3'
            )
            written.rename(f'{written}{HALF_WRITTEN}')
    monkeypatch.setattr(loop._Log, 'add', add)
    for name in ('killed', 'stopped'):
        resumed = final(loop.train_and_evaluate(config, tmp_path / name))
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
            np.testing.assert_array_equal(a, b)
        traced_once()  # the second one resumes as a new process does
    assert 'killed/checkpoints is half-written; going on from step 2' in caplog.text
    rows = map(json.loads, (tmp_path / 'killed' / 'metrics.jsonl').read_text().splitlines())
    (scored,) = [row for row in rows if 'novel_val_miou' in row]
    assert scored['conditioning_steps'] == 3 and scored['steps_per_epoch'] >= 1


def test_history_wants_the_list_of_pairs(config, tmp_path):
    config.train.sampling = 'classes'
    with pytest.raises(
        ValueError, match="sampling must be 'listed_pairs' with history masks, got 'classes'"
    ):
        loop.train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
