"""Every method on every kind of encoder; where features lie; a backbone of one's own in one file and one line."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import encoders as benchmark
from simpropnet_jax.backbones import registry
from simpropnet_jax.config import recipes
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.evaluation.engine.device_functions import resize_own_size
from simpropnet_jax.inference.geometry import Geometry, read
from simpropnet_jax.models.layers import resize_mask, upsampled_average
from simpropnet_jax.models.self_support import decode
from simpropnet_jax.ops.grid import Grid
from simpropnet_jax.ops.resize import resize_bilinear
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.weights import pretrained
from simpropnet_jax.training import objectives
from tests.training.test_cycle import episodes

GUIDE = Path(__file__).parents[2] / 'docs' / 'contributing' / 'backbone.md'
METHODS = ('simpropnet', 'canet', 'prototype', 'panet', 'sgone', 'cofcn', 'amp', 'oslsm')
SHALLOW = ('resnet50', 'resnet101_v2')


@pytest.fixture
def tiny_vit(monkeypatch):
    """DINOv2's ViT-S with two blocks and heads."""
    entry = registry.ENCODERS['dinov2_vits14']._replace(
        fields={'heads': 2, 'depth': 2, 'registers': 4},
        levels={'block1': 2, 'block2': 2},
        read=('block1', 'block2'),
        three=('block1', 'block2', 'block2'),
    )
    monkeypatch.setitem(registry.ENCODERS, 'dinov2_vits14', entry)


def narrow(recipe, words, **model):
    """A method with random weights, as narrow as can be."""
    config = recipes.get(recipe, words)
    shallow = {'depths': (1, 1, 1)} if config.model.encoder in SHALLOW else {}
    given = {'weights': '', 'convention': 'torchvision', 'width': 4, **shallow, **model}
    if 'features' in config.model:
        given['features'] = 8
    config.model.update(given)
    config_rules.validate(config, devices=1)
    return Method.from_config(config)


# What the tests of the methods do not have: all on a ViT, ResNets behind methods of VGG-16, VGG-16 behind the others.
PAIRS = [
    *((name, 'dinov2_vits14') for name in METHODS),
    *((name, 'resnet101_v2') for name in ('panet', 'sgone', 'amp')),
    ('simpropnet', 'vgg16'),
]


@pytest.mark.parametrize(('name', 'encoder'), PAIRS)
def test_every_method_stands_on_every_encoder(name, encoder, tiny_vit):
    method = narrow(name, f'fold=1,encoder={encoder}')
    size = method.config.train.size
    assert size == (322 if encoder == 'dinov2_vits14' else 321)
    images, masks = jnp.zeros((3, size, size, 3)), jnp.zeros((1, 2, size, size))

    def whole(variables):
        def run(part, *args):
            return method.module.apply(variables, *args, method=part)

        features = run('encode', images)
        query = jax.tree.map(lambda x: x[:1], features)
        probe = run('probe', jax.tree.map(lambda x: x[None, 1:], features), masks)
        return decode(method.module, variables, query, probe, rounds=1), run('maps', query, probe)

    logits, maps = jax.eval_shape(whole, method.abstract())
    assert logits.dtype == jnp.float32
    side = logits.shape[1]
    assert logits.shape == (1, side, side, 2)
    at_layer1 = name == 'amp' and encoder != 'dinov2_vits14'
    assert side == (23 if encoder == 'dinov2_vits14' else 81 if at_layer1 else 41)
    assert all(len(one.shape) == 3 for one in maps.values())


@pytest.mark.parametrize('name', ['simpropnet', 'amp'])
def test_dual_prediction_and_the_cycle_train_on_patches(name, tiny_vit):
    method = narrow(name, 'fold=1,encoder=dinov2_vits14')
    pairs = episodes(batch=1, size=28)

    def loss(variables):
        logits = method.module.apply(
            variables,
            pairs,
            None,
            dual=True,
            cycle='soft',
            method=objectives.forward,
            rngs={'dropout': jax.random.key(0)},
        )
        masks = pairs.masks.reshape(-1, 28, 28)
        seen = masks, jnp.ones_like(masks), 1.0, method.module.grid.half_pixel
        return sum(objectives.cross_entropy(logits[part], *seen) for part in ('support', 'cycle'))

    assert jax.eval_shape(loss, method.abstract()).shape == ()


