"""Writes a trained model as a folder that others load by name: weights, config, model card and checksums.

    simpropnet publish runs/fold2 --out my-model
    simpropnet publish runs/fold2@latest --out my-model --weights int8

my-model/model.safetensors has everything: weights (with the backbone), config and model card. The other files show the
same to a reader: config.json, README.md (the model card) and SHA256SUMS (`sha256sum -c SHA256SUMS`). Every command
takes the folder, or the file alone, as --checkpoint. To share it, upload the folder to the Hugging Face Hub
(--checkpoint hf://owner/my-model@revision), or the file to any server (--checkpoint https://HOST/FILE#sha256=HASH).

The card lists the results in RUN/eval/ of the same checkpoint, and those of --results.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'checkpoint',
        type=run_folder.checkpoint,
        metavar=run_folder.CHECKPOINT,
        help='run folder; @best (the default), @latest or @STEP choose its weights',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FOLDER',
        help="empty or new folder; its name is the model's name",
    )
    parser.add_argument(
        '--weights',
        choices=('float32', 'bfloat16', 'int8'),
        default='float32',
        help='how weights are stored: float32 gives the same masks; bfloat16 takes half the bytes; int8 a quarter '
        '(kernels with a scale for each output channel)',
    )
    parser.add_argument(
        '--results',
        type=Path,
        nargs='+',
        default=[],
        metavar='FILE.json',
        help='more result files for the card, such as those of the same recipe on classes that it has not seen',
    )


def main(args) -> None:
    """Write the folder."""
    from simpropnet_jax.export.publish import publish

    publish(args.checkpoint.folder, args.out, args.checkpoint.which, args.weights, args.results)
