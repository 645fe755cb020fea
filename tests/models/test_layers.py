"""Shared layers against independent references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.models import layers
from simpropnet_jax.ops.convolve import convolve, tracing_for
from simpropnet_jax.ops.resize import resize_bilinear


@pytest.mark.parametrize('dtype,tolerance', [('float32', 5e-6), ('bfloat16', 0.02)])
@pytest.mark.parametrize('platform', ['cpu', 'gpu'])
@pytest.mark.parametrize(
    'channels,dilation',
    [((20, 6), 1), ((128, 6), 6), ((20, 6), 12), ((512, 128), 2), ((128, 130), 1), ((2, 6), 1)],
)
def test_convolution_and_its_gradient_are_xlas(channels, dilation, platform, dtype, tolerance):
    rng = np.random.default_rng(dilation)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    x, kernel, weights = (
        draw(2, 9, 7, channels[0]),
        draw(3, 3, *channels),
        draw(2, 9, 7, channels[1]),
    )

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            [(dilation, dilation)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            precision='highest',
        )

    with tracing_for(platform):
        value, gradients = jax.vjp(lambda x, k: convolve(x, k, dilation), x, kernel)
        ours_of_both = gradients(weights)

    def wide(array):
        return array.astype(jnp.float32)

    expected, expected_gradients = jax.vjp(reference, wide(x), wide(kernel))
    pairs = zip([value, *ours_of_both], [expected, *expected_gradients(wide(weights))], strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == jnp.dtype(dtype)
        assert jnp.linalg.norm(wide(ours) - theirs) <= tolerance * jnp.linalg.norm(theirs)


@pytest.mark.parametrize('side', [(16, 21), (33, 8)])
@pytest.mark.parametrize('size', [3, 7])
def test_a_gpus_first_convolution_over_blocks_is_the_plain_one(size, side):
    rng = np.random.default_rng(size)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((2, *side, 3), (size, size, 3, 5))
    )
    with tracing_for('gpu'):
        found = convolve(x, kernel, stride=2)
    expected = jax.lax.conv_general_dilated(
        x,
        kernel,
        (2, 2),
        [(size // 2,) * 2] * 2,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision='highest',
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize('dilation', [1, 2, 6])
def test_constant_and_thin_channels_are_as_if_concatenated(dilation):
    rng = np.random.default_rng(dilation)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    x, constant, thin = draw(2, 6, 7, 5), draw(2, 4), draw(2, 6, 7, 2)
    module = layers.Conv(3, dilation=dilation)
    together = jnp.concatenate([x, layers.tile(constant, x), thin], -1)
    variables = module.init(jax.random.key(0), together)
    split = module.apply(variables, x, constant, thin)
    np.testing.assert_allclose(split, module.apply(variables, together), atol=1e-6)


def test_resize_is_pytorchs_with_aligned_corners():
    torch = pytest.importorskip('torch', reason='PyTorch is the reference for the resize')
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    for size in [(33, 50), (3, 4), (1, 1)]:
        ours = resize_bilinear(jnp.asarray(x), size)
        theirs = torch.nn.functional.interpolate(
            torch.tensor(x).permute(0, 3, 1, 2), size, mode='bilinear', align_corners=True
        )
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_the_largest_passes_its_gradient_to_the_one_that_was_taken():
    x = jnp.array([[1.0, 3.0, 3.0], [-2.0, -1.0, -4.0]])
    values, gradient = jax.vmap(jax.value_and_grad(layers.largest))(x)
    np.testing.assert_array_equal(values, [3, -1])
    np.testing.assert_array_equal(gradient, [[0, 1, 0], [0, 1, 0]])


def test_feature_grid_lies_on_every_eighth_pixel():
    ramp = jnp.arange(161.0)[:, None] + jnp.zeros((161, 161))
    np.testing.assert_allclose(
        layers.resize_mask(ramp, (21, 21))[:, 0], 8 * np.arange(21), atol=1e-4
    )


def test_dropout_takes_whole_channels():
    module = layers.ConvReluDropout(64, dropout=0.5)
    x = jnp.ones((2, 5, 5, 8))
    variables = module.init(jax.random.key(0), x)
    plain = np.asarray(module.apply(variables, x))
    dropped = np.asarray(module.apply(variables, x, True, rngs={'dropout': jax.random.key(1)}))
    off = (dropped == 0).all((1, 2))
    assert off.any() and not off.all()
    kept = np.broadcast_to(~off[:, None, None], plain.shape)
    np.testing.assert_allclose(dropped[kept], 2 * plain[kept], rtol=1e-5)
