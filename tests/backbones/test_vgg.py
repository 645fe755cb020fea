"""VGG-16 in every form that the methods need, and its two kinds of weights, against plain PyTorch."""

import contextlib
import re

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import canet, oslsm, panet
from simpropnet_jax.backbones.extractor import load_extractor
from simpropnet_jax.backbones.vgg import DEPTHS, VGG16, load_vgg16
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import prepare_method, store_config
from simpropnet_jax.setup.weights import backbone_weights

torch = pytest.importorskip('torch')

from tests.backbones import torch_vgg  # noqa: E402

WIDTH = 4
VARIANTS = {
    'published': (torch_vgg.PUBLISHED, True, dict(strides=(2, 2, 2, 2, 2))),
    'PANet': (
        torch_vgg.PANET,
        False,
        dict(pool=3, strides=(2, 2, 2, 1), dilations=(1, 1, 1, 1, 2), last_relu=False),
    ),
    'SG-One': (torch_vgg.SG_ONE, True, dict(pool=3, strides=(2, 2, 2, 1, 1))),
    'AMP': (
        torch_vgg.AMP,
        True,
        dict(ceil=True, strides=(2, 2, 2, None, None), dilations=(1, 1, 1, (1, 1, 2), (2, 4, 4))),
    ),
    'co-FCN and OSLSM': (torch_vgg.CAFFE, True, dict(ceil=True, strides=(2, 2, 2, 2, 2))),
}


@pytest.fixture(scope='module')
def network():
    return torch_vgg.randomise(torch_vgg.TorchVGG(width=WIDTH, classifier=True), seed=3).eval()


@pytest.fixture(scope='module')
def files(network, tmp_path_factory):
    """The same weights as torchvision and as Keras have them, with the classifier that real files end in."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp('vgg')
    state = network.state_dict()
    torch.save(state, folder / 'vgg.pth')
    save_file(
        {name: np.ascontiguousarray(value.numpy()) for name, value in state.items()},
        folder / 'vgg.safetensors',
    )
    names = [
        f'block{block}_conv{i}'
        for block, depth in enumerate(DEPTHS, 1)
        for i in range(1, depth + 1)
    ]
    with h5py.File(folder / 'vgg.h5', 'w') as file:
        for name, conv in zip(names, network.convolutions(), strict=True):
            file[f'{name}/{name}_W_1:0'] = conv.weight.detach().permute(2, 3, 1, 0).numpy()
            file[f'{name}/{name}_b_1:0'] = conv.bias.detach().numpy()
        flat = (
            network.classifier[0]
            .weight.detach()
            .reshape(-1, 8 * WIDTH, 7, 7)
            .permute(0, 2, 3, 1)
            .flatten(1)
        )
        kernels = (
            flat,
            network.classifier[3].weight.detach(),
            network.classifier[6].weight.detach(),
        )
        for name, kernel, i in zip(('fc1', 'fc2', 'predictions'), kernels, (0, 3, 6), strict=True):
            file[f'{name}/{name}_W_1:0'] = (
                kernel.numpy().T
            )  # of height, width, channels in one line
            file[f'{name}/{name}_b_1:0'] = network.classifier[i].bias.detach().numpy()
    return folder


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_form(variant, network, files):
    plan, last_relu, fields = VARIANTS[variant]
    x = (
        np.random.default_rng(0).normal(0, 1, (2, 75, 61, 3)).astype(np.float32)
    )  # rounds up and down differently
    with torch.no_grad():
        reference = torch_vgg.TorchVGG(plan, WIDTH, last_relu).take(network)
        expected = reference(torch.tensor(x.transpose(0, 3, 1, 2)))
    backbone = load_vgg16(files / 'vgg.safetensors', WIDTH)
    with jax.default_matmul_precision('highest'):
        found = jax.jit(VGG16(WIDTH, **fields).apply)({'params': backbone.params}, x)
    assert found.keys() == expected.keys()
    for level, value in expected.items():
        value = value.permute(0, 2, 3, 1).numpy()
        assert found[level].shape == value.shape, level
        assert 0.1 < (value > 0).mean() < 0.95 or level.startswith('pool')
        assert (value.min() < 0) == (level == 'conv5' and not last_relu)
        np.testing.assert_allclose(
            found[level], value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=level
        )


def test_the_classifier_is_a_convolution_over_a_larger_image(network, files):
    x = np.random.default_rng(1).normal(0, 1, (2, 224, 288, 3)).astype(np.float32)
    params = load_vgg16(files / 'vgg.h5', WIDTH, classifier=True).params
    with jax.default_matmul_precision('highest'):
        found = jax.jit(VGG16(WIDTH, strides=(2,) * 5, fully_connected=3).apply)(
            {'params': params}, x
        )
    with torch.no_grad():
        pooled = torch_vgg.TorchVGG(width=WIDTH).take(network)(
            torch.tensor(x.transpose(0, 3, 1, 2))
        )['pool5']
        for column in range(3):
            whole = network.classifier(pooled[..., column : column + 7].flatten(1))
            np.testing.assert_allclose(found['fc8'][:, 0, column], whole, rtol=1e-4, atol=1e-4)
            fc7 = network.classifier[:5](pooled[..., column : column + 7].flatten(1))
            np.testing.assert_allclose(found['fc7'][:, 0, column], fc7, rtol=1e-4, atol=1e-4)
    assert found['fc8'].shape == (2, 1, 3, 1000) and float(jnp.abs(found['fc8']).max()) > 0.1


def test_both_kinds_of_files_have_the_same_weights(files):
    def read(suffix):
        return load_vgg16(files / f'vgg.{suffix}', WIDTH, classifier=True)

    loaded = [read(suffix) for suffix in ('h5', 'pth', 'safetensors')]
    assert [one.convention for one in loaded] == ['keras', 'torchvision', 'torchvision']
    assert [(one.vgg, one.width) for one in loaded] == [(True, WIDTH)] * 3
    assert re.fullmatch('vgg.pth sha256:[0-9a-f]{64}', loaded[1].source)
    for one in loaded[1:]:
        jax.tree.map(np.testing.assert_array_equal, one.params, loaded[0].params)


def test_another_network_is_refused(network, files, tmp_path):
    wider = {
        name: value.repeat(2, *[1] * (value.ndim - 1))
        for name, value in network.state_dict().items()
    }
    torch.save(wider, tmp_path / 'wide.pth')
    torch.save(
        network.state_dict() | {'features.30.weight': torch.zeros(1)}, tmp_path / 'vgg19.pth'
    )
    torch.save({'conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pth')
    (tmp_path / 'vgg.npz').touch()
    for name, message in {
        'wide.pth': r'entry features.0.bias should have shape \(4,\), has \(8,\)',
        'vgg19.pth': 'has an entry features.30.weight that a VGG-16 of torchvision does not have',
        'resnet.pth': r'has no entry features.0.bias \(is it a VGG-16 of torchvision\?\)',
        'vgg.npz': 'is not a file of weights: it is neither HDF5',
    }.items():
        with pytest.raises(ValueError, match=f'{name}.*{message}|{message}.*{name}'):
            load_vgg16(tmp_path / name, WIDTH)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The work directory of a PANet on VGG-16, and the variables in it."""
    config = panet.get_config('vgg16')
    config.model.weights, config.model.convention, config.model.width = '', 'keras', WIDTH
    run = tmp_path_factory.mktemp('run')
    store_config(config, run)
    shapes = Method.from_config(config).abstract()
    draw = np.random.default_rng(0).normal
    variables = jax.tree.map(lambda leaf: jnp.asarray(draw(0, 0.2, leaf.shape), leaf.dtype), shapes)
    with contextlib.closing(checkpoint.Checkpoints(run / 'checkpoints')) as checkpoints:
        checkpoints.save(7, {'variables': variables})
    return run, variables


