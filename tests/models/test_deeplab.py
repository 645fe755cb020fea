"""DeepLab v3+ against a plain PyTorch one; its weights; what its training changes; what it refuses."""

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import deeplabv3plus
from simpropnet_jax.backbones.normalise import CONVENTIONS
from simpropnet_jax.backbones.resnet import parameter_shapes
from simpropnet_jax.backbones.weights import load_backbone
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.deeplab import DeepLab
from simpropnet_jax.setup.data import open_data, training_sampler
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives
from simpropnet_jax.training.state import TrainState, split

WIDTH, FEATURES, DEPTHS = 8, 32, (3, 4, 6, 3)
PLACES = {
    'pyramid/conv1x1': 'conv1x1',
    'pyramid/rate6': 'rate6',
    'pyramid/rate12': 'rate12',
    'decoder1': 'decoder1',
    'pyramid/rate18': 'rate18',
    'pyramid/image_pooling': 'image_pooling',
    'pyramid/fuse': 'fuse',
    'low_level': 'low_level',
    'decoder2': 'decoder2',
}


def head_of(reference):
    """Our parameters of the head, from the reference's."""

    def convolution(m):
        return {
            'kernel': m.weight.detach().permute(2, 3, 1, 0).numpy(),
            'bias': m.bias.detach().numpy(),
        }

    params = {'pyramid': {}, 'classify': convolution(reference.classify)}
    for place, name in PLACES.items():
        conv, norm, _ = getattr(reference, name)
        folder, _, leaf = place.rpartition('/')
        (params[folder] if folder else params)[leaf] = {
            'conv': convolution(conv),
            'norm': {'scale': norm.weight.detach().numpy(), 'bias': norm.bias.detach().numpy()},
        }
    return params


