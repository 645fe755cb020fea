"""Choose the type that a CPU computes faster in: what `config.model.dtype='auto'` stands for."""

import logging
import platform
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from simpropnet_jax.models.layers import Conv
from simpropnet_jax.runtime import paths, records

logger = logging.getLogger(__name__)

TYPES = ('float32', 'bfloat16')
REPEATS = 4
# Maps of a short training: 4 pairs of 225 x 225 pixels at stride 8, less wide than SimPropNet's.
SHAPE = (8, 29, 29, 128)


def faster() -> str:
    """Return 'float32' or 'bfloat16', whichever this machine computes a training step faster in.

    On accelerators that is bfloat16. On a CPU it depends on the processor: with AMX bfloat16 is faster, with AVX-512
    alone it may be slower. A convolution is timed in both, once a machine: the result is kept in the cache, so that
    trainings to be compared compute alike. Of several hosts the first one decides.
    """
    if jax.default_backend() != 'cpu':
        return 'bfloat16'
    chosen = TYPES.index(_timed()) if jax.process_index() == 0 else 0
    if jax.process_count() > 1:
        chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
    return TYPES[chosen]


def _timed() -> str:
    """Return the faster type of this machine: as kept in the cache, or timed now."""
    path = paths.cache() / 'number_types' / f'{_machine()}.json'
    try:
        return records.read(path, dict[str, str], 'Delete it')['faster']
    except (OSError, ValueError, KeyError):
        seconds = {name: _seconds(name) for name in TYPES}
    name = min(seconds, key=seconds.get)
    logger.info(
        'computing in %s (config.model.dtype): a convolution takes %.0f ms in float32 and %.0f ms in bfloat16',
        name,
        1e3 * seconds['float32'],
        1e3 * seconds['bfloat16'],
    )
    _keep(path, name)
    return name


def _seconds(name: str) -> float:
    """Return the least time of a convolution with its gradients."""
    layer = Conv(dtype=jnp.dtype(name))
    x = jnp.ones(SHAPE, name)
    variables = layer.init(jax.random.key(0), x)

    def total(variables, x):
        return layer.apply(variables, x).astype(jnp.float32).sum()

    gradient = jax.jit(jax.grad(total, (0, 1)))
    jax.block_until_ready(gradient(variables, x))  # compiles
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        jax.block_until_ready(gradient(variables, x))
        taken.append(time.perf_counter() - started)
    return min(taken)


def _machine() -> str:
    """Return a word for the processor and the compiler, which decide what is faster."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    facts = sorted({line for line in lines if line.startswith(('model name', 'flags'))})
    return f'jax{jax.__version__}_{records.checksum({"cpu": [name, *facts]})[:12]}'


def _keep(path: Path, name: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, {'faster': name})
    except OSError as error:
        logger.warning('%s cannot be written (%s), so it is timed again next time', path, error)
