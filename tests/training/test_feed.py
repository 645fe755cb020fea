"""A training on images that are on the device, several steps at a time, is the training on streamed ones."""

import os
import signal

import jax
import numpy as np
import pytest

from simpropnet_jax import models
from simpropnet_jax.runtime import sharding
from simpropnet_jax.training import loop
from simpropnet_jax.training.phases import EPISODES, Phase, Trainer
from tests.training import tiny

STEPS = {
    'tpc.steps': 5,
    'train.steps': 5,
    'train.log_every': 100,
    'select.every': 4,
    'select.on': 'last',
}
RESIDENT = {'data.resident': 'always', 'train.steps_per_dispatch': 3}


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch, mesh_of, traced_once):
    """Trainings of this module are of the tiny network, on two devices."""
    monkeypatch.setattr(models, 'build', tiny.build)
    monkeypatch.setattr(sharding, 'make_mesh', lambda: mesh_of(2))


@pytest.fixture
def train(monkeypatch):
    """train(config, workdir, act): the state at the end and {step: loss}; act(step) is called after every dispatch."""
    add = loop._Log.add

    def run(config, workdir, act=lambda step: None):
        losses = {}

        def adding(self, step, metrics, count):
            found = np.ravel(metrics['loss'])[:count]
            losses.update(zip(range(step - count + 1, step + 1), found.tolist(), strict=True))
            add(self, step, metrics, count)
            act(step)

        monkeypatch.setattr(loop._Log, 'add', adding)
        return loop.train_and_evaluate(config, workdir), losses

    return run


def assert_bitwise_equal(one, other):
    def whole(state):
        return jax.tree.leaves(jax.device_get((state.params, state.opt_state)))

    for a, b in zip(whole(one), whole(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_dispatches_end_where_something_is_due():
    trainer = Trainer([Phase('conditioning', 0, 5), Phase(EPISODES, 5, 12)], [], [], [])
    assert list(trainer.counts(0, 3, (4, 100))) == [3, 1, 1, 1, 2, 1, 3]
    assert list(trainer.counts(7, 3, (4, 100))) == [1, 1, 3]
    assert list(trainer.counts(12, 3, (4, 100))) == []
    assert list(trainer.counts(3, 1, (4, 100))) == [1] * 9


def test_losses_are_the_same_and_an_interrupted_run_ends_with_the_same_parameters(
    small_config, tmp_path, train
):
    config = small_config('fold=1,tpc', **STEPS, **RESIDENT)
    _, streamed = train(small_config('fold=1,tpc', **STEPS), tmp_path / 'streamed')
    whole, losses = train(config, tmp_path / 'whole')
    assert list(losses) == list(streamed) == list(range(1, 11))
    assert len(set(losses.values())) == 10
    np.testing.assert_allclose(list(losses.values()), list(streamed.values()), rtol=1e-6)

    def stop(step):
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        train(config, tmp_path / 'stopped', stop)
    resumed, again = train(config, tmp_path / 'stopped')
    assert again == {step: losses[step] for step in range(7, 11)}
    assert_bitwise_equal(resumed, whole)


def test_a_loss_that_is_not_finite_is_named_by_its_step_within_a_group(
    small_config, tmp_path, monkeypatch
):
    add = loop._Log.add

    def adding(self, step, metrics, count):
        poisoned = np.where(np.arange(len(metrics['loss'])) == 1, np.nan, metrics['loss'])
        add(self, step, metrics | {'loss': poisoned}, count)

    monkeypatch.setattr(loop._Log, 'add', adding)
    with pytest.raises(loop.NonFiniteLossError, match='at step 2; there is no checkpoint yet'):
        loop.train_and_evaluate(small_config('fold=1,tpc', **STEPS, **RESIDENT), tmp_path)


def test_several_steps_of_streamed_images_are_refused_before_anything_is_written(
    small_config, tmp_path
):
    config = small_config(
        'fold=1,tpc', **STEPS, **RESIDENT | {'data.resident': 'auto'}
    )  # a CPU: streamed
    with pytest.raises(
        ValueError,
        match='steps_per_dispatch must be 1 if images are streamed, got 3. Keep them on',
    ):
        loop.train_and_evaluate(config, tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
