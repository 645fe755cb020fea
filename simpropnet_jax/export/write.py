"""Write a method as a folder that other programs run without this package."""

import importlib.metadata
import logging
import platform
from pathlib import Path

import jax
from jax import export

from simpropnet_jax.export import artifact, onnx
from simpropnet_jax.export.entry_points import EntryPoint, entry_points, in_float32, load_method
from simpropnet_jax.ops.convolve import tracing_for
from simpropnet_jax.runtime import paths, records

logger = logging.getLogger(__name__)

PLATFORMS = ('cpu', 'cuda', 'tpu')
LIBRARIES = ('simpropnet-jax', 'jax', 'jaxlib', 'flax')


def write(
    workdir: str | paths.AnyPath, out: Path, which: str = 'best', with_onnx: bool = False
) -> dict:
    """Write encode, probe and decode, each with its weights, and finally manifest.json; return the manifest.

    Args:
      workdir: the run folder.
      out: folder; created if missing.
      which: checkpoint, 'best', 'latest' or a step.
      with_onnx: whether to write ONNX files too.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'{out} exists and is not an empty folder: give another --out')
    if with_onnx:
        onnx.require_runtime()
        onnx.prepare()
    workdir = paths.parse(workdir)
    method, variables, step = load_method(workdir, which)
    functions = entry_points(method, variables)
    out.mkdir(parents=True, exist_ok=True)
    model, shown = method.config.model, {}
    for name, function in functions.items():
        program = portable(function)
        path = out / f'{name}{artifact.ENDING}'
        path.write_bytes(program.serialize())
        shown[name] = {
            'file': path.name,
            'inputs': _plain(function.inputs),
            'outputs': _plain(function.outputs),
        }
        logger.info('%s: %.1f MB', path, path.stat().st_size / 1e6)
    manifest = {
        'method': model.name,
        'size': method.config.eval.size,
        'dtype': model.dtype,
        'convention': model.convention,
        'checkpoint': {'workdir': str(workdir), 'which': which, 'step': step},
        'entry_points': shown,
        'platforms': PLATFORMS,
        'calling_convention_version': program.calling_convention_version,
        'versions': {'python': platform.python_version()}
        | {name: _version(name) for name in LIBRARIES},
    }
    if with_onnx:
        differences = onnx.write(workdir, which, out, entry_points(in_float32(method), variables))
        manifest['onnx'] = {
            'opset': onnx.OPSET,
            'converter': onnx.PACKAGES[0],
            'dtype': 'float32',
            'largest_difference': differences,
        }
        logger.info('ONNX: at most %.1e from the JAX functions', max(differences.values()))
    files = sorted(path for path in out.iterdir() if path.is_file())
    manifest['files'] = {path.name: artifact.sha256(path) for path in files}
    records.write(out / artifact.MANIFEST, manifest)
    return manifest


def portable(function: EntryPoint) -> export.Exported:
    """Export one program of a dict of arrays for all of `PLATFORMS`."""
    run = jax.jit(lambda arrays: function.function(**arrays))
    with tracing_for('any'):
        return export.export(run, platforms=PLATFORMS)(function.inputs)


def _plain(arrays):
    """Return types and shapes as JSON data, with names for open sizes."""

    def size(n):
        return n if isinstance(n, int) else str(n)

    return {
        name: {'dtype': str(a.dtype), 'shape': [size(n) for n in a.shape]}
        for name, a in arrays.items()
    }


def _version(library):
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # this package, used from its folder
        return None
