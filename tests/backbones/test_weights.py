"""The ResNet and its imported weights against Keras' own network and against a plain PyTorch one."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from PIL import Image

from configs import canet
from simpropnet_jax.backbones import weights as pretrained
from simpropnet_jax.backbones.normalise import CONVENTIONS, normalise
from simpropnet_jax.backbones.resnet import ResNet
from simpropnet_jax.backbones.weights import DEPTHS_50, load_backbone
from simpropnet_jax.setup.run import prepare_method

# Keras' own ResNet-50 with every weight random, batch norm statistics included. Its layer1 and layer2 are
# compared as they stand. For layer3 Keras' graph is cloned, weights kept, with conv4's stride taken out and
# its 3x3 convolutions dilated.
KERAS_REFERENCE = """
import sys
import keras
import numpy as np

folder, rng = sys.argv[1], np.random.default_rng(0)
model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(65, 81, 3))

def randomise(weight):
    if weight.name == 'kernel':
        return rng.normal(size=weight.shape) * np.sqrt(2 / np.prod(weight.shape[:-1]))
    if weight.name in ('gamma', 'moving_variance'):
        return rng.uniform(0.2, 1, weight.shape)
    return rng.normal(size=weight.shape) * 0.3

for weight in model.weights:
    weight.assign(randomise(weight))

def dilate(layer):
    config = layer.get_config()
    if layer.name in ('conv4_block1_0_conv', 'conv4_block1_1_conv'):
        config['strides'] = (1, 1)
    if layer.name.startswith('conv4_') and layer.name.endswith('_2_conv'):
        config['dilation_rate'] = (2, 2)
    return type(layer).from_config(config)

dilated = keras.models.clone_model(model, clone_function=dilate)
dilated.set_weights(model.get_weights())

def features(model, layer, x):
    model = keras.Model(model.inputs, model.get_layer(layer).output)
    return np.asarray(model(keras.applications.resnet.preprocess_input(x.astype(np.float32)), training=False))

