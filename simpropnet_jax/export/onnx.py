"""Convert entry points to ONNX files with jax2onnx, in a separate environment.

    python -m simpropnet_jax.export.onnx           only makes the environment, for a machine that will be offline

jax2onnx requires an orbax-checkpoint older than ours, for parts that are not used here. It is installed once, with its
extra packages, into a folder of SIMPROPNET_CACHE (by default ~/.cache/simpropnet_jax) that no other program uses, and
runs there in a separate process.
"""

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import simpropnet_jax
from simpropnet_jax.config import command_line
from simpropnet_jax.export.entry_points import EntryPoint
from simpropnet_jax.runtime import paths

logger = logging.getLogger(__name__)

PACKAGES = ('jax2onnx==0.17.1', 'onnx==1.23.2', 'onnx-ir==1.1.0', 'sympy==1.14.0', 'mpmath==1.3.0')
OPSET = 21
TOLERANCE = 1e-4
"""Allowed difference from the JAX function: absolute, or relative to the largest value if that is above one."""
SAMPLE = {'batch': 2, 'shots': 3}
"""Sizes at which the files are compared with the JAX functions."""


def environment() -> Path:
    """Return the folder of the converter's packages; it may not exist yet."""
    version = hashlib.sha256(repr((PACKAGES, sys.version_info[:2])).encode()).hexdigest()[:8]
    return paths.cache() / f'onnx_converter_{version}'


def prepare() -> Path:
    """Create the environment if it is missing, and return its folder.

    Raises:
      OSError: a package cannot be installed.
    """
    folder = environment()
    if folder.is_dir():
        return folder
    logger.info('installing %s into %s: this once', ', '.join(PACKAGES), folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='unfinished_', dir=folder.parent) as unfinished:
        # Without dependencies: everything used here is in this list or already installed.
        done = _run(
            'pip', 'install', '--quiet', '--no-deps', '--target', f'{unfinished}/site', *PACKAGES
        )
        if done.returncode:
            raise OSError(
                f'the converter to ONNX cannot be installed: pip says {_last_line(done)!r}'
            )
        try:
            os.rename(f'{unfinished}/site', folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same packages
                raise
    return folder


def require_runtime() -> None:
    """Raise ImportError, in a sentence, if onnxruntime is missing: it checks every file."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "--onnx needs onnxruntime, to check what it writes: pip install -e '.[export]'"
        ) from error


def write(
    workdir: Path, which: str, out: Path, functions: dict[str, EntryPoint]
) -> dict[str, float]:
    """Write NAME.onnx for each function: opset `OPSET`, float32, with open batch and shots.

    Args:
      functions: what the files must compute, in float32.
    Returns:
      For each name, the largest difference between file and function, measured as for `TOLERANCE`.
    Raises:
      OSError: the converter cannot be installed, or fails.
      ValueError: a file's results differ.
    """
    places = [
        prepare(),
        Path(simpropnet_jax.__file__).parent.parent,
        *filter(None, [os.environ.get('PYTHONPATH')]),
    ]
    done = _run(
        'simpropnet_jax.export.converter',
        workdir,
        which,
        OPSET,
        out,
        PYTHONPATH=os.pathsep.join(map(str, places)),
        JAX_PLATFORMS='cpu',
        XLA_FLAGS='',
    )
    if done.returncode:
        logger.debug('%s', done.stderr)
        raise OSError(f'the converter to ONNX failed: {_last_line(done)}')
    found = {
        name: difference(out / f'{name}.onnx', function) for name, function in functions.items()
    }
    for name, value in found.items():
        if not value <= TOLERANCE:
            raise ValueError(
                f'{out / name}.onnx is off by {value:.1e}, and {TOLERANCE} is allowed: do not use it'
            )
    return found


def difference(path: Path, entry_point: EntryPoint) -> float:
    """Return the difference between an ONNX file and its function on random arrays, as for `TOLERANCE`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    rng = np.random.default_rng(0)
    given = {name: _random(rng, struct) for name, struct in entry_point.inputs.items()}
    ours = jax.device_get(jax.jit(lambda arrays: entry_point.function(**arrays))(given))
    theirs = dict(
        zip(entry_point.outputs, session.run(list(entry_point.outputs), given), strict=True)
    )
    scale = {name: max(1.0, float(np.abs(value).max())) for name, value in ours.items()}
    return max(float(np.abs(theirs[name] - ours[name]).max()) / scale[name] for name in ours)


def _random(rng, struct):
    shape = [size if isinstance(size, int) else SAMPLE[str(size)] for size in struct.shape]
    if struct.dtype == np.uint8:
        return rng.integers(0, 256 if shape[-1] == 3 else 2, shape, np.uint8)
    return np.abs(rng.normal(size=shape)).astype(struct.dtype)  # features follow a ReLU


def _run(module, *words, **environment):
    return subprocess.run(
        [sys.executable, '-m', module, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | environment,
    )


def _last_line(done):
    return (done.stderr.strip().splitlines() or ['nothing'])[-1]


if __name__ == '__main__':
    command_line.guarded(lambda: print(f'the converter to ONNX is in {prepare()}'))