def test_the_benchmark_states_what_an_encoder_costs(tiny_vit, tmp_path, capsys):
    record = benchmark.main(['dinov2_vits14'], ['prototype'], 30, width=4, out=tmp_path / 'b.json')
    (row,) = record['rows']
    assert row['features'] == [[2, 2, 16]] and row['operations'] > 1e4 and row['core_seconds'] > 0
    printed = capsys.readouterr().out
    assert '| dinov2_vits14 | prototype | 28 | 2 x 2 x 16 |' in printed
    assert 'says nothing about accuracy' in printed
    with pytest.raises(ValueError, match="--methods must be of simpropnet, .*, got 'pfenet'"):
        benchmark.main(['vgg16'], ['pfenet'])


def test_levels_are_chosen_by_one_field(tiny_vit):
    words = 'fold=1,encoder=dinov2_vits14'
    both, last = narrow('prototype', words), narrow('prototype', words, levels=('block2',))
    images = jnp.zeros((1, 28, 28, 3))

    def channels(method):
        features = jax.eval_shape(
            lambda variables: method.module.apply(variables, images, method='encode'),
            method.abstract(),
        )
        return features.shape

    assert channels(both) == (1, 2, 2, 16) and channels(last) == (1, 2, 2, 8)
    with pytest.raises(ValueError, match='levels of dinov2_vits14, block1, block2, got'):
        narrow('prototype', words, levels=('block7',)).abstract()
    with pytest.raises(ValueError, match='have different strides in resnet50'):
        narrow('prototype', 'fold=1', levels=('layer1', 'layer2')).abstract()


def test_words_and_older_configs_name_encoders(tmp_path):
    model = recipes.get('simpropnet', 'fold=1,resnet101,deep_stem').model
    assert model.encoder == 'resnet101_v2' and 'depths' not in model
    config = recipes.get('panet', 'cpu,encoder=dinov2_vitb14_reg')
    assert (config.model.weights, config.train.size, config.eval.size) == ('download', 224, 224)
    for words, message in (
        ('encoder=dinov2_vits15', 'Did you mean dinov2_vits14'),
        ('vgg16,resnet101', 'the word resnet101 is for ResNets, but the encoder is vgg16'),
    ):
        with pytest.raises(ValueError, match=message):
            recipes.get('panet', words)
    config.train.size = 225
    with pytest.raises(ValueError, match='config.train.size must be 14n for .*, got 225. Take 224'):
        config_rules.validate(config, devices=1)
    # A run of the time when the ResNet's fields said it.
    stored = config_rules.plain(recipes.get('simpropnet', 'fold=1'))
    del stored['model']['encoder'], stored['model']['levels']
    stored['model'] |= {'depths': (3, 4, 23), 'deep_stem': True}
    (tmp_path / 'config.json').write_text(json.dumps(stored))
    assert config_rules.load(tmp_path / 'config.json').model == model


def test_other_weights_than_the_encoders_are_refused():
    for encoder, message in (
        ('resnet50_v2', 'there is no download for resnet50_v2: give the path of a file of https'),
        ('resnet5', 'must name an encoder'),
    ):
        config = recipes.get('simpropnet', 'fold=1')
        config.model.encoder = encoder
        with pytest.raises(ValueError, match=message):
            pretrained(config.model)
    method = narrow('simpropnet', 'fold=1')
    for name, message in (('deeplabv3plus', 'deeplab reads the stages of a ResNet'),):
        with pytest.raises(ValueError, match=message):
            narrow(name, 'encoder=vgg16').abstract()
    assert method.module.grid == Grid(8)


