"""Feature extractors against plain PyTorch on random weights in Keras' layout, and against Keras' own networks."""

import contextlib
import hashlib
import os
import subprocess
import sys

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import simpropnet
from simpropnet_jax.backbones import extractor as features
from simpropnet_jax.backbones import vgg, weights
from simpropnet_jax.backbones.extractor import load_extractor, pool
from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.backbones.resnet import ResNet
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import store_config
from simpropnet_jax.setup.weights import backbone_weights

WIDTH = 4
MEANS = np.array([103.939, 116.779, 123.68])  # of Caffe's BGR


def images(seed=0, shape=(2, 65, 81, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def caffe_input(torch, images):
    return torch.tensor(
        (images[..., ::-1] - MEANS).transpose(0, 3, 1, 2).copy(), dtype=torch.float32
    )


class Entries(dict):
    """'layer/array' -> random array, made when it is first asked for."""

    rng = np.random.default_rng(7)

    def kernel(self, layer, size, channels, filters):
        scale = np.sqrt(2 / (size * size * channels))
        self[f'{layer}/kernel'] = self.rng.normal(0, scale, (size, size, channels, filters)).astype(
            np.float32
        )
        self[f'{layer}/bias'] = self.rng.normal(0, 0.3, filters).astype(np.float32)
        return self[f'{layer}/kernel'].transpose(3, 2, 0, 1), self[f'{layer}/bias']

    def norm(self, layer, filters):
        for array in ('gamma', 'moving_variance'):
            self[f'{layer}/{array}'] = self.rng.uniform(0.3, 1, filters).astype(np.float32)
        for array in ('beta', 'moving_mean'):
            self[f'{layer}/{array}'] = self.rng.normal(0, 0.3, filters).astype(np.float32)
        return [
            self[f'{layer}/{array}']
            for array in ('moving_mean', 'moving_variance', 'gamma', 'beta')
        ]

    def save(self, path, name=lambda entry: entry):
        with h5py.File(path, 'w') as file:
            for entry, value in self.items():
                file[f'{entry.split("/")[0]}/{name(entry)}:0'] = value
        return path


def torch_resnet(torch, entries, x, depths):
    """Output of the last stage: stride 2 on the first 1x1 of every stage but the first, nowhere dilated."""

    def conv(layer, x, size, filters, stride=1):
        kernel, bias = map(torch.tensor, entries.kernel(f'{layer}_conv', size, x.shape[1], filters))
        x = torch.nn.functional.conv2d(x, kernel, bias, stride, padding=size // 2)
        return torch.nn.functional.batch_norm(
            x, *map(torch.tensor, entries.norm(f'{layer}_bn', filters)), eps=1.001e-5
        )

    x = torch.nn.functional.max_pool2d(torch.relu(conv('conv1', x, 7, WIDTH, 2)), 3, 2, 1)
    for stage, depth in enumerate(depths):
        filters = WIDTH * 2**stage
        for block in range(depth):
            name, stride = f'conv{stage + 2}_block{block + 1}', 2 if stage and not block else 1
            shortcut = x if block else conv(f'{name}_0', x, 1, 4 * filters, stride)
            y = torch.relu(conv(f'{name}_1', x, 1, filters, stride))
            y = conv(f'{name}_3', torch.relu(conv(f'{name}_2', y, 3, filters)), 1, 4 * filters)
            x = torch.relu(y + shortcut)
    return x


def torch_vgg(torch, entries, x):
    for block, (depth, filters) in enumerate([(2, 1), (2, 2), (3, 4), (3, 8), (3, 8)], 1):
        x = torch.nn.functional.max_pool2d(x, 2) if block > 1 else x
        for i in range(1, depth + 1):
            kernel, bias = map(
                torch.tensor,
                entries.kernel(f'block{block}_conv{i}', 3, x.shape[1], filters * WIDTH),
            )
            x = torch.relu(torch.nn.functional.conv2d(x, kernel, bias, padding=1))
    return x


def assert_same(found, expected):
    """Relative error below 1e-5 of the largest value."""
    assert found.shape == expected.shape and found.dtype == np.float32
    assert (expected > 0).mean() > 0.1  # not a comparison of zeros
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert error < 1e-5, f'relative error {error:.1e}'


def test_resnet101(tmp_path):
    torch = pytest.importorskip('torch')
    entries = Entries()
    expected = (
        torch_resnet(torch, entries, caffe_input(torch, images()), (3, 4, 23, 3))
        .permute(0, 2, 3, 1)
        .numpy()
    )
    extractor = load_extractor('resnet101', entries.save(tmp_path / 'r.h5'), WIDTH)
    with jax.default_matmul_precision('highest'):
        found = extractor(images())
    assert_same(found, expected)
    assert found.shape == (2, 3, 3, 32 * WIDTH)
    np.testing.assert_allclose(pool(found), expected.mean((1, 2)), rtol=1e-4)
    digest = hashlib.sha256((tmp_path / 'r.h5').read_bytes()).hexdigest()
    assert extractor.source == f'layer4 of ResNet-101, stride 32, r.h5 sha256:{digest}'
    with pytest.raises(
        ValueError,
        match='r.h5 has an entry conv4_block10_.* that a ResNet-50 of keras does not have',
    ):
        load_extractor('resnet50', tmp_path / 'r.h5', WIDTH)


@pytest.mark.parametrize(
    'stored',
    [
        lambda entry: (
            f'{entry.split("/")[0]}_{"W" if entry.endswith("kernel") else "b"}_1'
        ),  # the published file
        lambda entry: entry,  # as Keras writes now: block1_conv1/block1_conv1/kernel
    ],
)
def test_vgg16(stored, tmp_path):
    torch = pytest.importorskip('torch')
    entries = Entries()
    expected = torch_vgg(torch, entries, caffe_input(torch, images())).permute(0, 2, 3, 1).numpy()
    with jax.default_matmul_precision('highest'):
        found = load_extractor('vgg16', entries.save(tmp_path / 'v.h5', stored), WIDTH)(images())
    assert_same(found, expected)
    assert found.shape == (2, 4, 5, 8 * WIDTH)


def test_an_encoder_of_ours(tmp_path):
    """ResNet-50 to layer3, which test_pretrained.py compares with PyTorch and Keras."""
    torch = pytest.importorskip('torch')
    entries = Entries()
    torch_resnet(torch, entries, caffe_input(torch, images()), (3, 4, 6))
    found = load_extractor('resnet50', entries.save(tmp_path / 'r.h5'), WIDTH)(images())
    assert found.shape == (2, 9, 11, 16 * WIDTH)
    with pytest.raises(ValueError, match='has no entry conv4_block.*is it a ResNet-101 of keras'):
        load_extractor('resnet101', tmp_path / 'r.h5', WIDTH)


def test_the_backbone_of_a_work_directory(tmp_path):
    """Of any width, with layer4 or without, in its own convention."""
    config = simpropnet.get_config('cpu')
    config.model = ConfigDict(
        {
            'name': 'deeplab',
            'weights': '',
            'convention': 'torchvision',
            'width': WIDTH,
            'depths': (3, 4, 6, 1),
            'dtype': 'float32',
        }
    )
    run = tmp_path / 'run'
    run.mkdir()
    store_config(config, run)
    shapes = Method.from_config(config).abstract()
    draw = np.random.default_rng(0).normal
    variables = jax.tree.map(lambda leaf: jnp.asarray(draw(0, 0.2, leaf.shape), leaf.dtype), shapes)
    with contextlib.closing(checkpoint.Checkpoints(run / 'checkpoints')) as checkpoints:
        checkpoints.save(7, {'variables': variables})
    given = backbone_weights(str(run))
    extractor = load_extractor('resnet50', given, levels=('layer2', 'layer3'))
    network = ResNet('3x3', WIDTH)
    expected = network.apply(
        {'params': variables['params']['backbone']}, normalise(jnp.asarray(images()), 'torchvision')
    )
    expected = np.concatenate([expected['layer2'], expected['layer3']], -1)
    np.testing.assert_allclose(extractor(images()), expected, rtol=1e-4, atol=1e-5 * expected.max())
    assert extractor.source == f'layer2+layer3 of resnet50, deeplab of {run}, step 7'
    with pytest.raises(
        ValueError, match=r'step 7 has stages of \(3, 4, 6, 1\) blocks, .* needs \(3, 4, 23, 3\)'
    ):
        load_extractor('resnet101', given)
    with pytest.raises(ValueError, match='vgg16 has no use for deeplab of .*, a ResNet'):
        load_extractor('vgg16', given)
    with pytest.raises(ValueError, match=f'of {tmp_path}, a folder in which nothing was trained'):
        backbone_weights(str(tmp_path))
    assert backbone_weights('keras') == 'keras'


def test_mistakes_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="must be one of resnet101, vgg16, resnet50, got 'vgg19'"):
        load_extractor('vgg19')
    for name in features.NETWORKS:
        with pytest.raises(FileNotFoundError, match='weights not found: .*nowhere.h5'):
            load_extractor(name, tmp_path / 'nowhere.h5')
    entries = Entries()
    entries.kernel('block1_conv1', 3, 3, WIDTH)
    entries.kernel('block1_conv2', 3, WIDTH, WIDTH + 1)
    with pytest.raises(ValueError, match=r'block1_conv2/bias should have shape \(4,\), has \(5,\)'):
        load_extractor('vgg16', entries.save(tmp_path / 'v.h5'), WIDTH)
    del entries['block1_conv1/bias']
    with pytest.raises(
        ValueError, match='has no entry block1_conv1/block1_conv1_b_1 or block1_conv1/bias'
    ):
        load_extractor('vgg16', entries.save(tmp_path / 'v.h5'), WIDTH)
    with pytest.raises(ValueError, match='v.npz is not a file of weights'):
        (tmp_path / 'v.npz').touch()
        load_extractor('vgg16', tmp_path / 'v.npz')


def test_downloads_are_those_of_keras(tmp_path, monkeypatch):
    """Each network asks for its own file, in the folder that Keras uses."""
    asked, nothing = [], tmp_path / 'no.h5'
    monkeypatch.setattr(
        weights, 'fetch', lambda remote, folder: asked.append((remote, folder)) or nothing
    )
    monkeypatch.setenv('KERAS_HOME', str(tmp_path))
    for name in features.NETWORKS:
        with pytest.raises(FileNotFoundError):
            load_extractor(name)
    assert [remote.name for remote, _ in asked] == [
        'resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5',
        'vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5',
        'resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5',
    ]
    assert {folder for _, folder in asked} == {tmp_path / 'models'}


@pytest.mark.slow
def test_the_address_of_vgg_is_keras_own():
    pytest.importorskip('keras')
    from keras.src.applications import vgg16

    assert [vgg.KERAS_FILES[whole][0] for whole in (False, True)] == [
        vgg16.WEIGHTS_PATH_NO_TOP,
        vgg16.WEIGHTS_PATH,
    ]


# Keras' own network with every weight random.
KERAS_REFERENCE = """
import sys
import keras
import numpy as np

folder, rng = sys.argv[1], np.random.default_rng(0)
model = keras.applications.VGG16(weights=None, include_top=False, input_shape=(65, 81, 3))

def randomise(weight):
    if weight.name == 'kernel':
        return rng.standard_normal(weight.shape, np.float32) * np.sqrt(2 / np.prod(weight.shape[:-1]))
    return rng.normal(size=weight.shape) * 0.3

for weight in model.weights:
    weight.assign(randomise(weight))
images = rng.integers(0, 256, (1, 65, 81, 3), dtype=np.uint8)
x = keras.applications.vgg16.preprocess_input(images.astype(np.float32))
features = keras.Model(model.inputs, model.get_layer('block5_conv3').output)(x, training=False)
np.savez(f'{folder}/features.npz', images=images, features=np.asarray(features))
model.save(f'{folder}/weights.h5')
"""


@pytest.mark.slow
def test_keras_own_network(tmp_path):
    """VGG-16; test_weights.py has a ResNet."""
    pytest.importorskip('keras')
    environment = os.environ | {'KERAS_BACKEND': 'jax', 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-c', KERAS_REFERENCE, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / 'features.npz')
    with jax.default_matmul_precision('highest'):
        found = load_extractor('vgg16', tmp_path / 'weights.h5')(expected['images'])
    assert_same(found, expected['features'])
