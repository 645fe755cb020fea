"""Writes a trained method for servers and other programs, as files that need nothing of this package.

    python -m simpropnet_jax.export --checkpoint runs/fold2 --out exported
    python -m simpropnet_jax.export --checkpoint runs/fold2 --out exported --onnx

encode, probe and decode are separate, so that a server looks at the examples once: exported/*.jaxexport are run by JAX
on CPU, CUDA and TPU; with --onnx, exported/*.onnx by onnxruntime, which must be installed. Each holds its weights;
the numbers of pictures and of examples are left open. exported/manifest.json says types, shapes and where it all came
from. docs/HOWTO.md, "Serve a model", has a server of a few lines.
"""

from pathlib import Path

from absl import flags

from simpropnet_jax.config import command_line

CHECKPOINT = flags.DEFINE_string('checkpoint', None, 'folder that train.py wrote')
WHICH = flags.DEFINE_string('which', 'best', "which weights: 'best', 'latest' or a step")
OUT = flags.DEFINE_string('out', None, 'folder for the files; made if it is not there')
ONNX = flags.DEFINE_boolean(
    'onnx', False, 'ONNX files, too; the converter is installed at first use'
)
flags.mark_flags_as_required(['checkpoint', 'out'])


def main():
    from simpropnet_jax.export.write import write

    write(CHECKPOINT.value, Path(OUT.value), WHICH.value, ONNX.value)


if __name__ == '__main__':
    command_line.run(main)
