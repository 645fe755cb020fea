"""Prepares FSS-1000: a thousand classes of ten images.

    simpropnet prepare fss1000 --folder fewshot_data --lists hsnet/data/splits/fss --data_dir ~/tensorflow_datasets

fewshot_data is the released folder, with a folder for each class: abacus/1.jpg, abacus/1.png, ... abacus/10.png. The
lists are trn.txt, val.txt and test.txt, with a class in each line: 520 classes to train on, 240 to select a checkpoint
and 240 to evaluate on. HSNet's repository has them in data/splits/fss. There is one fold. Then train with the word fss:

    simpropnet train --config simpropnet:fss --workdir runs/fss

--subset takes the existing part of the listed classes and images; then train with --config.data.name=fss1000/subset.
"""

from pathlib import Path

from simpropnet_jax.cli import prepare_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        '--folder',
        required=True,
        type=Path,
        metavar='DIR',
        help='the released folder, with a folder of images and masks for each class',
    )
    parser.add_argument(
        '--lists',
        required=True,
        type=Path,
        metavar='DIR',
        help='folder with trn.txt, val.txt and test.txt, a class in each line',
    )
    parser.add_argument(
        '--subset', action='store_true', help='take the listed classes and images that are there'
    )
    prepare_flags.add_data_dir(parser)


def main(args) -> None:
    """Prepare the data set."""
    from simpropnet_jax.datasets.fss1000.prepare import prepare

    prepare(args.data_dir, folder=args.folder, lists=args.lists, subset=args.subset)
