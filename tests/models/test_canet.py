"""CANet against a plain PyTorch one with the same weights, through the import of its state dict."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import canet as canet_config
from simpropnet_jax.backbones.normalise import CONVENTIONS
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.canet import CANet
from simpropnet_jax.models.canet_weights import load_canet
from simpropnet_jax.models.fusion import Probe
from simpropnet_jax.models.layers import he_scaled
from simpropnet_jax.models.simpropnet import SimPropNet
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training.state import split

NARROW = {'width': 8, 'features': 16}
SIZE, GRID, SHOTS = 65, 9, 3


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


def build(**fields):
    config = canet_config.get_config()
    config.model.convention = 'torchvision'
    config.model.update(fields)
    return Method.from_config(config).module


def init(module):
    return module.init(jax.random.key(0), jnp.zeros((1, 33, 33, 3)), jnp.zeros((1, 33, 33)))[
        'params'
    ]


def test_parameters_are_the_released_codes():
    for shots, trainable in (
        ('average', 10_494_466),
        ('attention', 10_494_466 + 2 * 590_080 + 257),
    ):
        head, backbone = split(
            jax.eval_shape(lambda shots=shots: init(build(shots=shots))), ('backbone',)
        )
        assert count(head) == trainable
        assert (
            count(backbone) == 8_528_000
        )  # 8,543,296 with batch norms' scale and offset in place of biases


@pytest.fixture(scope='module')
def episode():
    """Normalised images, masks, and a history, in the order of their dimensions here."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    history = rng.uniform(size=(2, GRID, GRID)).astype(np.float32)
    return {
        'query': draw(2, SIZE, SIZE, 3),
        'supports': draw(2, SHOTS, SIZE, SIZE, 3),
        'masks': (draw(2, SHOTS, SIZE, SIZE) > 0.5).astype(np.float32),
        'history': jnp.stack([history, 1 - history], -1),
    }


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    """reference(**fields): a random PyTorch network, and our parameters, imported from its state dict."""
    torch = pytest.importorskip('torch', reason='PyTorch is the reference')
    from tests.models.torch_canet import random_canet

    def make(attention=False, **fields):
        path = tmp_path_factory.mktemp('canet') / 'best.pth'
        model = random_canet(0, attention=attention, **NARROW, **fields)
        state = model.state_dict()
        extra = {
            name: state.pop(name).numpy() for name in list(state) if name.startswith('attention')
        }
        torch.save(
            {f'module.{name}': value for name, value in state.items()}, path
        )  # as DataParallel does
        params = load_canet(path, **NARROW).params
        if attention:
            kernels = [extra[f'attention{i}.0.weight'].transpose(2, 3, 1, 0) for i in (1, 2)]
            kernels.append(extra['attention3.weight'].T[None, None])
            biases = [extra[f'attention{name}.bias'] for name in ('1.0', '2.0', '3')]
            params['attention'] = {
                name: {'kernel': kernel, 'bias': bias}
                for name, kernel, bias in zip(
                    ('conv1', 'conv2', 'weight'), kernels, biases, strict=True
                )
            }
        return model, params

    return make


@partial(jax.jit, static_argnums=0)
def encode(module, params, images):
    return module.apply({'params': params}, images, method='encode')


def ours(module, params, episode, shots=1, **how):
    """Logits; all images of the episode are encoded at once."""
    images = np.concatenate([episode['query'][:, None], episode['supports']], 1)
    plain = CANet(
        stride_on=module.stride_on, **NARROW
    )  # so that several tests share one compilation
    features = encode(plain, params, jnp.asarray(images.reshape(-1, SIZE, SIZE, 3)))
    features = features.reshape(2, 1 + SHOTS, *features.shape[1:])

    def forward(module, query, supports, masks):
        return module.decode(query, module.probe(supports, masks), **how)

    apply = jax.jit(lambda *args: module.apply({'params': params}, *args, method=forward))
    return np.asarray(
        apply(features[:, 0], features[:, 1 : 1 + shots], episode['masks'][:, :shots])
    )


