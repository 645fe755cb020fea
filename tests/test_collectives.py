"""What crosses the network in a step: gradients once, and nothing of the images."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import collectives
from configs import simpropnet
from simpropnet_jax.ops.convolve import batch_split_over, convolve
from simpropnet_jax.runtime import sharding
from tests.fakes import SMALL


# Winograd's algorithm, sums of taps image by image, and the forms in bfloat16.
@pytest.mark.parametrize('dilation', [1, 6])
@pytest.mark.parametrize('dtype,tolerance', [('float32', 1e-5), ('bfloat16', 5e-3)])
def test_devices_exchange_the_gradient_of_a_kernel_and_nothing_else(
    mesh_of, dilation, dtype, tolerance
):
    rng, mesh = np.random.default_rng(0), mesh_of(2)
    x = jnp.asarray(rng.normal(size=(4, 7, 7, 128)), dtype)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 128, 128)) / 30, jnp.float32)

    def gradient(x, kernel, devices):
        def loss(kernel):
            return jnp.square(convolve(x, kernel.astype(dtype), dilation).astype('float32')).sum()

        with batch_split_over(devices):
            return jax.grad(loss)(kernel)

    whole = sharding.replicated(mesh)
    split = jax.jit(
        lambda x, kernel: gradient(x, kernel, 2),
        in_shardings=(sharding.sharded(mesh), whole),
        out_shardings=whole,
    ).lower(x, kernel)
    compiled = split.compile()
    assert collectives.collectives_of(compiled.as_text()) == {'all-reduce': [kernel.nbytes]}
    expected = jax.jit(gradient, static_argnums=2)(x, kernel, 1)
    given = jax.device_put((x, kernel), (sharding.sharded(mesh), whole))
    apart = jnp.linalg.norm(compiled(*given) - expected)
    assert apart <= tolerance * jnp.linalg.norm(expected)


@pytest.mark.slow
def test_a_step_is_compiled_for_devices_and_its_bytes_are_counted_between_processes(
    tmp_path, capsys
):
    config = simpropnet.get_config('fold=1')
    config.update_from_flattened_dict(SMALL)
    record = collectives.main(config, 2, 4, ['2'], out=tmp_path / 'sent.json')
    assert json.loads((tmp_path / 'sent.json').read_text()) == record
    # Gradients, and a few scalars: metrics.
    assert set(record['collectives']) == {'all-reduce'}
    assert 0 <= sum(record['collectives']['all-reduce']) - record['gradients'] < 200
    (wire,) = record['wire']
    assert wire['ring'] == 2 * record['gradients'] == 2 * wire['gradients']
    assert wire['bytes'] > wire['ring']  # headers come on top
    assert '| 2 (n - 1) G, MB |' in capsys.readouterr().out
    for devices, batch, wrong in ((0, 0, 'give --devices'), (2, 3, '--batch must be a multiple')):
        with pytest.raises(ValueError, match=wrong):
            collectives.main(config, devices, batch)
    with pytest.raises(ValueError, match='--devices is 99, but JAX has 8 here'):
        collectives.main(config, 99, 99)
