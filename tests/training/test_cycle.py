"""Cyclic reinforcement: its gradients run through both stages; losses; what an iterative method remembers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import canet
from simpropnet_jax.models.canet import CANet
from simpropnet_jax.models.simpropnet import SimPropNet
from simpropnet_jax.training import history, objectives
from simpropnet_jax.training.state import TrainState

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

    def cut(*shape):
        return rng.uniform(0.3, 0.7, (*shape, 1, 1))

    masks, truth = (
        (ramp < cut(batch, shots)) + np.zeros((size, 1)),
        (ramp[:, None] < cut(batch)) + np.zeros(size),
    )

    def paint(mask):
        return rng.normal(size=(*mask.shape, 3)) + 3 * mask[..., None] * [1, -1, 0]

    arrays = paint(masks), masks, np.ones_like(masks), paint(truth), truth, np.ones_like(truth)
    return objectives.Episodes(
        *(jnp.asarray(x, jnp.float32) for x in arrays), jnp.ones(batch, jnp.int32)
    )


def cycle_loss(module):
    """params -> the loss of the second stage."""
    batch = episodes()
    masks = batch.masks.reshape(-1, *batch.masks.shape[2:])

    def loss(params):
        logits = module.apply(
            {'params': params},
            batch,
            None,
            dual=False,
            cycle='soft',
            method=objectives.forward,
            rngs={'dropout': jax.random.key(0)},
        )
        return objectives.cross_entropy(logits['cycle'], masks, jnp.ones_like(masks))

    return loss


def measured_slope(loss, params, unit):
    """By how much a loss rises along a direction of length one."""

    def at(distance):
        return float(loss(optax.tree.add_scale(params, distance, unit)))

    return (at(1e-3) - at(-1e-3)) / 2e-3


def parameters(module):
    params = jax.jit(module.init)(
        jax.random.key(1), jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))
    )['params']
    return jax.tree.map(
        lambda x: 30 * x, params
    )  # predictions far from 1/2: the second stage sees the first


@pytest.mark.parametrize('method', [SimPropNetOnPixels, CANetOnPixels])
def test_the_cycles_gradient_runs_through_both_stages(method, monkeypatch):
    module = method(**SMALL)
    loss, params = jax.jit(cycle_loss(module)), parameters(module)
    gradient = jax.jit(jax.grad(cycle_loss(module)))(params)
    softmax = jax.nn.softmax
    with monkeypatch.context() as patch:
        patch.setattr(objectives.jax.nn, 'softmax', lambda x: jax.lax.stop_gradient(softmax(x)))
        cut = jax.jit(jax.grad(cycle_loss(module)))(params)
    # Along what the first stage adds to the gradient, and the second has not, a stop_gradient at the mask shows most;
    # along the layer behind the backbone, one at the query's features.
    dot = optax.tree.vdot
    share = dot(gradient, cut) / dot(cut, cut)
    of_the_mask = jax.tree.map(lambda g, c: g - share * c, gradient, cut)
    of_the_features = optax.tree.zeros_like(gradient) | {'project': gradient['project']}
    for direction in (of_the_mask, of_the_features):
        length = optax.global_norm(direction)
        assert length > 0.01 * optax.global_norm(gradient)
        unit = optax.tree.scale(1 / length, direction)
        assert float(dot(gradient, unit)) == pytest.approx(
            measured_slope(loss, params, unit), rel=0.03
        )


def objective(transformed=0.0, **train):
    """The objective of CANet with the cycle: (state, batch) -> (metrics with the loss, history masks afterwards)."""
    config = canet.get_config('crc')
    config.train.update(size=65, support_scale=1.0, **train)
    minimised = jax.jit(
        objectives.episodic(
            CANetOnPixels(**SMALL),
            config.train,
            void='ignore',
            convention='torchvision',
            steps=5,
            tpc=config.tpc,
            transformed=transformed,
        )
    )

    def call(state, batch):
        loss, (metrics, changes) = minimised(state, batch, jax.random.key(2))
        return metrics | {'loss': loss}, changes['history']

    return call


@pytest.fixture(scope='module')
def state():
    """Of four pairs, an answer to the second and the third is known."""
    maps = history.blank(4, (9, 9)).at[1:3, :, :4].set(1.0).at[1:3, :, 4:].set(0.25)
    return TrainState(jnp.zeros((), jnp.int32), parameters(CANetOnPixels(**SMALL)), {}, (), maps)


@pytest.fixture(scope='module')
def batch():
    """The third and the first of the four pairs, as the loader gives them."""
    drawn, byte = episodes(), lambda x, low=0, high=1: np.uint8(np.clip(x, low, high))

    def image(x):
        return byte(128 + 20 * x, 0, 255)

    return {
        'support_image': image(drawn.supports),
        'support_label': byte(drawn.masks),
        'pair_id': jnp.array([2, 0]),
        'class_id': jnp.array([1, 2]),
        'query_image': image(drawn.queries),
        'query_label': byte(drawn.truth),
    }


@pytest.mark.parametrize(
    ('changes', 'names'),
    [
        ({'history_drop': 0.0}, {'query', 'cycle'}),
        ({'history_drop': 1.0}, {'query', 'cycle'}),
        ({'history_drop': 0.0, 'dual_prediction': True}, {'query', 'support', 'cycle'}),
        ({'history_drop': 0.0, 'transformed': 1.0}, {'query'}),
    ],
)
def test_losses_add_and_history_is_seen_and_kept_of_listed_pairs(changes, names, state, batch):
    call = objective(**changes)
    metrics, kept = call(state, batch)
    losses = {
        name.removeprefix('loss_'): value
        for name, value in metrics.items()
        if name.startswith('loss_')
    }
    assert losses.keys() == names
    assert float(metrics['loss']) == pytest.approx(float(sum(losses.values())))
    transformed = 'transformed' in changes
    changed = np.any(np.asarray(kept != state.history), (1, 2))
    np.testing.assert_array_equal(changed, [not transformed, False, not transformed, False])
    without, _ = call(state.replace(history=history.blank(4, (9, 9))), batch)
    seen = changes['history_drop'] == 0 and not transformed
    assert (without['loss_query'] != metrics['loss_query']) == seen


def test_history_is_kept_by_pair_dropped_by_draw_and_blank_at_first():
    maps = history.blank(3, (2, 2))
    pairs, yes = jnp.array([2, 0]), jnp.array([True, True])
    np.testing.assert_array_equal(history.recall(maps, pairs, yes), np.zeros((2, 2, 2, 2)))
    maps = history.remember(
        maps, pairs, jnp.stack([jnp.full((2, 2), 0.25), jnp.full((2, 2), 0.5)]), yes
    )
    maps = history.remember(maps, pairs, jnp.zeros((2, 2, 2)), jnp.array([False, True]))
    recalled = history.recall(maps, jnp.array([2, 0, 2, 1]), jnp.array([True, True, False, True]))
    np.testing.assert_array_equal(recalled[:, 0, 0], [[0.75, 0.25], [1, 0], [0, 0], [0, 0]])