def theirs(model, episode, shots=1, **how):
    import torch

    def first(x):
        return torch.tensor(np.moveaxis(x, -1, 1))

    how = {
        name: first(np.asarray(value)) if name == 'history' else value
        for name, value in how.items()
    }
    supports = [first(episode['supports'][:, k]) for k in range(shots)]
    masks = [torch.tensor(episode['masks'][:, k, None]) for k in range(shots)]
    with torch.no_grad():
        return np.moveaxis(
            model.iterate(first(episode['query']), supports, masks, **how).numpy(), 1, -1
        )


def assert_same(value, expected):
    assert value.shape == expected.shape == (2, GRID, GRID, 2)
    assert 0.3 < expected.std() < 30  # not a comparison of zeros, nor of a saturated softmax
    assert np.abs(value - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('stride_on', ['1x1', '3x3'])
def test_first_pass_is_pytorchs(reference, episode, stride_on):
    model, params = reference(stride_on=stride_on)
    module = CANet(stride_on=stride_on, **NARROW)
    assert_same(ours(module, params, episode, steps=0), theirs(model, episode, steps=0))


def test_a_history_and_four_refinements_are_pytorchs(reference, episode):
    model, params = reference(stride_on='1x1')
    module = CANet(stride_on='1x1', **NARROW)
    first = theirs(model, episode, steps=0)
    for how in ({'steps': 0, 'history': episode['history']}, {'steps': 4}):
        expected = theirs(model, episode, **how)
        assert_same(ours(module, params, episode, **how), expected)
        assert np.abs(expected - first).max() > 0.05 * np.abs(first).max()  # a history matters


@pytest.mark.parametrize('shots', ['average', 'attention'])
def test_several_supports_are_fused_as_pytorch_does(reference, episode, shots):
    model, params = reference(attention=shots == 'attention')
    module = CANet(stride_on='1x1', shots=shots, **NARROW)
    expected = theirs(model, episode, SHOTS, steps=0)
    assert_same(ours(module, params, episode, SHOTS, steps=0), expected)
    others = [theirs(model, episode, 1, steps=0)]
    if shots == 'attention':
        del model.attention1
        others.append(theirs(model, episode, SHOTS, steps=0))
    for other in others:  # more supports matter, and so does the attention
        assert np.abs(other - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.fixture(scope='module')
def narrow():
    """Parameters of a narrow network with attention, and features, masks and a probe of two supports."""
    module = build(shots='attention', dropout=0.0, **NARROW)
    rng = np.random.default_rng(1)

    def draw(leaf):
        return jnp.asarray(0.1 * rng.normal(size=leaf.shape), jnp.float32)

    params = jax.tree.map(draw, jax.eval_shape(lambda: init(module)))
    features = jnp.asarray(rng.uniform(size=(2, 5, 5, 16)), jnp.float32)
    probe = jnp.asarray(rng.uniform(size=(2, 2, 16)), jnp.float32)
    return module, params, features, probe


def decode(module, params, features, probe, *args, **how):
    """Compiled; `steps` and whether it trains are not traced."""

    def run(params, features, probe):
        return module.apply({'params': params}, features, probe, *args, method='decode', **how)

    return jax.jit(run)(params, features, probe)


def test_training_takes_one_pass_and_evaluation_refines(narrow):
    module, *given = narrow
    module = module.clone(refinements=1)
    once, refined = decode(module, *given, steps=0), decode(module, *given)
    assert np.abs(refined - once).max() > 1e-3 * np.abs(once).max()
    np.testing.assert_allclose(decode(module, *given, True), once, rtol=1e-5)
    np.testing.assert_allclose(
        decode(module, *given, True, jax.nn.softmax(once)), refined, rtol=1e-5
    )
    params, features, probe = given
    shown = jax.jit(lambda: module.apply({'params': params}, features, probe, method='maps'))()
    np.testing.assert_allclose(shown['before refinement'], jax.nn.softmax(once)[..., 1], rtol=1e-5)


def test_refinements_are_a_loop_over_what_depends_on_the_history(narrow):
    module, params, features, probe = narrow

    def traced(steps):
        def run(params):
            return module.apply({'params': params}, features, probe, steps=steps, method='decode')

        return str(jax.make_jaxpr(run)(params))

    loops = {steps: traced(steps) for steps in (0, 2, 20)}
    assert len(loops[20].replace('length=20', 'length=2')) == len(loops[2])
    # The convolution over features and Z^f, then the wide part of the one that also sees the history.
    for once in (r'rhs_dilation=\(2, 2\)', r'f32\[3,3,16,16\] = slice'):
        assert len({len(re.findall(once, text)) for text in loops.values()}) == 1
        assert re.search(once, loops[0])
    assert [text.count('rhs_dilation=(6, 6)') for text in loops.values()] == [1, 2, 2]


def test_gradients_reach_every_trainable_parameter_and_are_finite_for_empty_masks(narrow, episode):
    module, params, *_ = narrow
    head, backbone = split(params, ('backbone',))
    levels = jnp.asarray(np.random.default_rng(2).uniform(size=(6, GRID, GRID, 192)), jnp.float32)

    def loss(head, masks):
        def forward(module):
            features = module.project(levels, True).reshape(2, 3, GRID, GRID, -1)
            logits = module.decode(
                features[:, 0], module.probe(features[:, 1:], masks), True, episode['history']
            )
            return jnp.square(logits).sum()

        return module.apply(
            {'params': head | backbone}, method=forward, rngs={'dropout': jax.random.key(0)}
        )

    gradient = jax.jit(jax.grad(loss))
    for path, value in jax.tree_util.tree_leaves_with_path(
        gradient(head, jnp.asarray(episode['masks'][:, :2]))
    ):
        # The softmax over supports does not see a number that is added to all of them.
        assert bool(jnp.any(value != 0)) or "['weight']['bias']" in jax.tree_util.keystr(path), path
    empty = gradient(head, jnp.zeros((2, 2, SIZE, SIZE)))
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(empty))


def test_an_initial_gain_is_a_share_of_hes_deviation():
    rng = np.random.default_rng(0)

    def layer(*shape):
        return {
            'kernel': 0.01 * rng.normal(size=shape),
            'bias': rng.normal(size=shape[-1]),
        }

    decoder = {'fuse': {'conv': layer(3, 3, 32, 64)}, 'logits': layer(1, 1, 64, 2)}
    drawn = {'backbone': layer(3, 3, 8, 8), 'decoder': decoder}
    scaled = he_scaled(drawn, 0.6)
    fuse = scaled['decoder']['fuse']['conv']
    assert fuse['kernel'].std() == pytest.approx(0.6 * (2 / (9 * 32)) ** 0.5, rel=0.02)
    scaled['decoder']['fuse']['conv'] = {
        **fuse,
        'kernel': drawn['decoder']['fuse']['conv']['kernel'],
    }
    assert jax.tree.all(jax.tree.map(np.array_equal, drawn, scaled))  # nothing else is


def test_the_first_pass_is_simpropnets_baseline(narrow):
    """So weights of the one serve the other."""
    _, params, features, probe = narrow
    params = {name: value for name, value in params.items() if name != 'attention'}
    module, baseline = CANet(**NARROW), SimPropNet(fbaf=False, **NARROW)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(lambda: init(baseline)))
    first = decode(module, params, features, probe[:, 0], steps=0)
    np.testing.assert_allclose(
        first, decode(baseline, params, features, Probe(probe[:, 0], probe[:, 1])), rtol=1e-5
    )