images = rng.integers(0, 256, (2, 65, 81, 3), dtype=np.uint8)
np.savez(
    f'{folder}/features.npz',
    images=images,
    layer1=features(model, 'conv2_block3_out', images),
    layer2=features(model, 'conv3_block4_out', images),
    layer3=features(dilated, 'conv4_block6_out', images),
)
model.save(f'{folder}/nested.h5')
"""


@pytest.fixture(scope='module')
def keras_reference(tmp_path_factory):
    """A folder with Keras' features and weights, within `model_weights` and flat as it publishes them."""
    pytest.importorskip('keras')
    folder = tmp_path_factory.mktemp('keras')
    # in a separate process: Keras fixes its backend at import
    environment = os.environ | {'KERAS_BACKEND': 'jax', 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, '-c', KERAS_REFERENCE, folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with h5py.File(folder / 'nested.h5') as nested, h5py.File(folder / 'flat.h5', 'w') as flat:
        for layer in nested['model_weights']:
            nested.copy(f'model_weights/{layer}', flat)
    return folder


@pytest.fixture(scope='module')
def torch_reference(tmp_path_factory):
    """A folder with the weights of a random PyTorch network in torchvision's names, and its features."""
    torch = pytest.importorskip('torch')
    from safetensors.numpy import save_file

    from tests.backbones.torch_resnet import TorchResNet, randomise

    folder = tmp_path_factory.mktemp('torch')
    model = randomise(TorchResNet(), seed=0).eval()
    images = np.random.default_rng(1).integers(0, 256, (2, 65, 81, 3), dtype=np.uint8)
    x = torch.tensor(images).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        features = model((x - mean[:, None, None]) / std[:, None, None])
    np.savez(
        folder / 'features.npz',
        images=images,
        **{name: value.permute(0, 2, 3, 1).numpy() for name, value in features.items()},
    )
    # a real file has these, too
    state = model.state_dict() | {
        'layer4.0.conv1.weight': torch.zeros(1),
        'fc.bias': torch.zeros(1),
    }
    torch.save(state, folder / 'resnet50.pth')
    save_file(
        {name: value.numpy() for name, value in state.items()}, folder / 'resnet50.safetensors'
    )
    return folder


def assert_same_features(weights, expected):
    """Relative error of each level below 1e-5 of its largest value."""
    backbone = load_backbone(weights)
    network = ResNet(CONVENTIONS[backbone.convention].stride_on)
    with jax.default_matmul_precision('highest'):
        images = normalise(expected['images'], backbone.convention)
        features = network.apply({'params': backbone.params}, images)
    for name in ('layer1', 'layer2', 'layer3'):
        assert features[name].shape == expected[name].shape
        assert (expected[name] > 0).mean() > 0.1  # not a comparison of zeros
        error = (
            np.abs(np.asarray(features[name]) - expected[name]).max() / np.abs(expected[name]).max()
        )
        assert error < 1e-5, f'{name}: relative error {error:.1e}'


@pytest.mark.parametrize('layout', ['flat.h5', 'nested.h5'])
def test_keras_features(keras_reference, layout):
    assert_same_features(keras_reference / layout, np.load(keras_reference / 'features.npz'))


@pytest.mark.parametrize('name', ['resnet50.pth', 'resnet50.safetensors'])
def test_torchvision_features(torch_reference, name):
    assert_same_features(torch_reference / name, np.load(torch_reference / 'features.npz'))


def with_weights(path, convention):
    """CANet as a run would have it."""
    config = canet.get_config()
    config.train.batch = 8  # fits the devices of the tests
    config.model.weights, config.model.convention = str(path), convention
    return prepare_method(config, path.parent / 'run')


@pytest.mark.parametrize(
    ('asked', 'got', 'stride_on'), [('auto', 'torchvision', '3x3'), ('canet', 'canet', '1x1')]
)
def test_torchvision_weights_may_run_in_the_convention_of_canets_code(
    torch_reference, asked, got, stride_on
):
    method = with_weights(torch_reference / 'resnet50.safetensors', asked)
    assert method.config.model.convention == got
    assert method.module.stride_on == stride_on


def test_keras_weights_may_not(keras_reference):
    with pytest.raises(
        ValueError,
        match=r"convention is 'canet', but flat\.h5 .* has the convention 'keras'; leave it 'auto'",
    ):
        with_weights(keras_reference / 'flat.h5', 'canet')


def test_safetensors_need_no_torch(torch_reference, monkeypatch):
    monkeypatch.setitem(sys.modules, 'torch', None)
    assert load_backbone(torch_reference / 'resnet50.safetensors').convention == 'torchvision'
    with pytest.raises(ImportError, match=r'resnet50\.pth needs PyTorch'):
        load_backbone(torch_reference / 'resnet50.pth')


def test_source_names_the_file_by_content(torch_reference):
    path = torch_reference / 'resnet50.safetensors'
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load_backbone(path).source == f'resnet50.safetensors sha256:{digest}'


def _drop(file):
    del file['conv3_block2_1_bn/conv3_block2_1_bn/gamma']


def _add(file):
    file['conv4_block7_1_conv/kernel:0'] = np.zeros(1)


def _reshape(file):
    del file['conv1_conv/conv1_conv/kernel']
    file['conv1_conv/conv1_conv/kernel'] = np.zeros((7, 7, 4, 64))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (_drop, 'has no entry conv3_block2_1_bn/gamma'),
        (_add, 'has an entry conv4_block7_1_conv/kernel that a ResNet-50 of keras does not have'),
        (_reshape, 'entry conv1_conv/kernel should have shape (7, 7, 3, 64), has (7, 7, 4, 64)'),
    ],
)
def test_wrong_entries_are_named(keras_reference, tmp_path, damage, message):
    path = tmp_path / 'damaged.h5'
    path.write_bytes((keras_reference / 'flat.h5').read_bytes())
    with h5py.File(path, 'a') as file:
        damage(file)
    with pytest.raises(ValueError, match=re.escape(f'{path}') + '.*' + re.escape(message)):
        load_backbone(path)


@pytest.mark.parametrize('suffix', ['.h5', '.pth', '.safetensors'])
def test_truncated_file(tmp_path, suffix):
    if suffix == '.pth':
        pytest.importorskip('torch')
    path = tmp_path / f'truncated{suffix}'
    path.write_bytes(b'\x10\0\0\0 not a weight file')
    with pytest.raises(ValueError, match=rf'truncated\{suffix} is not a file of weights'):
        load_backbone(path)


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match='backbone weights not found: .*nowhere.h5'):
        load_backbone(tmp_path / 'nowhere.h5')
    (tmp_path / 'weights.npz').touch()
    with pytest.raises(ValueError, match=r'weights\.npz is not a file of weights: it is neither'):
        load_backbone(tmp_path / 'weights.npz')


