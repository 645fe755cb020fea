"""Writes a trained method for servers and other programs, as files that need nothing of this package.

    simpropnet export --checkpoint runs/fold2 --out exported
    simpropnet export --checkpoint runs/fold2 --out exported --onnx

encode, probe and decode are separate, so that a server looks at the examples once. JAX runs exported/*.jaxexport on
CPU, CUDA and TPU. With --onnx, onnxruntime (which must be installed) runs exported/*.onnx. Each file holds its weights;
the numbers of pictures and of examples are left open. exported/manifest.json has types, shapes and origin.
docs/how_to/export.md has a server of a few lines.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser)
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='empty or new folder for the files'
    )
    parser.add_argument(
        '--onnx',
        action='store_true',
        help='write ONNX files, too; the converter is installed at first use',
    )


def main(args) -> None:
    """Write the files."""
    from simpropnet_jax.export.write import write

    write(args.checkpoint.folder, args.out, args.checkpoint.which, args.onnx)