def test_bfloat16_computes_nearly_the_same_logits_in_float32(narrow):
    module, params, features, probe = narrow
    wide = decode(*narrow, steps=1)
    half = build(shots='attention', dtype='bfloat16', **NARROW)
    half = decode(half, params, features.astype(jnp.bfloat16), probe, steps=1)
    assert half.dtype == jnp.float32
    assert 0 < np.abs(half - wide).max() < 0.05 * np.abs(wide).max()


def test_void_belongs_to_no_average(narrow):
    module, params, *_ = narrow
    rng = np.random.default_rng(3)
    features = jnp.asarray(rng.uniform(size=(1, 2, GRID, GRID, 16)), jnp.float32)
    masks = jnp.asarray(rng.integers(0, 2, (1, 2, GRID, GRID)), jnp.float32)
    valid = jnp.asarray(rng.integers(0, 2, (1, 2, GRID, GRID)), jnp.float32)
    probe = module.apply({'params': params}, features, masks, valid, method='probe')
    weights = (masks * valid)[..., None]
    np.testing.assert_allclose(
        probe, (features * weights).sum((2, 3)) / (weights.sum((2, 3)) + 5e-4), rtol=1e-5
    )
    mean = CANet(**NARROW).apply({'params': params}, features, masks, valid, method='probe')
    np.testing.assert_allclose(mean, probe.mean(1), rtol=1e-5)


