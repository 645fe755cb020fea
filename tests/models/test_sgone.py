"""SG-One against a plain PyTorch one with the same weights; its two branches in training; its published size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import sgone as sgone_config
from simpropnet_jax.config import common
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.evaluation.results.naming import method_name, result_name
from simpropnet_jax.models import sgone
from simpropnet_jax.models.sgone import SGOne
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives
from simpropnet_jax.training.state import split

SIZE, GRID, SHOTS = 33, 5, 2
NARROW = {'stride_on': '3x3', 'width': 2, 'features': 6}


class OnPixels(SGOne):
    """Replace ResNet-50: pixels at the levels' sizes, each level in its own colour."""

    def setup(self):
        super().setup()
        self.backbone = lambda x: {
            'layer1': x[:, ::4, ::4],
            'layer2': -x[:, ::8, ::8],
            'layer3': x[:, ::8, ::8] ** 2,
        }


@pytest.fixture
def thin(monkeypatch):
    """A segmentation branch of few channels, which compiles sooner."""
    monkeypatch.setattr(sgone, 'SIDE', 8)


def random_params(module):
    """Kernels of He's deviation, so that nothing fades, and small biases."""
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )
    rng = np.random.default_rng(0)

    def draw(x):
        return (rng.normal(size=x.shape) * (2 / np.prod(x.shape[:-1])) ** 0.5).astype(np.float32)

    return jax.tree.map(lambda x: draw(x) if len(x.shape) > 1 else 0.1 * draw(x), shapes['params'])


def theirs(params, encoder, query, supports, masks, shots):
    """Logits [2, h, w] of one episode, from the released code's description: its VGG-16, or pixels as above."""
    torch = pytest.importorskip('torch', reason='PyTorch is the reference')
    functional = torch.nn.functional

    def image(x):
        return torch.tensor(np.moveaxis(x, -1, 0)[None])

    def conv(layer, x):
        kernel = torch.tensor(np.moveaxis(np.asarray(layer['kernel']), (3, 2), (0, 1)))
        return functional.conv2d(
            x, kernel, torch.tensor(np.asarray(layer['bias'])), padding=kernel.shape[-1] // 2
        )

    def levels(x):
        if encoder == 'resnet50':
            return (
                functional.max_pool2d(x[..., ::4, ::4], 3, 2, 1),
                -x[..., ::8, ::8],
                x[..., ::8, ::8] ** 2,
            )
        found = []
        for block, (depth, stride) in enumerate(
            zip((2, 2, 3, 3, 3), (2, 2, 2, 1, 1), strict=True), 1
        ):
            for i in range(1, depth + 1):
                x = functional.relu(conv(params['backbone'][f'conv{block}_{i}'], x))
            x = functional.max_pool2d(x, 3, stride, 1)
            found.append(x)
        return found[2:]

    def branches(x):
        third, fourth, fifth = levels(x)
        side = functional.relu(conv(params['side3'], third))
        side = functional.relu(conv(params['side4'], torch.cat([side, fourth], 1)))
        return conv(params['guidance'], fifth), conv(params['side5'], torch.cat([side, fifth], 1))

    def vector(support, mask):
        guidance = functional.interpolate(
            branches(image(support))[0], size=mask.shape, mode='bilinear', align_corners=True
        )
        mask = torch.tensor(mask)
        return (guidance * mask).sum((2, 3)) / mask.sum()

    def segment(vector):
        guidance, side = branches(image(query))
        similarity = functional.cosine_similarity(guidance, vector[..., None, None])
        x = functional.relu(conv(params['head']['fuse'], side * similarity[:, None]))
        return conv(params['head']['logits'], x)[0]

    vectors = [vector(*pair) for pair in zip(supports, masks, strict=True)]
    if shots == 'average':
        return segment(sum(vectors) / len(vectors)).numpy()
    return np.stack([segment(one).numpy() for one in vectors])  # of each support


