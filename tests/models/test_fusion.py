"""SimPropNet's Eq. 1 to 4 against plain numpy, position by position, as the paper writes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.models import fusion
from simpropnet_jax.models.fusion import Probe
from simpropnet_jax.models.simpropnet import SimPropNet

RNG = np.random.default_rng(0)
B, K, H, W, C = 2, 3, 6, 5, 4


def random_features(*shape):
    return np.maximum(RNG.normal(size=shape), 0).astype(np.float32)


def cosine(a, b):
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def plain_probe(features, foreground, background):
    """Eq. 1 as a weighted average over the mask's own area, then Eq. 4."""
    pooled = []
    for weights in (foreground, background):
        per_shot = [
            sum(features[k, y, x] * weights[k, y, x] for y in range(H) for x in range(W))
            / (weights[k].sum() + 5e-4)
            for k in range(K)
        ]
        pooled.append(np.mean(per_shot, 0))
    return pooled


def plain_attention(features, z_f, z_b):
    """Eq. 2."""
    result = np.zeros((H, W, 2))
    for y in range(H):
        for x in range(W):
            c_f, c_b = (1 + cosine(features[y, x], z_f)) / 2, (1 + cosine(features[y, x], z_b)) / 2
            result[y, x] = c_f / (c_f + c_b), c_b / (c_f + c_b)
    return result


def plain_conv(x, kernel, bias):
    """3x3, zero padding, one position and tap at a time."""
    out = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for y in range(H):
        for c in range(W):
            for i in range(3):
                for j in range(3):
                    if 0 <= y + i - 1 < H and 0 <= c + j - 1 < W:
                        out[y, c] += x[y + i - 1, c + j - 1] @ kernel[i, j]
    return out + bias


def plain_norm(x):
    return (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)


def test_probe_is_eq1_and_eq4():
    features = random_features(B, K, H, W, C)
    masks = RNG.uniform(size=(B, K, H, W)).astype(np.float32)
    valid = (RNG.uniform(size=masks.shape) > 0.3).astype(np.float32)
    probe = SimPropNet().apply(
        {}, jnp.asarray(features), jnp.asarray(masks), jnp.asarray(valid), method='probe'
    )
    for b in range(B):
        z_f, z_b = plain_probe(features[b], masks[b] * valid[b], (1 - masks[b]) * valid[b])
        np.testing.assert_allclose(probe.foreground[b], z_f, rtol=1e-5)
        np.testing.assert_allclose(probe.background[b], z_b, rtol=1e-5)


def test_attention_is_eq2_and_stays_between_a_third_and_two_thirds():
    features, z = random_features(B, H, W, C), random_features(2, B, C)
    maps = np.asarray(fusion.attention_maps(jnp.asarray(features), Probe(*map(jnp.asarray, z))))
    for b in range(B):
        np.testing.assert_allclose(
            maps[b], plain_attention(features[b], z[0, b], z[1, b]), rtol=1e-5
        )
    assert maps.min() >= 1 / 3 - 1e-6 and maps.max() <= 2 / 3 + 1e-6


@pytest.mark.parametrize(
    'activation,gain', [('none', 1.0), ('relu', 1.0), ('block', 1.0), ('none', 7.0)]
)
def test_fusion_is_eq3(activation, gain):
    features, z = random_features(B, H, W, C), random_features(2, B, C)
    module, probe = fusion.AttentiveFusion(activation, gain), Probe(*map(jnp.asarray, z))
    variables = jax.jit(module.init)(jax.random.key(0), jnp.asarray(features), probe)
    # Larger than before: a norm magnifies the rounding of nearly constant channels.
    variables = jax.tree.map(lambda x: 20 * x, variables)
    for layer in variables['params'].values():
        layer['bias'] = (
            layer['bias'] + 10
        )  # so that no channel is without a positive value: 'block' would empty it
    fused = jax.jit(module.apply)(variables, jnp.asarray(features), probe)
    positive, same = (lambda x: np.maximum(x, 0)), (lambda x: x)
    outer, inner = (positive if activation == name else same for name in ('relu', 'block'))
    layers = jax.device_get(variables)['params']
    weights = {name: (p['kernel'].astype(np.float64), p['bias']) for name, p in layers.items()}
    for b in range(B):
        attention = 0.5 + gain * (plain_attention(features[b], z[0, b], z[1, b]) - 0.5)
        g0 = np.concatenate([features[b], np.broadcast_to(z[0, b], (H, W, C))], -1)
        g1 = outer(plain_norm(inner(plain_conv(g0, *weights['conv1'])) + g0))
        with_attention = np.concatenate([g1, attention], -1)
        g2 = outer(plain_norm(inner(plain_conv(with_attention, *weights['conv2'])) + g1))
        g = outer(plain_norm(inner(plain_conv(g2, *weights['conv3'])) + g2))
        np.testing.assert_allclose(fused[b], g, atol=2e-4)
