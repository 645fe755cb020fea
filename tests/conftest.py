"""Eight virtual CPU devices, set before JAX starts, and the real data where a developer has it."""

import os
from pathlib import Path

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.sharding import AxisType  # noqa: E402


@pytest.fixture
def mesh_of():
    """mesh_of(n): a mesh over the first n devices."""
    return lambda n: jax.make_mesh((n,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real images and weights that SIMPROPNET_DATA names."""
    if 'SIMPROPNET_DATA' not in os.environ:
        pytest.skip('SIMPROPNET_DATA does not name a folder with real images and weights')
    return Path(os.environ['SIMPROPNET_DATA'])
