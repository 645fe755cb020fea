"""Shared layers against independent references."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.models import layers
from simpropnet_jax.models.convolve import convolve


@pytest.mark.parametrize('size,dilation', [((9, 7), 1), ((9, 7), 2), ((9, 7), 6), ((9, 7), 12)])
def test_sum_of_taps_is_the_convolution_and_so_is_its_gradient(size, dilation):
    rng = np.random.default_rng(dilation)
    x = jnp.asarray(rng.normal(size=(2, *size, 5)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 5, 4)), jnp.float32)

    def reference(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), [(dilation, dilation)] * 2, rhs_dilation=(dilation, dilation),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'), precision='highest')  # fmt: skip

    np.testing.assert_allclose(convolve(x, kernel, dilation), reference(x, kernel), atol=1e-4)
    gradients = [jax.grad(lambda x, k, f=f: jnp.sum(jnp.sin(f(x, k))), (0, 1))(x, kernel)
                 for f in (lambda x, k: convolve(x, k, dilation), reference)]  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_resize_is_pytorchs_with_aligned_corners():
    torch = pytest.importorskip('torch', reason='PyTorch is the reference for the resize')
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype(np.float32)
    for size in [(33, 50), (3, 4), (1, 1)]:
        ours = layers.resize_bilinear(jnp.asarray(x), size)
        theirs = torch.nn.functional.interpolate(
            torch.tensor(x).permute(0, 3, 1, 2), size, mode='bilinear', align_corners=True)  # fmt: skip
        np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_feature_grid_lies_on_every_eighth_pixel():
    ramp = jnp.arange(161.0)[:, None] + jnp.zeros((161, 161))
    np.testing.assert_allclose(layers.resize_mask(ramp, (21, 21))[:, 0], 8 * np.arange(21), atol=1e-4)


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
