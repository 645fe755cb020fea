"""Packs a prepared data set into a few files that travel to a machine without TensorFlow.

    simpropnet prepare packed --name pascal5i/subset --data_dir ~/tensorflow_datasets --out packed

The folder takes the place of the prepared data set: give it as config.data.dir, and keep config.data.name. The packed
bytes are exactly the stored ones, so every number is the same.
"""

from pathlib import Path

from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        '--name', required=True, help='name of the prepared data set: pascal5i/subset'
    )
    parser.add_argument(
        '--data_dir',
        type=run_folder.folder,
        required=True,
        metavar='DIR',
        help='folder in which it was prepared',
    )
    parser.add_argument('--out', required=True, type=Path, metavar='DIR', help='new folder')
    parser.add_argument(
        '--part', type=int, default=48, metavar='MIB', help='largest size of a file in MiB'
    )


def main(args) -> None:
    """Pack the data set."""
    from simpropnet_jax.datasets.packed import store
    from simpropnet_jax.datasets.source import open_source

    source = open_source(args.name, args.data_dir)
    facts = store.write(source, args.out, args.part * store.MEBIBYTE)
    print(f'{args.name}: {len(facts["parts"])} parts in {args.out}; set config.data.dir to it')
