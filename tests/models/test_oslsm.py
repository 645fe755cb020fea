"""OSLSM against plain PyTorch: the published network on VGG-16, and what stands on the two ResNets."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import oslsm as oslsm_config
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.models import oslsm
from simpropnet_jax.models.layers import he_scaled
from simpropnet_jax.models.oslsm import OSLSM
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives

torch = pytest.importorskip('torch')

from torch.nn import functional  # noqa: E402

from tests.backbones import torch_vgg  # noqa: E402

WIDTH, SIZE, SHOTS = 4, 65, 2
HASH = np.random.default_rng(5)


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ('argument', 'trainable', 'hashed'),
    [
        ('', 3_539_200 + 65_792 + 262_400 + 257_000, 257_000),
        ('vgg16', 138_357_544 + 134_260_544, 4_097_000),  # VGG-16, and VGG-16 without fc8
    ],
)
def test_parameters_are_the_published_networks(argument, trainable, hashed):
    config = oslsm_config.get_config(argument)
    config.model.convention = 'torchvision'
    image = jnp.zeros((1, 33, 33, 3))
    shapes = jax.eval_shape(
        Method.from_config(config).module.init, jax.random.key(0), image, image[..., 0]
    )['params']
    assert count(shapes['hashing']) == hashed
    assert (
        count({name: part for name, part in shapes.items() if name not in config.train.frozen})
        == trainable
    )
    assert 'hashing' in config.train.frozen


def test_hashing_copies_each_number_to_many_places():
    matrix = np.asarray(oslsm.hashing(jax.random.key(3), (50, 2000), 0.25))
    assert ((matrix != 0).sum(0) == 1).all() and set(np.unique(matrix)) == {-0.25, 0.0, 0.25}
    used, signs = (matrix != 0).sum(1), matrix.sum(0)
    assert used.min() > 15 and used.max() < 80  # 40 on average
    assert abs(signs.mean()) < 0.02


@pytest.fixture(scope='module')
def episode():
    """Normalised images and masks, soft and with void."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    masks = rng.uniform(size=(2, SHOTS, SIZE, SIZE)).astype(np.float32)
    masks[..., : SIZE // 2] = 0
    valid = (rng.uniform(size=masks.shape) > 0.2).astype(np.float32)
    return draw(2, SHOTS, SIZE, SIZE, 3), masks, valid, draw(2, SIZE, SIZE, 3)


@partial(jax.jit, static_argnums=0)
def run(module, params, supports, masks, valid, queries):
    apply = partial(module.apply, {'params': params})
    flat = apply(supports.reshape(-1, *supports.shape[2:]), method='encode')
    features = jax.tree.map(lambda x: x.reshape(2, SHOTS, *x.shape[1:]), flat)
    probe = apply(features, masks, valid, method='probe')
    query = apply(queries, method='encode')
    return probe, query, apply(query, probe, method='decode'), apply(query, probe, method='maps')


def masked(supports, masks, valid, side):
    """[2*SHOTS, 3, side, side]: everything but the object is zero, which is the mean colour."""
    resize = partial(functional.interpolate, size=(side, side), mode='bilinear', align_corners=True)
    images = torch.tensor(supports).flatten(0, 1).permute(0, 3, 1, 2)
    return resize(images) * resize(torch.tensor(masks * valid).flatten(0, 1)[:, None])


def assert_close(found, expected):
    np.testing.assert_allclose(
        found, expected, rtol=1e-3, atol=1e-4 * float(np.abs(expected).max())
    )


def assert_union_of_regressions(result, code, features):
    """What is made of fc8 of the supports, [B, K, 1000], and of the query's fc7, [B, C, h, w]."""
    probe, _, logits, maps = result[:4]
    generated = code @ torch.tensor(result[4])
    assert_close(probe.weights, generated[..., :-1].numpy())
    assert_close(probe.bias, generated[..., -1].numpy())
    each = [
        functional.conv2d(one[None], weights[:, :-1, None, None], weights[:, -1])[0]
        for one, weights in zip(features, generated, strict=True)
    ]
    of_shots = torch.stack(each)
    union = of_shots.amax(1).numpy()
    assert (union > of_shots[:, 0].numpy()).any() and (union > of_shots[:, 1].numpy()).any()
    assert_close(logits[..., 1], union)
    assert not np.asarray(logits[..., 0]).any()
    np.testing.assert_allclose(
        maps['probability'], 1 / (1 + np.exp(-np.asarray(logits[..., 1]))), rtol=1e-5
    )


def test_the_published_network(episode):
    supports, masks, valid, queries = episode
    network = partial(torch_vgg.TorchVGG, torch_vgg.CAFFE, WIDTH, classifier=True)
    conditioning, segmentation = (torch_vgg.randomise(network(), seed).eval() for seed in (1, 2))

    def ours(model, layers):
        names = [
            f'conv{block}_{i}'
            for block, depth in enumerate((2, 2, 3, 3, 3), 1)
            for i in range(1, depth + 1)
        ]
        weights = [(conv.weight, conv.bias) for conv in model.convolutions()]
        for layer, side in zip((0, 3, 6)[:layers], (7, 1, 1), strict=False):
            linear = model.classifier[layer]
            weights.append((linear.weight.reshape(len(linear.bias), -1, side, side), linear.bias))
        names += ['fc6', 'fc7', 'fc8'][:layers]

        def array(tensor):
            return jnp.asarray(tensor.detach().numpy())

        return {
            name: {'kernel': array(kernel.permute(2, 3, 1, 0)), 'bias': array(bias)}
            for name, (kernel, bias) in zip(names, weights, strict=True)
        }

    hashing = HASH.normal(0, 0.01, (1000, 64 * WIDTH + 1)).astype(np.float32)
    params = {
        'conditioning': ours(conditioning, 3),
        'backbone': ours(segmentation, 2),
        'hashing': hashing,
    }
    with jax.default_matmul_precision('highest'):
        result = run(OSLSM('vgg16', width=WIDTH), params, *episode)
    with torch.no_grad():
        last = conditioning(masked(supports, masks, valid, 224))['pool5']
        code = conditioning.classifier(last.flatten(1)).reshape(2, SHOTS, 1000)
        padded = functional.pad(torch.tensor(queries).permute(0, 3, 1, 2), (112, 111, 112, 111))
        x = segmentation(padded)['pool5']
        for layer, side in ((0, 7), (3, 1)):
            linear = segmentation.classifier[layer]
            kernel = linear.weight.reshape(len(linear.bias), -1, side, side)
            x = torch.relu(functional.conv2d(x, kernel, linear.bias))
        assert x.shape[2:] == (3, 3)  # at the pixels 0, 32 and 64 of 65
        assert_union_of_regressions((*result, hashing), code, x)


class Pixels(nn.Module):
    """Replace a ResNet: every eighth pixel, with its own weights."""

    @nn.compact
    def __call__(self, images):
        x = images[:, ::8, ::8]
        return {
            f'layer{i}': nn.relu(nn.Dense(4 * i, use_bias=False, name=f'layer{i}')(x))
            for i in (2, 3)
        }


@pytest.fixture(scope='module')
def on_pixels():
    """A small OSLSM on two of these, and its parameters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oslsm, 'make_backbone', lambda *args, **kwargs: Pixels())
        module, image = OSLSM(features=8), jnp.zeros((1, 33, 33, 3))
        params = jax.jit(module.init)(jax.random.key(0), image, image[..., 0])['params']
        yield module, he_scaled(params, 2.0, ('backbone', 'conditioning'))


def test_what_stands_on_resnets(on_pixels, episode):
    module, params = on_pixels
    supports, masks, valid, queries = episode

    def level(part, number, x):
        kernel = torch.tensor(np.asarray(params[part][f'layer{number}']['kernel']))
        return torch.relu(torch.einsum('bchw,cd->bdhw', x[:, :, ::8, ::8], kernel))

    def layer(name, x, dilation=1):
        part = params[name].get('conv', params[name])
        kernel, bias = (
            torch.tensor(np.asarray(part['kernel'])),
            torch.tensor(np.asarray(part['bias'])),
        )
        padding = dilation * (kernel.shape[0] // 2)
        return functional.conv2d(
            x, kernel.permute(3, 2, 0, 1), bias, padding=padding, dilation=dilation
        )

    with jax.default_matmul_precision('highest'):
        result = run(module, params, *episode)
    query = torch.tensor(queries).permute(0, 3, 1, 2)
    x = torch.cat([level('backbone', 2, query), level('backbone', 3, query)], 1)
    x = torch.relu(layer('fc7', torch.relu(layer('fc6', x, dilation=2))))
    average = level('conditioning', 3, masked(supports, masks, valid, 225)).mean(
        (2, 3), keepdim=True
    )
    code = layer('condition_fc8', torch.relu(layer('condition_fc7', average)))
    assert x.shape[1:] == (8, 9, 9)
    assert_union_of_regressions(
        (*result, np.asarray(params['hashing'])), code.reshape(2, SHOTS, 1000), x
    )


def test_the_cycle_trains_through_the_predicted_mask_and_drops_in_both_branches(on_pixels, episode):
    module, params = on_pixels
    supports, masks, valid, queries = episode
    batch = objectives.Episodes(
        *map(jnp.asarray, (supports, masks, valid, queries, masks[:, 0], valid[:, 0])),
        jnp.ones(2, jnp.int32),
    )

    @jax.jit
    def gradient(params, key):
        def loss(params):
            logits = module.apply(
                {'params': params},
                batch,
                None,
                dual=True,
                cycle='soft',
                method=objectives.forward,
                rngs={'dropout': key},
            )
            assert logits['support'].shape == logits['cycle'].shape == (2 * SHOTS, 9, 9, 2)
            truth = batch.masks.reshape(-1, SIZE, SIZE)
            return objectives.cross_entropy(logits['cycle'], truth, jnp.ones_like(truth))

        return jax.value_and_grad(loss)(params)

    (first, slope), (second, _) = (gradient(params, jax.random.key(i)) for i in range(2))
    assert first != second
    del slope['conditioning']['layer2']  # which is not read
    steepest = jax.tree.map(lambda leaf: float(jnp.abs(leaf).max()), slope)
    assert all(0 < value < 1e3 for value in jax.tree.leaves(steepest)), steepest


def test_a_segmenter_keeps_no_more_than_regressions_of_the_examples(on_pixels):
    module, params = on_pixels
    rng = np.random.default_rng(2)
    pictures = rng.integers(0, 256, (SHOTS, SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[10:40, 20:50] = 1
    segmenter = Segmenter(module, {'params': params}, size=SIZE, convention='torchvision')
    probe = segmenter.probe([(picture, mask) for picture in pictures])
    assert [x.shape for x in probe.probe] == [(1, SHOTS, 8), (1, SHOTS)]
    found = segmenter.segment_with(probe, pictures[0])
    assert found.mask.shape == (SIZE, SIZE) and np.ptp(found.probability) > 1e-3
