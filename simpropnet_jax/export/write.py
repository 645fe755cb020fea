"""Writes a method as a folder that other programs run without this package."""

import importlib.metadata
import logging
import platform
from pathlib import Path

import jax
from jax import export

from simpropnet_jax.export import artifact, onnx
from simpropnet_jax.export.entry_points import EntryPoint, entry_points, in_float32, load_method
from simpropnet_jax.ops.convolve import tracing_for
from simpropnet_jax.runtime import checkpoint, paths

logger = logging.getLogger(__name__)

PLATFORMS = ('cpu', 'cuda', 'tpu')
LIBRARIES = ('simpropnet-jax', 'jax', 'jaxlib', 'flax')


def write(
    workdir: str | paths.AnyPath, out: Path, which: str = 'best', with_onnx: bool = False
) -> dict:
    """Writes encode, probe and decode, each with its weights, and at last manifest.json; returns what is in that.

    Args:
      workdir: the run folder.
      out: folder; made if it is not there.
      which: checkpoint, 'best', 'latest' or a step.
      with_onnx: ONNX files, too.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'{out} is there and not an empty folder: give another --out')
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
        logger.info('ONNX: at most %.1e from our own', max(differences.values()))
    checkpoint.write_json(out / artifact.MANIFEST, manifest)
    return manifest


def portable(function: EntryPoint) -> export.Exported:
    """One program for all of `PLATFORMS`, of a dict of arrays."""
    run = jax.jit(lambda arrays: function.function(**arrays))
    with tracing_for('any'):
        return export.export(run, platforms=PLATFORMS)(function.inputs)


def _plain(arrays):
    """Types and shapes as JSON data; sizes that are left open by name."""

    def size(n):
        return n if isinstance(n, int) else str(n)

    return {
        name: {'dtype': str(a.dtype), 'shape': [size(n) for n in a.shape]}
        for name, a in arrays.items()
    }


def _version(library):
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # our own, used from its folder
        return None
