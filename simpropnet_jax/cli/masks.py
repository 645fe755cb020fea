"""Writes the masks that a trained method predicts, as PNG files for `simpropnet eval --predictions` and other programs.

    simpropnet masks --checkpoint runs/fold2 --out masks/simpropnet

There is a file for each episode of config.eval. `simpropnet episodes` lists their names (simpropnet_f2_s0_k1_0007.png).
A mask has the size of the query's label, 255 where the object is predicted and 0 elsewhere. Scored under a protocol
that compares masks at their own size, the masks give the numbers of `simpropnet eval`. On a square they differ a
little: there a mask is stretched where `simpropnet eval` stretches logits. Without --config, the config of the training
is used, with the changes that you give.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser)
    command_line.add_config(parser, only=run_folder.MAY_DIFFER)
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help="empty or new folder for the masks; its name is the method's for `eval --predictions`",
    )


def main(args) -> None:
    """Write the masks."""
    from simpropnet_jax.runtime import hosts

    hosts.start()
    from simpropnet_jax.evaluation.external.write_masks import export
    from simpropnet_jax.runtime.progress import ProgressBar

    run, which = args.checkpoint
    export(run_folder.given_config(args, run), run, args.out, which, ProgressBar())
