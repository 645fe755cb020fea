"""Cyclic reinforcement: gradients run through both stages; and what an iterative method remembers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from simpropnet_jax.models.canet import CANet
from simpropnet_jax.models.simpropnet import SimPropNet
from simpropnet_jax.training import history, objectives

SMALL = dict(features=8, dropout=0.0, stride_on='3x3')


class OnPixels:
    """In place of the backbone: every eighth pixel."""

    def encode(self, images, train=False):
        return self.project(images[:, ::8, ::8], train)


class SimPropNetOnPixels(OnPixels, SimPropNet):
    attention_gain: float = 30.0


class CANetOnPixels(OnPixels, CANet):
    pass


def episodes(batch=2, shots=2, size=65):
    """Objects are the left or the upper part of an image, and of another colour."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 1, size)
    cut = lambda *shape: rng.uniform(0.3, 0.7, (*shape, 1, 1))
    masks, truth = (ramp < cut(batch, shots)) + np.zeros((size, 1)), (ramp[:, None] < cut(batch)) + np.zeros(size)
    paint = lambda mask: rng.normal(size=(*mask.shape, 3)) + 3 * mask[..., None] * [1, -1, 0]
    arrays = paint(masks), masks, np.ones_like(masks), paint(truth), truth, np.ones_like(truth)
    return objectives.Episodes(*(jnp.asarray(x, jnp.float32) for x in arrays))


def cycle_loss(module):
    """params -> the loss of the second stage."""
    batch = episodes()
    masks = batch.masks.reshape(-1, *batch.masks.shape[2:])

    def loss(params):
        logits = module.apply(
            {'params': params}, batch, None, dual=False, cyclic=True, method=objectives.forward,
            rngs={'dropout': jax.random.key(0)})  # fmt: skip
        return objectives.cross_entropy(logits['cycle'], masks, jnp.ones_like(masks))

    return loss


@pytest.mark.parametrize('method', [SimPropNetOnPixels, CANetOnPixels])
def test_the_cycles_gradient_runs_through_both_stages(method, monkeypatch):
    module = method(**SMALL)
    params = module.init(jax.random.key(1), jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33)))['params']
    params = jax.tree.map(lambda x: 30 * x, params)  # predictions far from 1/2: the second stage sees the first
    gradient = jax.jit(jax.grad(cycle_loss(module)))(params)
    softmax = jax.nn.softmax
    with monkeypatch.context() as patch:
        patch.setattr(objectives.jax.nn, 'softmax', lambda x: jax.lax.stop_gradient(softmax(x)))
        cut = jax.jit(jax.grad(cycle_loss(module)))(params)
    # Along what the first stage adds to the gradient, and the second has not, a stop_gradient shows most.
    dot = optax.tree.vdot
    share = dot(gradient, cut) / dot(cut, cut)
    direction = jax.tree.map(lambda g, c: g - share * c, gradient, cut)
    length = optax.global_norm(direction)
    assert length > 0.01 * optax.global_norm(gradient)
    loss = jax.jit(cycle_loss(module))
    at = lambda distance: float(
        loss(jax.tree.map(lambda p, d: p + distance / length * d, params, direction)))
    measured = (at(1e-3) - at(-1e-3)) / 2e-3
    assert float(dot(gradient, direction) / length) == pytest.approx(measured, rel=0.03)


def test_history_is_kept_by_pair_dropped_by_draw_and_blank_at_first():
    maps = history.blank(3, (2, 2))
    pairs, yes = jnp.array([2, 0]), jnp.array([True, True])
    np.testing.assert_array_equal(history.recall(maps, pairs, yes), np.zeros((2, 2, 2, 2)))
    maps = history.remember(maps, pairs, jnp.stack([jnp.full((2, 2), 0.25), jnp.full((2, 2), 0.5)]), yes)
    maps = history.remember(maps, pairs, jnp.zeros((2, 2, 2)), jnp.array([False, True]))
    recalled = history.recall(maps, jnp.array([2, 0, 2, 1]), jnp.array([True, True, False, True]))
    np.testing.assert_array_equal(recalled[:, 0, 0], [[0.75, 0.25], [1, 0], [0, 0], [0, 0]])
