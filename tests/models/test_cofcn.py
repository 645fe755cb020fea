"""co-FCN against a plain PyTorch one with the same weights; its gradients; its published size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cofcn as cofcn_config
from simpropnet_jax.config import common
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.cofcn import CoFCN
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives
from simpropnet_jax.training.state import split

SIZE, SHOTS = 65, 2
NARROW = {'stride_on': '3x3', 'width': 2, 'features': 6}


class OnPixels(CoFCN):
    """In place of ResNet-50: pixels at 1/8."""

    def setup(self):
        super().setup()
        self.backbone = lambda x: {'layer2': x[:, ::8, ::8], 'layer3': x[:, ::8, ::8] ** 2}


def random_params(module):
    """Kernels of He's deviation, so that nothing fades, and small biases."""
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )
    rng = np.random.default_rng(0)

    def draw(x):
        return (rng.normal(size=x.shape) * (2 / np.prod(x.shape[:-1])) ** 0.5).astype(np.float32)

    return jax.tree.map(lambda x: draw(x) if len(x.shape) > 1 else 0.1 * draw(x), shapes['params'])


def theirs(params, encoder, query, supports, positive, negative):
    """Logits [2, h, w] of one episode, from the released code's description; the supports' annotations, [K, H, W]."""
    torch = pytest.importorskip('torch', reason='PyTorch is the reference')
    functional = torch.nn.functional

    def conv(layer, x, dilation=1):
        kernel = torch.tensor(np.moveaxis(np.asarray(layer['kernel']), (3, 2), (0, 1)))
        bias, pad = torch.tensor(np.asarray(layer['bias'])), dilation * (kernel.shape[-1] // 2)
        return functional.conv2d(x, kernel, bias, padding=pad, dilation=dilation)

    def encode(image):
        x = torch.tensor(np.moveaxis(image, -1, 0)[None])
        if encoder == 'resnet50':
            x = x[..., ::8, ::8]
            return functional.relu(
                conv(params['project']['conv'], torch.cat([x, x**2], 1), dilation=2)
            )
        for block, depth in enumerate((2, 2, 3, 3, 3), 1):
            for i in range(1, depth + 1):
                x = functional.relu(conv(params['backbone'][f'conv{block}_{i}'], x))
            x = functional.max_pool2d(x, 3, 2, 1)
        return functional.relu(conv(params['project']['conv'], x))

    def downsampled(annotation, size):
        """By a bilinear kernel, one for each position of the features."""
        triangles = []
        for n, full in zip(size, annotation.shape, strict=True):
            stride = (full - 1) / (n - 1)
            triangles.append(
                np.maximum(
                    0, 1 - abs(np.arange(full)[None] - stride * np.arange(n)[:, None]) / stride
                )
            )
        return torch.tensor((triangles[0] @ annotation @ triangles[1].T).astype(np.float32))

    def pooled(annotations):
        total = 0
        for image, annotation in zip(supports, annotations, strict=True):
            features = encode(image)
            weights = downsampled(annotation, features.shape[2:])
            total = total + (features * weights / (weights.sum() + 1e-6)).sum((2, 3))
        return (total / len(supports))[..., None, None]

    features = encode(query)
    tiled = [pooled(one).expand_as(features) for one in (negative, positive)]
    x = functional.relu(conv(params['head']['fc7']['conv'], torch.cat([features, *tiled], 1)))
    return conv(params['head']['logits'], x)[0].numpy()


@pytest.mark.parametrize(('encoder', 'grid'), [('vgg16', 3), ('resnet50', 9)])
def test_logits_of_several_supports_with_void_are_pytorchs(encoder, grid):
    module = (OnPixels if encoder == 'resnet50' else CoFCN)(encoder=encoder, **NARROW)
    params, rng = random_params(module), np.random.default_rng(1)
    images = rng.normal(size=(1 + SHOTS, SIZE, SIZE, 3)).astype(np.float32)
    labels = rng.choice(
        [0, 1, 255], (SHOTS, 40, 30), p=[0.5, 0.3, 0.2]
    )  # of another size: the method resizes
    positive, negative = ((labels == kind).astype(np.float32) for kind in (1, 0))

    @jax.jit
    def ours(params, images, masks, valid):
        def run(method, *args):
            return module.apply({'params': params}, *args, method=method)

        features = run('encode', images)
        probe = run('probe', features[None, 1:], masks[None], valid[None])
        return run('decode', features[:1], probe)[0], run('maps', features[:1], probe)[
            'foreground'
        ][0]

    logits, foreground = map(np.asarray, ours(params, images, positive, positive + negative))
    expected = theirs(params, encoder, images[0], images[1:], positive, negative)
    assert logits.shape == (grid, grid, 2) and expected.std() > 0.1
    np.testing.assert_allclose(
        np.moveaxis(logits, -1, 0), expected, atol=2e-5 * np.abs(expected).max()
    )
    np.testing.assert_allclose(foreground, 1 / (1 + np.exp(expected[0] - expected[1])), atol=1e-4)
    for fewer in (
        (images[1:2], positive[:1], negative[:1]),
        (images[1:], positive, positive),
    ):  # all of it matters
        other = theirs(params, encoder, images[0], *fewer)
        assert np.abs(other - expected).max() > 1e-3 * np.abs(expected).max()


def test_a_training_with_a_cycle_reaches_every_layer_and_empty_masks_do_no_harm():
    module, rng = OnPixels(**NARROW, dropout=0.0), np.random.default_rng(2)
    masks = np.zeros((2, SIZE, SIZE), np.float32)
    masks[:, :40] = 1
    images = rng.normal(size=(2, SIZE, SIZE, 3)).astype(np.float32) + 2 * masks[..., None]
    batch = objectives.Episodes(
        *(jnp.asarray(x) for x in (images[:, None], masks[:, None], np.ones_like(masks[:, None]))),
        *(jnp.asarray(x) for x in (images, masks, np.ones_like(masks))),
        jnp.ones(2, jnp.int32),
    )

    def loss(params, masks):
        logits = module.apply(
            {'params': params},
            batch._replace(masks=masks),
            None,
            dual=True,
            cycle='soft',
            method=objectives.forward,
        )
        return sum(
            objectives.cross_entropy(one, batch.truth, batch.valid) for one in logits.values()
        )

    run, params = jax.jit(jax.value_and_grad(loss)), random_params(module)
    value, gradient = run(params, batch.masks)
    assert np.isfinite(value) and all(
        np.any(x != 0) and np.isfinite(x).all() for x in jax.tree.leaves(gradient)
    )
    value, gradient = run(params, 0 * batch.masks)
    assert np.isfinite(value) and all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))


def count(argument=''):
    """Parameters of the head and of the backbone."""
    config = cofcn_config.get_config(argument)
    config.model.convention = 'torchvision'
    module, given = (
        Method.from_config(config).module,
        (jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))),
    )
    params = jax.eval_shape(module.init, jax.random.key(0), *given)['params']
    return [sum(x.size for x in jax.tree.leaves(part)) for part in split(params, ('backbone',))]


def test_parameters_are_the_released_codes_and_on_resnet_50_as_stated():
    assert count('vgg16') == [7_014_914, 14_714_688]
    assert count() == [4_131_330, 8_528_000]


@pytest.mark.parametrize('words', ['', 'cpu', 'vgg16', 'vgg16,cpu', *common.SHARED])
def test_its_configs_are_valid(words):
    config_rules.validate(cofcn_config.get_config(f'fold=2,{words}'), devices=1)
