"""Prepares COCO-20i: images of COCO 2014, and label maps drawn from its annotations.

    simpropnet prepare coco20i --images coco --annotations coco --data_dir ~/tensorflow_datasets

coco holds the official archives train2014.zip, val2014.zip and annotations_trainval2014.zip, or what they unpack to:
train2014/, val2014/ and annotations/. Nothing is unpacked. Then train with the word coco, which sets
--config.data.name=coco20i/complete and the rules of the benchmark:

    simpropnet train --config simpropnet:fold=0,coco --workdir runs/coco0

Every image is checked, and so are the counts: they are compared with HSNet's lists, and classes that differ
are printed. --lists prints each pair that differs. --subset takes a part of the data; then train with
--config.data.name=coco20i/subset. Masks are drawn by OpenCV: pip install 'simpropnet-jax[coco]'.
"""

from pathlib import Path

from simpropnet_jax.cli import prepare_flags
from simpropnet_jax.config import command_line


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        '--images',
        required=True,
        type=Path,
        metavar='DIR',
        help='folder with train2014 and val2014, as folders or as archives (.zip)',
    )
    parser.add_argument(
        '--annotations',
        required=True,
        type=Path,
        metavar='PATH',
        help='annotations_trainval2014.zip, or the folder with it or with instances_train2014.json and '
        'instances_val2014.json',
    )
    parser.add_argument(
        '--subset',
        action='store_true',
        help='take the annotated images that are there, without checking counts',
    )
    parser.add_argument(
        '--lists',
        type=Path,
        metavar='DIR',
        help="data/splits/coco of HSNet's repository: print each (image, class) pair that differs",
    )
    prepare_flags.add_data_dir(parser)


def main(args) -> None:
    """Prepare the data set."""
    from simpropnet_jax.datasets.coco20i.prepare import prepare

    prepare(
        args.data_dir,
        images=args.images,
        annotations=args.annotations,
        subset=args.subset,
        lists=args.lists,
    )