@pytest.fixture(scope='module')
def state():
    """The state dict of a random PyTorch network, as numpy."""
    pytest.importorskip('torch', reason='PyTorch is the reference')
    from tests.models.torch_canet import random_canet

    return {name: value.numpy() for name, value in random_canet(1, **NARROW).state_dict().items()}


def saved(state, path):
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, path)
    return path


def test_import_fills_every_parameter(state, tmp_path):
    weights = load_canet(saved(state, tmp_path / 'canet.safetensors'), **NARROW)
    module = CANet(stride_on=CONVENTIONS[weights.convention].stride_on, **NARROW)
    expected = jax.eval_shape(lambda: init(module))
    assert jax.tree.map(jnp.shape, weights.params) == jax.tree.map(jnp.shape, expected)
    assert {x.dtype for x in jax.tree.leaves(weights.params)} == {np.dtype('float32')}
    assert CONVENTIONS[weights.convention].stride_on == '1x1'
    assert weights.source.startswith('canet.safetensors sha256:')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        (
            'residule2.3.bias',
            None,
            'has no entry residule2.3.bias (is it a CANet of the released code?)',
        ),
        ('layer2.0.bn1.running_var', None, 'has no entry layer2.0.bn1.running_var'),
        (
            'layer5.2.weight',
            np.zeros(1),
            'has an entry layer5.2.weight that the released CANet does not have',
        ),
        (
            'layer4.0.conv1.weight',
            np.zeros(1),
            'has an entry layer4.0.conv1.weight that the released CANet',
        ),
        (
            'layer3.6.conv1.weight',
            np.zeros(1),
            'has an entry layer3.6.conv1.weight that a ResNet-50',
        ),
        (
            'layer9.weight',
            np.zeros((3, 16, 1, 1)),
            'entry layer9.weight should have shape (2, 16, 1, 1), has (3, 16,',
        ),
        (
            'conv1.weight',
            np.zeros((8, 4, 7, 7)),
            'entry conv1.weight should have shape (8, 3, 7, 7), has (8, 4,',
        ),
    ],
)
def test_wrong_entries_are_named(state, tmp_path, name, value, message):
    damaged = {key: array for key, array in state.items() if key != name} | (
        {} if value is None else {name: value}
    )
    path = saved(damaged, tmp_path / 'damaged.safetensors')
    with pytest.raises(ValueError, match=re.escape(f'{path}') + '.*' + re.escape(message)):
        load_canet(path, **NARROW)


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'CANet weights not found: .*nowhere\.pth'):
        load_canet(tmp_path / 'nowhere.pth')
    (tmp_path / 'weights.h5').touch()
    with pytest.raises(ValueError, match=r'weights\.h5 is not a file of weights: it is neither'):
        load_canet(tmp_path / 'weights.h5')
    (tmp_path / 'empty.safetensors').write_bytes(b'\x10\0\0\0 not a weight file')
    with pytest.raises(ValueError, match=r'empty\.safetensors is not a file of weights'):
        load_canet(tmp_path / 'empty.safetensors')


def test_configs_are_valid_and_the_method_says_that_it_iterates():
    for argument in ('', 'fold=2,cpu'):
        config_rules.validate(canet_config.get_config(argument), devices=1)
    assert build().iterative and not SimPropNet.iterative
    config = canet_config.get_config()
    config.model.shots = 'both'
    with pytest.raises(
        ValueError,
        match="config.model.shots must be 'average' or 'attention' for canet, got 'both'",
    ):
        config_rules.validate(config, devices=1)