TINY = (8, (1, 1, 1), True)  # width, depths, deep stem


@pytest.fixture(scope='module')
def deep_stem():
    """A tiny PyTorch network with the stem of resnet50_v2.pth, of PFENet and others."""
    pytest.importorskip('torch')
    from tests.backbones.torch_resnet import TorchResNet, randomise

    return randomise(TorchResNet(*TINY), seed=0).eval()


def test_a_deep_stem(deep_stem, tmp_path):
    import torch

    path = tmp_path / 'resnet50_v2.pth'
    torch.save(deep_stem.state_dict(), path)
    with pytest.raises(ValueError, match='has a deep stem, .* as in simpropnet:fold=2,deep_stem'):
        load_backbone(path, *TINY[:2])
    backbone = load_backbone(path, *TINY)
    images = np.random.default_rng(1).normal(size=(1, 33, 41, 3)).astype(np.float32)
    with torch.no_grad():
        expected = deep_stem(torch.tensor(images).permute(0, 3, 1, 2))
    network = ResNet('3x3', *TINY[:2], deep_stem=True)
    found = network.apply({'params': backbone.params}, jax.numpy.asarray(images))
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)


FORMS = {
    'whole.pth': lambda state: state,
    'no_ending': lambda state: state,
    'wrong_ending.h5': lambda state: state,
    'training.pth': lambda state: {'epoch': 3, 'state_dict': state},
    'parallel.pth': lambda state: {f'module.{name}': one for name, one in state.items()},
    'part.pth': lambda state: {
        'head.weight': state['bn1.bias'],
        **{f'module.backbone.{name}': one for name, one in state.items()},
    },
    'half.pth': lambda state: {name: one.bfloat16() for name, one in state.items()},
    'half.safetensors': lambda state: {name: one.bfloat16() for name, one in state.items()},
}


@pytest.mark.parametrize('name', FORMS)
def test_the_forms_in_which_others_save_weights(deep_stem, tmp_path, name):
    import torch
    from safetensors.torch import save_file as save_tensors

    save = save_tensors if name.endswith('.safetensors') else torch.save
    save(FORMS[name](deep_stem.state_dict()), tmp_path / name)
    torch.save(deep_stem.state_dict(), tmp_path / 'plain.pth')
    expected, found = (load_backbone(tmp_path / file, *TINY) for file in ('plain.pth', name))
    close = {'rtol': 0.02, 'atol': 0.02} if 'half' in name else {'rtol': 0, 'atol': 0}
    for one, other in zip(
        jax.tree.leaves(expected.params), jax.tree.leaves(found.params), strict=True
    ):
        np.testing.assert_allclose(other, one, **close)


def test_values_that_no_weight_has_and_other_objects_are_refused(deep_stem, tmp_path):
    import torch

    path = tmp_path / 'resnet50.pth'
    for name, value, words in (
        ('layer1.0.conv1.weight', float('nan'), 'NaN or infinity'),
        ('bn1.running_var', -1.0, 'negative variances'),
    ):
        state = {name: one.clone() for name, one in deep_stem.state_dict().items()}
        state[name].view(-1)[0] = value
        torch.save(state, path)
        with pytest.raises(ValueError, match=f'resnet50.pth: entry {name} holds {words}'):
            load_backbone(path, *TINY)
    torch.save({'model': Path('x')}, path)
    with pytest.raises(ValueError, match='holds other objects than tensors') as refused:
        load_backbone(path, *TINY)
    assert 'weights_only' not in str(refused.value)
    torch.save(deep_stem.state_dict(), tmp_path / 'resnet50-00000000.pth')
    with pytest.raises(ValueError, match='SHA-256 does not begin with 00000000, as its name says'):
        load_backbone(tmp_path / 'resnet50-00000000.pth', *TINY)


def test_unknown_convention():
    with pytest.raises(ValueError, match="must be one of keras, torchvision, canet, got 'caffe'"):
        normalise(np.zeros((1, 8, 8, 3), np.uint8), 'caffe')


DOWNLOAD = """
import sys
from simpropnet_jax.backbones import weights as pretrained
pretrained.KERAS_FILES[pretrained.DEPTHS_50] = sys.argv[1:]
try:
    print(pretrained.load_backbone('keras').source)
except OSError as error:
    print('refused:', error)
assert 'tensorflow' not in sys.modules
"""


