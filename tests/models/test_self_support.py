"""Self-support against plain NumPy, one image at a time, written after the paper and its released code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.models import self_support
from simpropnet_jax.models.amp import AMP
from simpropnet_jax.models.canet import CANet
from simpropnet_jax.models.cofcn import CoFCN
from simpropnet_jax.models.fusion import Probe
from simpropnet_jax.models.oslsm import OSLSM
from simpropnet_jax.models.panet import PANet
from simpropnet_jax.models.prototype import Prototype
from simpropnet_jax.models.sgone import SGOne
from simpropnet_jax.models.simpropnet import SimPropNet

RNG = np.random.default_rng(0)
K, H, W, C = 2, 6, 7, 5
MODULE = Prototype(width=4)


@functools.partial(jax.jit, static_argnames='rounds')
def decode(features, probe, rounds):
    return self_support.decode(MODULE, {}, features, probe, rounds)


def cosines(x, vectors):
    """[..., C] and [..., C] -> [...]."""
    return (x * vectors).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(vectors, axis=-1)


def chosen(probability, threshold):
    """Flat indices of the confident pixels; none: of the twelve most probable."""
    above = np.flatnonzero(probability > threshold)
    return (above, False) if len(above) else (np.argsort(probability)[-12:], True)


def plain(features, foreground, background, rounds):
    """The two cosines [H * W, 2] of one image after the rounds, as SSP_func has them; and what was confident."""
    x, cases = features.reshape(-1, C).astype(np.float64), []
    changed = foreground, np.broadcast_to(background, x.shape)
    for _ in range(rounds):
        scaled = 10 * np.stack([cosines(x, changed[1]), cosines(x, changed[0])], -1)
        p = np.exp(scaled) / np.exp(scaled).sum(-1, keepdims=True)
        (f, few_f), (b, few_b) = chosen(p[:, 1], 0.7), chosen(p[:, 0], 0.6)
        if few_f:  # a pixel is of one side: of the side that would have none
            b = np.setdiff1d(b, f)
        if few_b:
            f = np.setdiff1d(f, b)
        cases.append((few_f, few_b))

        def mean(index):
            return x[index].sum(0) / (len(index) + 5e-4)

        unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
        weights = np.exp(2 * unit @ unit[b].T)
        local = weights / weights.sum(-1, keepdims=True) @ x[b]
        changed = 0.5 * foreground + 0.5 * mean(f), 0.3 * mean(b) + 0.7 * local
    return np.stack([cosines(x, changed[1]), cosines(x, changed[0])], -1), cases


def an_image(kind):
    """Return features [H, W, C] and the supports' two averages; neither, one or both make pixels confident."""
    x = np.maximum(RNG.normal(size=(H, W, C)), 0).astype(np.float32) + 0.1
    first, second = x[0, 0], x[3, 3]
    mild = 0.5 * (first + second) + 0.02 * np.stack([first, second])
    return x, *{
        'both': (first, second),
        'neither': mild,
        'no background': (np.ones(C), -np.ones(C)),
        'no foreground': (-np.ones(C), np.ones(C)),
    }[kind]


# What is confident -> whether the foreground's pixels, and the background's, are but the most probable.
KINDS = {
    'both': (False, False),
    'no foreground': (True, False),
    'no background': (False, True),
    'neither': (True, True),
}


def test_the_prototypes_are_the_papers_and_the_released_codes():
    images = [an_image(kind) for kind in KINDS]
    features, foreground, background = (
        jnp.asarray(np.stack(one), jnp.float32) for one in zip(*images, strict=True)
    )
    for rounds in (0, 1, 2):
        found = np.asarray(decode(features, Probe(foreground, background), rounds)).reshape(
            len(images), -1, 2
        )
        for one, image, expected_cases in zip(found, images, KINDS.values(), strict=True):
            expected, cases = plain(*image, rounds)
            assert not cases or cases[0] == expected_cases
            np.testing.assert_allclose(one, expected, atol=2e-5)


@pytest.mark.parametrize('size', [(6, 7), (2, 3), (1, 1)])
def test_images_without_a_confident_pixel_give_numbers(size):
    """Blank images, and such of fewer pixels than are taken at least."""
    logits = jnp.zeros((2, *size, 2))
    masks, valid = (np.asarray(one) for one in self_support.confident(logits))
    few = min(12, size[0] * size[1] // 2)
    np.testing.assert_array_equal([masks.sum((1, 2)), (valid - masks).sum((1, 2))], few)
    for value in (0, 1):
        features = jnp.full((2, *size, C), value, jnp.float32)
        probe = Probe(*jnp.full((2, 2, C), value, jnp.float32))
        assert np.isfinite(decode(features, probe, 1)).all()


def test_every_support_is_mixed_with_the_query_and_a_number_of_a_class_is_not():
    probe = {'each': jnp.arange(12.0).reshape(2, 3, 2), 'class_id': jnp.array([4, 5])}
    own = {'each': jnp.full((2, 1, 2), 10.0), 'class_id': jnp.array([0, 0])}
    found = self_support.mixed(probe, own)
    np.testing.assert_array_equal(found['each'], (np.arange(12.0).reshape(2, 3, 2) + 10) / 2)
    np.testing.assert_array_equal(found['class_id'], [4, 5])


class Recorder:
    """In place of a module: notes what it is asked, and says that all is foreground."""

    logit_scale = 1.0

    def __init__(self):
        self.asked = []

    def apply(self, variables, features, probe, *given, method, **options):
        self.asked.append((method, probe, options))
        return 'changed' if method == 'self_supported' else jnp.full((1, 3, 3, 2), 1.0)


def test_every_round_begins_with_the_probe_of_the_supports_and_options_are_of_every_decode():
    module = Recorder()
    self_support.decode(module, {}, None, 'supports', 2, steps=3)
    once = [('self_supported', 'supports', {}), ('decode', 'changed', {'steps': 3})]
    assert module.asked == [('decode', 'supports', {'steps': 3}), *once, *once]


@pytest.mark.parametrize('kind', [SimPropNet, PANet, SGOne, CoFCN, AMP, OSLSM, CANet])
def test_every_method_can(kind):
    """Shapes alone, of two supports."""
    module = kind(width=4, features=8, **({'shots': 'attention'} if kind is CANet else {}))
    images, masks = jnp.zeros((2, 33, 33, 3)), jnp.zeros((2, 33, 33))

    def one_round(key):
        variables = module.init(key, images, masks)
        features = module.apply(variables, images, method='encode')
        supports = jax.tree.map(lambda x: jnp.stack([x, x], 1), features)
        probe = module.apply(variables, supports, jnp.stack([masks, masks], 1), method='probe')
        options = {'steps': 2} if module.iterative else {}
        return self_support.decode(module, variables, features, probe, 1, **options)

    side = 9 if kind is AMP else 5  # which answers at the size of layer1
    assert jax.eval_shape(one_round, jax.random.key(0)).shape == (2, side, side, 2)