def test_logits_are_those_of_pytorch_with_imported_layer4(tmp_path):
    torch = pytest.importorskip('torch')
    from tests.backbones.torch_resnet import randomise
    from tests.models.torch_deeplab import TorchDeepLab

    torch.manual_seed(0)
    reference = randomise(TorchDeepLab(WIDTH, FEATURES), seed=0).eval()
    for name in PLACES.values():
        torch.nn.init.uniform_(getattr(reference, name)[1].weight, 0.5, 1.5)
        torch.nn.init.normal_(getattr(reference, name)[1].bias, 0, 0.3)
    torch.save(
        reference.encoder.state_dict() | {'fc.bias': torch.zeros(1)}, tmp_path / 'resnet.pth'
    )
    backbone = load_backbone(tmp_path / 'resnet.pth', WIDTH, DEPTHS)
    params = {'backbone': backbone.params, **head_of(reference)}
    module = DeepLab('3x3', WIDTH, DEPTHS, features=FEATURES)
    ours = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))
    )
    assert jax.tree.map(lambda leaf: leaf.shape, ours['params']) == jax.tree.map(jnp.shape, params)
    images = np.random.default_rng(1).normal(size=(2, 97, 113, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    with jax.default_matmul_precision('highest'):
        logits = jax.jit(lambda p, x: module.apply({'params': p}, x, method='logits'))(
            params, images
        )
    assert logits.shape == (2, 25, 29, 21)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_layer4_is_imported_from_keras_layout_and_missed_where_it_is_not(tmp_path):
    rng, shapes = (
        np.random.default_rng(0),
        parameter_shapes(stride_on='1x1', width=4, depths=DEPTHS),
    )
    path = tmp_path / 'resnet.h5'
    with h5py.File(path, 'w') as file:
        for place, block in shapes.items():
            layers = {'conv1': block} if place == 'conv1' else block
            for conv, arrays in layers.items():
                stage, _, number = place[5:].partition('_')
                name = (
                    'conv1'
                    if place == 'conv1'
                    else (
                        f'conv{int(stage) + 1}_block{int(number) + 1}_{"0" if conv == "downsample" else conv[-1]}'
                    )
                )
                file[f'{name}_conv/kernel'] = rng.normal(size=arrays['kernel'])
                for entry in ('conv/bias', 'bn/gamma', 'bn/beta', 'bn/moving_mean'):
                    file[f'{name}_{entry}'] = rng.normal(size=arrays['bias'])
                file[f'{name}_bn/moving_variance'] = rng.uniform(0.2, 1, arrays['bias'])
    params = load_backbone(path, 4, DEPTHS).params
    assert jax.tree.map(np.shape, params) == shapes
    with h5py.File(path) as file:
        gamma, variance = (
            file[f'conv5_block2_3_bn/{name}'][()] for name in ('gamma', 'moving_variance')
        )
        factor = gamma / np.sqrt(variance + CONVENTIONS['keras'].epsilon)
        expected = file['conv5_block2_3_conv/kernel'][()] * factor
    np.testing.assert_allclose(
        params['layer4_1']['conv3']['kernel'], expected, rtol=1e-5, atol=1e-6
    )
    assert load_backbone(path, 4).params.keys() == {
        name for name in shapes if not name.startswith('layer4')
    }
    with h5py.File(path, 'a') as file:
        del file['conv5_block1_1_conv']
    with pytest.raises(
        ValueError, match='resnet.h5 has no entry conv5_block1_1_conv/.*stages of 3, 4, 6, 3 blocks'
    ):
        load_backbone(path, 4, DEPTHS)


@pytest.mark.parametrize('frozen', [(), ('backbone',)])
def test_gradients_reach_all_that_is_trained_and_nothing_else(frozen):
    module = DeepLab('3x3', WIDTH, (1, 1, 1, 1), features=FEATURES)
    variables = jax.jit(module.init)(
        jax.random.key(0), jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))
    )
    params, kept = split(variables['params'], frozen)
    rng = np.random.default_rng(0)
    batch = {
        'image': jnp.asarray(rng.integers(0, 256, (2, 66, 66, 3)), jnp.uint8),
        'label': jnp.asarray(rng.integers(0, 21, (2, 66, 66)), jnp.uint8),
    }
    objective = objectives.supervised(module, convention='torchvision', hidden=(), crop=33)
    state = TrainState(jnp.zeros((), jnp.int32), params, kept, ())

    @jax.jit
    def gradients(params):
        return jax.grad(lambda p: objective(state.replace(params=p), batch, jax.random.key(0))[0])(
            params
        )

    found = gradients(params)
    assert ('backbone' in found) == (frozen == ())
    still = [
        jax.tree_util.keystr(path)
        for path, g in jax.tree_util.tree_leaves_with_path(found)
        if not g.any()
    ]
    assert still == []
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(found))


@pytest.mark.parametrize('argument, head', [('', 16), ('cpu', 5)])
def test_the_configs_are_valid_and_say_how_large_the_network_is(argument, head):
    config = deeplabv3plus.get_config(argument)
    config_rules.validate(config, 8)
    config.model.update(convention='keras', dtype='float32')
    method = Method.from_config(config)
    assert method.supervised and not method.few_shot
    params = method.abstract()['params']

    def size(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree)) / 1e6

    assert size(params['backbone']) == pytest.approx(23.5 if argument == '' else 8.5, abs=0.1)
    assert size(params) - size(params['backbone']) == pytest.approx(head, abs=1)
    image = jax.ShapeDtypeStruct((1, 513, 513, 3), jnp.float32)
    logits = jax.eval_shape(
        lambda v, x: method.module.apply(v, x, method='logits'), method.abstract(), image
    )
    assert logits.shape == (1, 129, 129, 21)


def test_all_classes_and_all_images_are_trained_on(prepared_data):
    config = deeplabv3plus.get_config()
    config.data.update(name='pascal5i/subset', dir=str(prepared_data))
    source = open_data(config)
    sampler = training_sampler(config, source)
    assert set(sampler.pairs.image) == set(np.flatnonzero(source.index.lists['trainaug']))
    assert set(sampler.pairs.class_id) == set(range(1, 21))
    config.train.classes = 'base'
    assert set(training_sampler(config, source).pairs.class_id) == set(range(6, 21))
    config.train.classes, config.data.drop_novel_images = 'all', True
    with pytest.raises(
        ValueError,
        match="drop_novel_images must be False with config.train.classes 'all', got True",
    ):
        training_sampler(config, source)