def with_weights(config, weights, workdir, width=WIDTH):
    config.train.batch = 8  # fits the devices of the tests
    config.model.weights, config.model.width = str(weights), width
    return prepare_method(config, workdir)


def test_a_work_directory_as_weights(trained, tmp_path):
    run, variables = trained
    method = with_weights(panet.get_config('vgg16'), run, tmp_path)
    assert method.config.model.convention == 'keras' and method.weights == f'panet of {run}, step 7'
    jax.tree.map(
        np.testing.assert_array_equal,
        method.pretrained['backbone'],
        variables['params']['backbone'],
    )
    with pytest.raises(
        ValueError, match=f'weights is {run}, which has a VGG-16, but this panet stands on a ResNet'
    ):
        with_weights(panet.get_config(), run, tmp_path)
    with pytest.raises(ValueError, match='has a VGG-16, but this canet stands on a ResNet'):
        with_weights(canet.get_config(), run, tmp_path)
    with pytest.raises(ValueError, match=f'model.width is 64, but the backbone in {run} has 4'):
        with_weights(panet.get_config('vgg16'), run, tmp_path, width=64)
    for network, message in {
        'vgg16': 'a VGG-16 that may pool otherwise',
        'resnet50': 'is a VGG-16, but the named',
    }.items():
        with pytest.raises(ValueError, match=message):
            load_extractor(network, backbone_weights(str(run)))


def test_weights_of_a_file_and_its_convention(files, tmp_path):
    method = with_weights(panet.get_config('vgg16'), files / 'vgg.pth', tmp_path)
    assert method.config.model.convention == 'torchvision'
    with pytest.raises(
        ValueError, match='has no entry conv1.weight .is it a ResNet-50 of torchvision'
    ):
        with_weights(panet.get_config(), files / 'vgg.pth', tmp_path)


def test_a_method_that_needs_the_classifier(network, files, trained, tmp_path):
    method = with_weights(oslsm.get_config('vgg16'), files / 'vgg.pth', tmp_path)
    shapes = method.abstract()['params']
    for part, layers in {'backbone': {'fc6', 'fc7'}, 'conditioning': {'fc6', 'fc7', 'fc8'}}.items():
        loaded = method.pretrained[part]
        assert {name for name in loaded if name.startswith('fc')} == layers
        assert jax.tree.map(np.shape, loaded) == jax.tree.map(lambda leaf: leaf.shape, shapes[part])
    without = {
        name: value for name, value in network.state_dict().items() if name.startswith('features')
    }
    torch.save(without, tmp_path / 'features.pth')
    with pytest.raises(
        ValueError,
        match=r'has no entry classifier.0.bias \(is it .* torchvision, with its classifier',
    ):
        with_weights(oslsm.get_config('vgg16'), tmp_path / 'features.pth', tmp_path)
    with pytest.raises(
        ValueError, match=f'weights is {trained[0]}, whose VGG-16 has not all of fc6, fc7, fc8'
    ):
        with_weights(oslsm.get_config('vgg16'), trained[0], tmp_path)