@pytest.mark.parametrize('encoder', ['vgg16', 'resnet50'])
def test_logits_of_both_ways_with_several_supports_are_pytorchs(encoder, thin):
    kind = OnPixels if encoder == 'resnet50' else SGOne
    modules = [kind(encoder=encoder, shots=shots, **NARROW) for shots in ('average', 'union')]
    params = random_params(modules[0])
    rng = np.random.default_rng(1)
    images = rng.normal(size=(1 + SHOTS, SIZE, SIZE, 3)).astype(np.float32)
    masks = (rng.uniform(size=(SHOTS, 40, 30)) > 0.6).astype(
        np.float32
    )  # of another size: the method resizes

    @jax.jit
    def ours(params, images, masks):
        def run(module, method, *args):
            return module.apply({'params': params}, *args, method=method)

        features = run(modules[0], 'encode', images)
        query, supports = (
            jax.tree.map(lambda x, i=i: x[i], features) for i in (np.s_[:1], np.s_[None, 1:])
        )
        # Void in the mask counts as outside of it.
        probes = [
            run(module, 'probe', supports, jnp.ones_like(masks[None]), masks[None])
            for module in modules
        ]
        return [
            run(m, 'decode', query, probe)[0] for m, probe in zip(modules, probes, strict=True)
        ] + [
            run(m, 'maps', query, probe)['similarity']
            for m, probe in zip(modules, probes, strict=True)
        ]

    average, union, *maps = map(np.asarray, ours(params, images, masks))
    expected = theirs(params, encoder, images[0], images[1:], masks, 'average')
    each = theirs(params, encoder, images[0], images[1:], masks, 'union')
    np.testing.assert_allclose(
        np.moveaxis(average, -1, 0), expected, atol=1e-5 * np.abs(expected).max()
    )
    assert expected.std() > 0.01
    # The union as released: the maximum of the K masks. Its logits come from one of the supports.
    foreground = each[:, 1] > each[:, 0]
    np.testing.assert_array_equal(union[..., 1] > union[..., 0], foreground.any(0))
    nearest = np.abs(np.moveaxis(union, -1, 0)[None] - each).max(1).min(0)
    assert nearest.max() < 1e-5 * np.abs(each).max()
    assert np.abs(each[0] - each[1]).max() > 1e-3 * np.abs(each).max()  # supports differ, and so do
    assert all(one.shape == (1, GRID, GRID) and np.abs(one).max() <= 1 for one in maps)


def test_a_cycle_and_dual_prediction_train_both_branches(thin):
    module = OnPixels(**NARROW)
    rng = np.random.default_rng(2)
    masks = np.zeros((2, SIZE, SIZE), np.float32)
    masks[:, :20] = 1
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
    config = sgone_config.get_config(argument)
    config.model.convention = 'torchvision'
    module, given = (
        Method.from_config(config).module,
        (jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33))),
    )
    params = jax.eval_shape(module.init, jax.random.key(0), *given)['params']
    return [sum(x.size for x in jax.tree.leaves(part)) for part in split(params, ('backbone',))]


def test_parameters_are_the_released_codes_and_on_resnet_50_as_stated():
    assert count('vgg16') == [4_277_506, 14_714_688]
    assert count() == [4_867_074, 8_528_000]


@pytest.mark.parametrize('words', ['', 'cpu', 'vgg16', 'vgg16,cpu', *common.SHARED])
def test_its_configs_are_valid(words):
    config_rules.validate(sgone_config.get_config(f'fold=2,{words}'), devices=1)


def test_the_union_may_be_asked_for_at_the_test_and_has_a_file_and_a_name_of_its_own(tmp_path):
    before, now = sgone_config.get_config(), sgone_config.get_config()
    now.model.shots = 'union'
    config_rules.check_same_run(now, before, tmp_path)
    assert method_name(now) == 'SG-One + union'
    assert result_name(now, 'best') == result_name(before, 'best').replace('.json', '_union.json')
    now.train.shot = before.train.shot = 5
    with pytest.raises(ValueError, match="model.shots: was 'average', now 'union'"):
        config_rules.check_same_run(now, before, tmp_path)
    now.model.shots = 'attention'
    with pytest.raises(
        ValueError,
        match="config.model.shots must be 'average' or 'union' for sgone, got 'attention'",
    ):
        config_rules.validate(now, devices=1)
