"""SimPropNet as a whole: its published size, its gradients, and inputs that have nothing in them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import simpropnet as simpropnet_config
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives
from simpropnet_jax.training.state import TrainState, merge, split

SIZE = 33


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def build(argument='', **fields):
    config = simpropnet_config.get_config(argument)
    config.model.convention = 'torchvision'
    config.model.update(fields)
    config.train.size = SIZE
    module = Method.from_config(config).module
    return config, module


def init(module):
    return jax.jit(module.init)(
        jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )['params']


def test_parameters_are_the_papers():
    """14.76 M trainable of 23.3 M; the baseline is CANet's 10,494,466 without its k-shot attention."""
    for argument, trainable in (('', 14_758_658), ('dpr', 10_494_466), ('baseline', 10_494_466)):
        _, module = build(argument)
        params = jax.eval_shape(lambda module=module: init(module))
        head, frozen = split(params, ('backbone',))
        assert count(head) == trainable
        assert (
            count(frozen) == 8_528_000
        )  # 8,543,296 with batch norms' scale and offset in place of biases
    assert round((14_758_658 + 8_528_000) / 1e6, 1) == 23.3


@pytest.fixture(scope='module')
def narrow():
    module = build(width=8, features=16, dropout=0.0)[1]
    return module, init(module)


def batch_of(labels_support, labels_query):
    rng = np.random.default_rng(0)
    size = (len(labels_query), SIZE, SIZE)
    return {
        'support_image': rng.integers(0, 256, (size[0], 1, SIZE, SIZE, 3), np.uint8),
        'query_image': rng.integers(0, 256, (*size, 3), np.uint8),
        'class_id': np.ones(size[0], np.int32),
        'support_label': np.broadcast_to(np.asarray(labels_support, np.uint8), size)[
            :, None
        ].copy(),
        'query_label': np.broadcast_to(np.asarray(labels_query, np.uint8), size).copy(),
    }


@partial(jax.jit, static_argnums=0)
def gradients(module, params, batch):
    """Loss and gradients, compiled once for each module."""
    config, _ = build()
    config.train.support_scale = 1.0
    trainable, frozen = split(params, ('backbone',))
    objective = objectives.episodic(
        module, config.train, void='ignore', convention='torchvision', steps=10
    )

    def loss(trainable):
        state = TrainState(jnp.zeros((), jnp.int32), trainable, frozen, None)
        return objective(state, batch, jax.random.key(1))[0]

    return jax.value_and_grad(loss)(trainable)


def half_mask():
    mask = np.zeros((2, SIZE, SIZE), np.uint8)
    mask[:, :, : SIZE // 2] = 1
    return mask


# What the formulas themselves leave without a gradient, see docs/explanation/choices_simpropnet.md. An instance norm
# takes every channel's mean away: with it goes the bias of a convolution before it, and, where the fusion ends in a
# bare norm, all that image pooling could see.
BIASES = {f'fusion/conv{i}/bias' for i in (1, 2, 3)}
DEAD = {
    'none': BIASES | {'decoder/image_pooling/conv/kernel'},
    'relu': BIASES,
    'block': {'decoder/image_pooling/conv/kernel'},
}


@pytest.mark.parametrize('activation', DEAD)
def test_gradients_reach_every_trainable_parameter_but_those_that_the_formulas_leave_dead(
    narrow, activation
):
    _, params = narrow
    module = build(width=8, features=16, dropout=0.0, fbaf_activation=activation)[1]
    _, grads = gradients(module, params, batch_of(half_mask(), half_mask()))
    _, frozen = split(params, ('backbone',))
    flat = traverse_util.flatten_dict(grads, sep='/')
    size = {path: float(jnp.sqrt(jnp.square(gradient).mean())) for path, gradient in flat.items()}
    assert {path for path in size if size[path] < 1e-5 * max(size.values())} == DEAD[activation]
    assert not set(grads) & set(frozen)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, merge(*split(params, ('backbone',))), params))


@pytest.mark.parametrize('value', [0, 1, 255], ids=['empty', 'full', 'all void'])
def test_degenerate_masks_give_finite_losses_and_gradients(narrow, value):
    module, params = narrow
    constant = np.full((2, SIZE, SIZE), value, np.uint8)
    loss, grads = gradients(module, params, batch_of(constant, constant))
    assert np.isfinite(loss)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_bfloat16_computes_nearly_the_same_with_float32_parameters(narrow):
    module, params = narrow
    half = build(width=8, features=16, dropout=0.0, dtype='bfloat16')[1]
    batch = batch_of(half_mask(), half_mask())
    loss, grads = gradients(module, params, batch)
    half_loss, half_grads = gradients(half, params, batch)
    np.testing.assert_allclose(half_loss, loss, rtol=1e-2)
    assert {x.dtype for x in jax.tree.leaves(half_grads)} == {jnp.dtype('float32')}
    assert half_loss != loss


def test_k_shot_is_the_mean_of_one_shot_probes(narrow):
    module, params = narrow
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.uniform(size=(2, 5, 5, 5, 16)), jnp.float32)
    masks = jnp.asarray(rng.integers(0, 2, (2, 5, SIZE, SIZE)), jnp.float32)

    def probe(f, m):
        return module.apply({'params': params}, f, m, method='probe')

    several, single = (
        probe(features, masks),
        [probe(features[:, k : k + 1], masks[:, k : k + 1]) for k in range(5)],
    )
    np.testing.assert_allclose(
        several.foreground, np.mean([p.foreground for p in single], 0), rtol=1e-5
    )
    np.testing.assert_allclose(
        several.background, np.mean([p.background for p in single], 0), rtol=1e-5
    )


def test_void_counts_in_neither_mask_or_as_background():
    label = jnp.array([[0, 1, 255]], jnp.uint8)
    foreground, valid = objectives.foreground_and_valid(label, 'ignore')
    assert foreground.tolist() == [[0, 1, 0]] and valid.tolist() == [[1, 1, 0]]
    foreground, valid = objectives.foreground_and_valid(label, 'background')
    assert foreground.tolist() == [[0, 1, 0]] and valid.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize('weight', [1.0, 2.5])
def test_cross_entropy_is_pytorchs_with_ignored_pixels(weight):
    torch = pytest.importorskip('torch', reason='PyTorch is the reference for the loss')
    rng = np.random.default_rng(0)
    logits, label = (
        rng.normal(size=(2, 9, 9, 2)).astype(np.float32),
        rng.choice([0, 1, 255], (2, 9, 9)),
    )
    masks = objectives.foreground_and_valid(jnp.asarray(label, jnp.uint8), 'ignore')
    ours = objectives.cross_entropy(jnp.asarray(logits), *masks, weight)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits).permute(0, 3, 1, 2),
        torch.tensor(label),
        torch.tensor([1.0, weight]),
        ignore_index=255,
    )
    np.testing.assert_allclose(ours, theirs.item(), rtol=1e-5)