@pytest.mark.parametrize('grid', [Grid(8), Grid(14, half_pixel=True)])
def test_a_ramp_verifies_where_features_lie(grid):
    """The features of an image whose pixels are their column: each must come back at its own place."""
    size = grid.nearest(150)
    columns = np.arange(size, dtype=np.float32)
    ramp = np.broadcast_to(columns, (size, size))
    if grid.half_pixel:  # a patch's mean is the value in its middle
        places = columns.reshape(-1, grid.stride).mean(1)
        inside = slice(grid.stride // 2, -grid.stride // 2)
    else:
        places, inside = columns[:: grid.stride], slice(None)
    count = len(places)
    features = np.broadcast_to(places, (1, count, count))[..., None]
    at = size // 2 + 3
    one = np.zeros((1, size, size), np.float32)
    one[..., at] = 1 / size

    @jax.jit  # compiled once
    def moved(features, ramp, one):
        half = grid.half_pixel
        back = resize_bilinear(features, (size, size), half)[0, ..., 0]
        mask = resize_mask(ramp[None] / size, (count, count), half)[0]
        sizes = jnp.array([[size, size]])
        own = resize_own_size(features[..., 0], sizes, (size, size + 9), half)
        return back, mask, upsampled_average(features, one, half), own[0, :, :size]

    # Logits come to the pixels, and masks to the features; an average over one column is the ramp there.
    back, mask, average, own = moved(features, ramp, one)
    np.testing.assert_allclose(back[:, inside], ramp[:, inside], atol=1e-3)
    np.testing.assert_allclose(mask * size, features[0, ..., 0], atol=1e-3)
    np.testing.assert_allclose(average, [[at / 1.0005]], rtol=1e-3)
    np.testing.assert_allclose(own, back, atol=1e-3)  # at sizes that are data
    # And in pictures of any size.
    shape, picture = Geometry(size, grid=grid), 2 * size
    middles = (np.arange(picture, dtype=np.float32) + 0.5)[4 * grid.stride : -4 * grid.stride]
    seen = read(
        np.asarray(features[..., 0]), shape.whole(picture, picture), shape, middles, middles
    )
    np.testing.assert_allclose(seen[0, 0], middles / 2 - 0.5, atol=1e-3)


def test_sizes_fit_the_grid():
    for grid, side, near in (
        (Grid(8), 322, 321),
        (Grid(14, True), 321, 322),
        (Grid(14, True), 3, 14),
    ):
        assert grid.nearest(side) == near and grid.fits(near) and not grid.fits(near + 1)
    assert Geometry(322, grid=Grid(14, True)).check()
    with pytest.raises(ValueError, match='--size must be 14n, from 33 to 2049, got 321: try 322'):
        Geometry(321, grid=Grid(14, True)).check()


def test_the_guides_backbone_takes_one_file_and_one_line(tmp_path, monkeypatch):
    network, line = re.findall(r'```python\n(.*?)```', GUIDE.read_text(), re.S)
    (tmp_path / 'patches.py').write_text(network)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, 'ENCODERS', dict(registry.ENCODERS))
    exec(line, {'ENCODERS': registry.ENCODERS, 'Encoder': registry.Encoder, 'Grid': Grid})
    config = recipes.get('simpropnet', 'fold=1,encoder=patches')
    config.model.weights, config.model.width = str(tmp_path / 'patches.npz'), 4
    kernel = np.random.default_rng(0).normal(size=(16, 16, 3, 4)).astype(np.float32)
    np.savez(config.model.weights, kernel=kernel, bias=np.zeros(4, np.float32))
    loaded = pretrained(config.model)
    assert loaded.params['backbone']['patch']['kernel'].shape == (16, 16, 3, 4)
    config.model.convention = loaded.convention
    method = Method.from_config(config, loaded.params, loaded.source)
    assert config.train.size == 320 and method.module.grid == Grid(16, half_pixel=True)
    features = jax.eval_shape(
        lambda variables: method.module.apply(
            variables, jnp.zeros((1, 320, 320, 3)), method='encode'
        ),
        method.abstract(),
    )
    assert features.shape == (1, 20, 20, 256)


@pytest.mark.slow
def test_a_deep_resnet101_is_pytorchs(tmp_path):
    torch = pytest.importorskip('torch')
    from simpropnet_jax.backbones.encoder import make_backbone
    from tests.backbones.torch_resnet import TorchResNet, randomise

    reference = randomise(TorchResNet(4, (3, 4, 23), True), seed=0).eval()
    torch.save(reference.state_dict(), tmp_path / 'resnet101_v2.pth')
    network = make_backbone('resnet101_v2', 4)
    load = registry.resolve(registry.find('resnet101_v2').loader)
    params = load(tmp_path / 'resnet101_v2.pth', network).params
    images = np.random.default_rng(1).normal(size=(1, 33, 41, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(images).permute(0, 3, 1, 2))
    found = jax.jit(network.apply)({'params': params}, images)
    for name, value in expected.items():
        value = value.permute(0, 2, 3, 1).numpy()
        assert np.abs(found[name] - value).max() < 1e-4 * np.abs(value).max()