def test_download_is_checked_by_its_hash(keras_reference, tmp_path):
    """The download of a file:// address, into a cache of the test."""
    published = keras_reference / 'flat.h5'
    right = hashlib.md5(published.read_bytes()).hexdigest()
    root = Path(pretrained.__file__).parents[2]

    def download(digest, cache):
        environment = os.environ | {'KERAS_HOME': str(tmp_path / cache), 'PYTHONPATH': str(root)}
        environment.pop('KERAS_BACKEND', None)
        command = [sys.executable, '-c', DOWNLOAD, published.as_uri(), digest]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert hashlib.sha256(published.read_bytes()).hexdigest() in download(right, 'right')
    assert 'refused: the backbone weights could not be downloaded' in download('0' * 32, 'wrong')


@pytest.mark.parametrize(
    ('depths', 'name'),
    [
        ((3, 4, 6), 'resnet50'),
        ((3, 4, 6, 3), 'resnet50'),
        ((3, 4, 23), 'resnet101'),
        ((3, 4, 23, 3), 'resnet101'),
    ],
)
def test_the_download_is_of_these_depths(depths, name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        pretrained, 'fetch', lambda remote, folder: asked.append(remote) or tmp_path / 'no.h5'
    )
    with pytest.raises(FileNotFoundError):
        load_backbone('keras', depths=depths)
    (remote,) = asked
    assert remote.name == f'{name}_weights_tf_dim_ordering_tf_kernels_notop.h5'
    assert remote.md5 == dict(pretrained.KERAS_FILES.values())[remote.urls[0]]


def test_no_download_of_other_depths(monkeypatch):
    monkeypatch.setattr(
        pretrained, 'fetch', lambda remote, folder: pytest.fail(f'asked for {remote}')
    )
    for depths in ((3, 8, 36, 3), (3, 4), (3, 4, 6, 2)):
        with pytest.raises(
            ValueError, match=re.escape(f'nothing of {depths} blocks: change the depths, or give')
        ):
            load_backbone('keras', depths=depths)


@pytest.mark.slow
def test_addresses_and_hashes_are_keras_own():
    pytest.importorskip('keras')
    from keras.src.applications import resnet

    for depths, name in ((DEPTHS_50, 'resnet50'), (pretrained.DEPTHS_101, 'resnet101')):
        url, md5 = pretrained.KERAS_FILES[depths]
        assert url.startswith(f'{resnet.BASE_WEIGHTS_PATH}{name}_weights_')
        assert md5 == resnet.WEIGHTS_HASHES[name][1]


def _masked_averages(apply, voc, name):
    """Layer3 averages over the image's objects of 2 % of it or more: list of (class, image, unit vector)."""
    image = (
        Image.open(voc / 'JPEGImages' / f'{name}.jpg')
        .convert('RGB')
        .resize((161, 161), Image.BILINEAR)
    )
    label = Image.open(voc / 'SegmentationClassAug' / f'{name}.png')
    label = np.asarray(label.resize((21, 21), Image.NEAREST))
    features = np.asarray(apply(np.asarray(image)[None]))[0]
    classes = [c for c in np.unique(label) if 0 < c < 21 and (label == c).mean() >= 0.02]
    averages = [features[label == c].mean(0) for c in classes]
    return [(c, name, v / np.linalg.norm(v)) for c, v in zip(classes, averages, strict=True)]


@pytest.mark.slow
def test_nearest_neighbour_on_real_images(real_data):
    """1-nearest neighbour over masked averages of VOC objects, in other images.

    53 % of the 159 objects in every fourth image are right. Of all 645 it is 62 %, with the input normalised by the
    wrong convention 26 %, by chance 5 %.
    """
    backbone = load_backbone(real_data / 'imagenet/resnet50_keras_conv1_to_conv4.h5')
    voc = real_data / 'voc_subset/VOCdevkit/VOC2012'
    network = ResNet(CONVENTIONS[backbone.convention].stride_on)

    @jax.jit
    def apply(images):
        return network.apply({'params': backbone.params}, normalise(images, backbone.convention))[
            'layer3'
        ]

    names = (voc / 'ImageSets/Segmentation/val.txt').read_text().split()[::4]
    objects = [item for name in names for item in _masked_averages(apply, voc, name)]
    classes, images, vectors = (np.array(column) for column in zip(*objects, strict=True))
    similarity = np.where(images[:, None] == images, -1, vectors @ vectors.T)
    right = (classes[similarity.argmax(1)] == classes).mean()
    assert right >= 0.5, f'{right:.1%} of {len(classes)} objects'
