"""The matching method against its formulas in NumPy, one pixel and one prototype at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.models import matching
from simpropnet_jax.models.matching import Matching

SIZE, CELLS, SHOTS = 33, 5, 2


class OnPixels(Matching):
    """In place of the encoder: every eighth pixel as two levels."""

    def setup(self):
        def levels(images):
            x = images[:, ::8, ::8]
            return {'layer1': x, 'layer2': 3 * x, 'layer3': x[..., ::-1] ** 2}

        self.backbone = levels


MODULE = OnPixels(prototypes=3, nearest=2, steps=4, margin=0.1, seed_margin=0.03)


@pytest.fixture(scope='module')
def drawn():
    """Supports, masks, valid and queries; void is a tenth, and the last support shows only background."""
    rng = np.random.default_rng(0)
    masks = (rng.uniform(size=(2, SHOTS, SIZE, SIZE)) > 0.5).astype(np.float32)
    masks[-1, -1] = 0
    valid = (rng.uniform(size=masks.shape) > 0.1).astype(np.float32)
    supports = rng.normal(size=(*masks.shape, 3)).astype(np.float32) + masks[..., None]
    queries = rng.normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    queries[:, : SIZE // 2] += 1
    return tuple(jnp.asarray(x) for x in (supports, masks * valid, valid, queries))


@functools.partial(jax.jit, static_argnums=0)
def run(module, supports, masks, valid, queries):
    """Return the features of supports and queries, the probe, and the logits."""
    encoded = module.apply({}, supports.reshape(-1, SIZE, SIZE, 3), method='encode')
    encoded = encoded.reshape(*supports.shape[:2], CELLS, CELLS, -1)
    features = module.apply({}, queries, method='encode')
    probe = module.apply({}, encoded, masks, valid, method='probe')
    return encoded, features, probe, module.apply({}, features, probe, method='decode')


def unit(x):
    length = np.sqrt((x**2).sum(-1, keepdims=True))
    return x / np.where(length > 0, length, 1)


def clusters_in_numpy(x, weights, count, steps):
    if weights.sum() == 0:
        return np.zeros((count, x.shape[-1]))
    reached = np.cumsum(weights)
    starts = [np.argmax(reached > (i + 0.5) / count * reached[-1]) for i in range(count)]
    centres = x[starts].astype(np.float64)
    for _ in range(steps):
        nearest = np.array([np.argmax([pixel @ c for c in centres]) for pixel in x])
        for number in range(count):
            mine = (nearest == number) & (weights > 0)
            if mine.any():
                centres[number] = unit((weights[mine, None] * x[mine]).sum(0))
    return centres


def logits_in_numpy(x, foreground, background, module):
    """One query's pixels x [n, c] against all prototypes of its supports."""

    def top(values, count):
        return np.sort(values)[::-1][:count].mean()

    similar = x @ foreground.T
    back = similar - module.backward * (similar.max(0) - similar)
    f = np.array([top(row, module.nearest) for row in back])
    b = np.array([top(row, module.nearest) for row in x @ background.T])
    if not module.seeds:
        return np.stack([b, f + module.margin], -1)
    share = 1 / (1 + np.exp(-module.logit_scale * (f + module.margin - b)))

    def grown(shares):
        weights = np.where(shares >= min(0.6, shares.max()), shares, 0)
        return (
            np.array([sum(w * (pixel @ y) for w, y in zip(weights, x, strict=True)) for pixel in x])
            / weights.sum()
        )

    return np.stack(
        [b + module.seeds * grown(1 - share), f + module.seeds * grown(share) + module.seed_margin],
        -1,
    )


@pytest.mark.parametrize('changed', [{}, {'backward': 0.0, 'seeds': 0.0}])
def test_probe_and_logits_are_the_formulas(drawn, changed):
    _, masks, valid, _ = jax.device_get(drawn)
    module = MODULE.clone(**changed)
    supports, features, probe, logits = jax.device_get(run(module, *drawn))
    share = (masks * valid)[:, :, ::8, ::8], ((1 - masks) * valid)[:, :, ::8, ::8]
    for i in range(2):
        found = [
            np.concatenate(
                [
                    clusters_in_numpy(supports[i, k].reshape(25, -1), part[i, k].ravel(), 3, 4)
                    for k in range(SHOTS)
                ]
            )
            for part in share
        ]
        np.testing.assert_allclose(probe.foreground[i], found[0], atol=1e-5)
        np.testing.assert_allclose(probe.background[i], found[1], atol=1e-5)
        expected = logits_in_numpy(features[i].reshape(25, -1), *found, module)
        np.testing.assert_allclose(logits[i].reshape(25, 2), expected, atol=1e-4)


@pytest.mark.parametrize('shallow', [0.5, 0.0])
def test_features_are_levels_of_fixed_lengths_joined(drawn, shallow):
    queries = drawn[-1]
    found = OnPixels(shallow=shallow).apply({}, queries, method='encode')
    x = np.asarray(queries[:, ::8, ::8])
    expected = unit(np.concatenate([shallow * unit(x), unit(x[..., ::-1] ** 2)], -1))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pixels_that_are_void_change_nothing(drawn):
    supports, masks, valid, queries = drawn
    other = jnp.where(valid[..., None] > 0, supports, 7)
    probe = run(MODULE, *drawn)[2]
    for ours, theirs in zip(probe, run(MODULE, other, masks, valid, queries)[2], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_array_has_all_pairs_of_pixels():
    """The memory that the docstring states: cosines with all prototypes are the largest arrays beside features."""
    pixels, channels, prototypes = 41 * 41, 12, 2 * 64
    features = jnp.zeros((1, 41, 41, channels))
    probe = matching.Clustered(*2 * (jnp.zeros((1, prototypes, channels)),))
    program = jax.make_jaxpr(lambda f, p: Matching().apply({}, f, p, method='decode'))(
        features, probe
    )
    largest = max(v.aval.size for equation in program.eqns for v in equation.outvars)
    assert largest == pixels * prototypes
