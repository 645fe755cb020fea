"""Builds H-PASCAL-5i: test episodes by difficulty, object size and similarity, in a file for all methods.

    simpropnet hpascal build --out hpascal.json --config.oracle=runs/oracle/labels
    simpropnet hpascal eval --checkpoint runs/fold2 --hpascal hpascal.json     (then)

Improved Similarity Propagation, section 4.1. The oracle is a folder of label maps, ID.png, that a supervised network
predicts for the val list: `simpropnet oracle` writes ours. A picture of each fold next to the file shows a pair of
every class and partition (the paper's Figure 4).
"""

from pathlib import Path

from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    command_line.add_config(parser, default='hpascal')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE.json',
        help='file to write; its folder is created if missing',
    )


def main(args) -> None:
    """Write the file and the pictures, and print the table."""
    from simpropnet_jax.analysis import hierarchy_build

    print(hierarchy_build.table(hierarchy_build.build(args.config, args.out)), end='')
