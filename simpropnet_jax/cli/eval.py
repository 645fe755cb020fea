"""Evaluates a trained method on classes it was never trained on.

    simpropnet eval --workdir runs/fold2
    simpropnet eval --checkpoint runs/fold2@latest
    simpropnet eval --workdir runs/fold2 --config.eval.shots='(1,5,10)'
    simpropnet eval --workdir runs/fold2 --protocols all
    simpropnet eval --workdir runs/fold2 --inputs identical      (or zero_mask: does it look at its support?)
    simpropnet eval --workdir runs/prototype2 --config prototype:fold=2      (nothing to train)
    simpropnet eval --workdir runs/theirs --config simpropnet:fold=2 --predictions masks      (of any program)
    simpropnet eval --workdir runs/oracle      (a supervised network: whole images, all classes)

The result goes to eval/ in the run folder. Without --config, the config of the training is used, with the changes that
you give. Fields that decide what was trained cannot be changed. All four folds in one table:

    simpropnet tables runs/*/eval/*.json

In a checkout, `python eval.py` does the same.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line

INPUTS = ('episodes', 'identical', 'zero_mask', 'other_class')


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_run(parser, 'results go to eval/ in it')
    command_line.add_config(
        parser, only=run_folder.MAY_DIFFER, help='needed only where nothing was trained'
    )
    parser.add_argument(
        '--inputs',
        choices=INPUTS,
        default='episodes',
        help='what the method is given: episodes; identical: every pair once, the query as its own support; '
        'zero_mask: the episodes with empty support masks; other_class: the episodes with supports of another class. '
        'The last three show how much a method uses its support',
    )
    parser.add_argument(
        '--protocols',
        type=command_line.comma_separated,
        default=[],
        metavar='NAMES',
        help='several protocols in one table: all, or names with commas between: simpropnet,hsnet,pfenet. Each keeps '
        'its own rules, whatever the training says; --config and --config.eval.FIELD=VALUE change them all',
    )
    parser.add_argument(
        '--predictions',
        type=Path,
        metavar='DIR',
        help='folder of PNG masks to score instead of a checkpoint, named by episode (simpropnet_f2_s0_k1_0007.png; '
        '`simpropnet episodes` lists them) or by image (2007_000033.png, of class ids). The name of the folder is the '
        "method's name",
    )
    parser.add_argument(
        '--mask_threshold',
        type=float,
        metavar='T',
        help='for --predictions that are probability maps: pixels of this value and above are the object (128 of 255)',
    )


def main(args) -> None:
    """Evaluate, and print the table."""
    from simpropnet_jax.runtime import hosts

    run = run_folder.given_run(args)
    hosts.start()
    if args.mask_threshold is not None and args.predictions is None:
        raise ValueError('--mask_threshold is for --predictions: give the folder of maps')
    if args.predictions is not None:
        _evaluate_predictions(args, run)
    elif args.protocols:
        _evaluate_protocols(args, run)
    else:
        from simpropnet_jax.evaluation.run import evaluate_run

        evaluate_run(run_folder.given_config(args, run.folder), run.folder, run.which, args.inputs)


def _evaluate_predictions(args, run) -> None:
    from simpropnet_jax.evaluation.external.predictions import evaluate_predictions
    from simpropnet_jax.runtime.progress import ProgressBar

    if args.protocols or args.inputs != 'episodes':
        raise ValueError(
            '--predictions are scored as config.eval says: give neither --protocols nor --inputs'
        )
    config = run_folder.given_config(args, run.folder) or run_folder.stored(run.folder)
    evaluate_predictions(
        config, run.folder, args.predictions, ProgressBar(), threshold=args.mask_threshold
    )


def _evaluate_protocols(args, run) -> None:
    from simpropnet_jax.episodes.presets import of_papers
    from simpropnet_jax.evaluation.run import evaluate_protocols

    config = args.config
    if config is None and args.changes:
        config = run_folder.stored(run.folder)
        config.eval.update(episodes=0, seeds=(), label_size=0)  # the protocols' own, unless changed
        command_line.change(config, args.changes)
    names = args.protocols
    if names == ['all']:
        names = list(of_papers((config or run_folder.stored(run.folder)).data.name))
    evaluate_protocols(config, run.folder, names, run.which, args.inputs)
