"""Parameters apart, and a step that does not care how many devices it runs on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import canet, simpropnet
from simpropnet_jax.runtime import sharding
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import history, objectives
from simpropnet_jax.training.phases import EPISODES, Phase, transformed
from simpropnet_jax.training.state import (
    init_state,
    learning_rate,
    make_optimizer,
    make_step,
    merge,
    split,
)
from tests.fakes import SMALL


def test_split_is_by_whole_path_elements_and_merge_undoes_it():
    params = {'backbone': {'a': 1}, 'backbone2': {'a': 2}, 'head': {'x': {'w': 3}, 'y': 4}}
    trainable, frozen = split(params, ('backbone', 'head/x'))
    assert frozen == {'backbone': {'a': 1}, 'head': {'x': {'w': 3}}}
    assert merge(trainable, frozen) == params
    with pytest.raises(ValueError, match="'bakcbone'.*begin with backbone, backbone2, head"):
        split(params, ('bakcbone',))


@pytest.mark.parametrize('name', ['sgd', 'rmsprop'])
def test_optimizer_is_pytorchs(name):
    torch = pytest.importorskip('torch', reason='PyTorch is the reference for SGD and RMSprop')
    from simpropnet_jax.config import common

    config = common.base().train
    config.optimizer = name
    rng = np.random.default_rng(0)
    start, gradients = (
        rng.normal(size=5).astype(np.float32),
        rng.normal(size=(4, 5)).astype(np.float32),
    )
    theirs = torch.nn.Parameter(torch.tensor(start))
    peers = {
        'sgd': functools.partial(torch.optim.SGD, momentum=config.momentum),
        'rmsprop': torch.optim.RMSprop,
    }
    peer = peers[name]([theirs], lr=config.learning_rate, weight_decay=config.weight_decay)
    optimizer, ours = make_optimizer(config, 4), jnp.asarray(start)
    state = optimizer.init(ours)
    for gradient in gradients:
        theirs.grad = torch.tensor(gradient)
        peer.step()
        updates, state = optimizer.update(jnp.asarray(gradient), state, ours)
        ours = ours + updates
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-6)


def batches(config, count):
    rng, size, batch = np.random.default_rng(0), config.train.size, config.train.batch
    for number in range(count):
        yield {
            'pair_id': (np.arange(batch) + batch * number).astype(np.int32) % 16,
            'class_id': np.ones(batch, np.int32),
            'support_image': rng.integers(0, 256, (batch, 1, size, size, 3), np.uint8),
            'support_label': rng.choice(np.array([0, 1, 255], np.uint8), (batch, 1, size, size)),
            'query_image': rng.integers(0, 256, (batch, size, size, 3), np.uint8),
            'query_label': rng.choice(np.array([0, 1, 255], np.uint8), (batch, size, size)),
        }


def simpropnet_config():
    """Use a width with fast convolutions on a CPU, with dropout, augmentation and ICA."""
    config = simpropnet.get_config()
    config.update_from_flattened_dict(SMALL | {'model.features': 128, 'model.dropout': 0.5})
    return config


def canet_config():
    """With the cycle, some transformed pairs, and history masks."""
    config = canet.get_config('crc,tpc_mixed')
    config.update_from_flattened_dict(
        SMALL | {'train.batch': 8, 'train.history_drop': 0.3, 'model.dropout': 0.0}
    )
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    'config', [simpropnet_config(), canet_config()], ids=lambda config: config.model.name
)
def test_one_and_eight_devices_have_equal_losses_and_compile_once(mesh_of, config):
    config.model.convention = 'torchvision'
    module = Method.from_config(config).module
    method = Method(config, module, {}, None)
    losses = {}
    for devices in (1, 8):
        mesh, optimizer = mesh_of(devices), make_optimizer(config.train, 10)
        objective = objectives.episodic(
            module,
            config.train,
            void='ignore',
            convention='torchvision',
            steps=5,
            tpc=config.tpc,
            transformed=transformed(config.tpc, Phase(EPISODES, 0, 10)),
        )
        step = make_step(objective, optimizer, seed=0, mesh=mesh)
        new_history = (lambda: history.blank(16, (5, 5))) if module.iterative else (lambda: None)
        state = init_state(
            method, optimizer, frozen=('backbone',), seed=0, mesh=mesh, new_history=new_history
        )
        before = jax.device_get(state.frozen)
        values = []
        for batch in sharding.prefetch(mesh, batches(config, 5)):
            state, metrics = step(state, batch)
            values.append(metrics['loss'])
        losses[devices] = np.array(jax.device_get(values))
        assert step._cache_size() == 1
        assert jax.tree.all(jax.tree.map(np.array_equal, before, jax.device_get(state.frozen)))
    np.testing.assert_allclose(losses[1], losses[8], rtol=1e-5)
    assert len(set(losses[1].tolist())) == 5


def test_learning_rate_rises_and_then_falls_to_zero():
    from simpropnet_jax.config import common

    config = common.base().train
    config.update(learning_rate=2.0, warmup_steps=4, poly_power=1.0)
    rate = learning_rate(config, 14)
    np.testing.assert_allclose(
        [rate(step) for step in (0, 1, 4, 9, 14)], [0, 0.5, 2, 1, 0], atol=1e-6
    )
