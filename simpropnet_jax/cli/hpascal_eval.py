"""Evaluates a trained method on the partitions of an H-PASCAL-5i file, easy to hard.

    simpropnet hpascal eval --checkpoint runs/fold2 --hpascal hpascal.json
    simpropnet hpascal eval --checkpoint runs/fold2 --hpascal hpascal.json --inputs zero_mask
    simpropnet hpascal eval --workdir runs/theirs --config simpropnet:fold=2 \\
        --hpascal hpascal.json --predictions masks       (of any program)
    simpropnet hpascal table runs/*/eval/hpascal_*.json      (four folds in one table)

mIoU of each of the eight partitions, and CMPS, its mean over them: Improved Similarity Propagation, Table 3; with empty
support masks, Table 7. Without --config, the config of the training is used, with the changes that you give. Fields
that decide what was trained cannot be changed.

Masks of any program are PNG files in a folder. They are named by episode, `hpascal_f2_s0_k1_0007.png`: fold 2, 1-shot,
episode 7, counted from 0 over L0 to L7; or by image, with class ids, as a supervised network gives them.
`simpropnet episodes --hpascal` lists the episodes. The name of the folder is the method's name.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_run(parser, 'results go to eval/ in it')
    command_line.add_config(
        parser, only=run_folder.MAY_DIFFER, help='needed only where nothing was trained'
    )
    parser.add_argument(
        '--hpascal',
        type=Path,
        required=True,
        metavar='FILE.json',
        help='file of `simpropnet hpascal build`',
    )
    parser.add_argument(
        '--inputs',
        choices=('episodes', 'zero_mask'),
        default='episodes',
        help='zero_mask: the episodes with empty support masks',
    )
    parser.add_argument(
        '--predictions',
        type=Path,
        metavar='DIR',
        help='folder of PNG masks to score instead of a checkpoint',
    )
    parser.add_argument(
        '--shot', type=command_line.at_least(1), default=1, help='supports of an episode'
    )


def main(args) -> None:
    """Evaluate, and print the table."""
    from simpropnet_jax.runtime import hosts

    run = run_folder.given_run(args)
    hosts.start()
    from simpropnet_jax.analysis import hierarchy

    config = run_folder.given_config(args, run.folder)
    if args.predictions is None:
        hierarchy.evaluate_hierarchy(
            config, run.folder, args.hpascal, run.which, args.inputs, args.shot
        )
        return
    if args.inputs != 'episodes':
        raise ValueError(
            '--predictions were made with the supports that they had: do not give --inputs'
        )
    hierarchy.evaluate_hierarchy_predictions(
        config, run.folder, args.predictions, args.hpascal, args.shot
    )
