"""Prepares PASCAL-5i (VOC 2012 with the labels of SBD), from nothing or from files that you have.

    simpropnet prepare pascal5i --download --data_dir ~/tensorflow_datasets

or, with the archives at hand, from either set of labels:

    simpropnet prepare pascal5i --voc VOCtrainval_11-May-2012.tar --sbd benchmark_RELEASE \\
        --data_dir ~/tensorflow_datasets
    simpropnet prepare pascal5i --voc VOCdevkit --aug SegmentationClassAug \\
        --data_dir ~/tensorflow_datasets           # then train with --config.data.name=pascal5i/aug

Every image and label is checked, and so are the counts. --subset takes a part of the data; then train with
--config.data.name=pascal5i/subset. The recipes look in ~/tensorflow_datasets; for another folder, train with
--config.data.dir=DIR. Re-run the same command to resume after an interruption.
"""

from pathlib import Path

from simpropnet_jax.cli import prepare_flags
from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import paths


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        '--download', action='store_true', help='fetch VOC 2012 and SBD (3.4 GB) from their servers'
    )
    parser.add_argument(
        '--download_dir',
        type=Path,
        metavar='DIR',
        help='folder to download to (default: downloads in --data_dir)',
    )
    parser.add_argument(
        '--voc',
        metavar='PATH',
        help='VOCtrainval_11-May-2012.tar, or the folder VOCdevkit or VOC2012',
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument('--sbd', metavar='DIR', help='folder benchmark_RELEASE (SBD, unpacked)')
    labels.add_argument('--aug', metavar='DIR', help='folder SegmentationClassAug')
    parser.add_argument(
        '--subset', action='store_true', help='take a part of the data, without checking counts'
    )
    prepare_flags.add_data_dir(parser)


def main(args) -> None:
    """Prepare the data set."""
    check(args)
    from simpropnet_jax.datasets.pascal5i.prepare import prepare

    prepare(
        args.data_dir,
        voc=args.voc,
        sbd=args.sbd,
        aug=args.aug,
        subset=args.subset,
        download_dir=_download_dir(args) if args.download else None,
    )


def check(args) -> None:
    """Raise ValueError for flags that do not go together."""
    if args.download and (args.voc or args.sbd or args.aug):
        raise ValueError(
            '--download fetches VOC 2012 and SBD itself: leave out --voc, --sbd and --aug'
        )
    if args.download_dir and not args.download:
        raise ValueError('--download_dir is only for --download')
    if not args.download and not (args.voc and (args.sbd or args.aug)):
        raise ValueError('give --download, or --voc and one of --sbd and --aug')


def _download_dir(args) -> Path:
    return paths.expanded(args.download_dir or Path(args.data_dir, 'downloads'))
