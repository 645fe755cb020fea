"""Checks your own images and masks, and prepares them as a data set to train and evaluate on.

    simpropnet prepare folder photos                       (checks, writes nothing)
    simpropnet prepare folder photos --out prepared
    simpropnet prepare folder photos --coco photos/instances.json --out prepared

photos holds images/NAME.jpg (or any usual format) and masks/CLASS/NAME.png, at the size of the image as it is shown. An
image may have masks of several classes. `simpropnet segment --help` says what a mask may be. --mask_value,
--mask_threshold and --invert say how to read masks with shades, ids or black objects. With --coco, the masks
come from polygons and run lengths in COCO's JSON; iscrowd is void. photos may also hold:

  train.txt, val.txt   names of images, one a line: which to train and which to evaluate on. Without them each class
                       gives a fifth (--val) of its images, and at least two, to val
  folds.json           [["cat", "dog"], ["car"]]: the classes that fold 0 holds out, the classes of fold 1, ... Without
                       it there is one fold, of all classes: train with --config.train.classes=all

Where masks of several classes overlap, the one with the smaller area is on top. The command prints what is odd. If
something is wrong, nothing is written, and the exit status is 2.
"""

from pathlib import Path

from simpropnet_jax.cli import mask_flags
from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import errors

NEXT = """
Prepared in {out}. Next:
  simpropnet train --config finetune:start=runs/fold2 --config.data.dir={out} --workdir runs/mine
  simpropnet eval --workdir runs/mine
"""


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        'folder', type=Path, help='folder with images/, and masks/CLASS/ if there is no --coco'
    )
    parser.add_argument(
        '--coco',
        type=Path,
        metavar='FILE.json',
        help="annotations in COCO's JSON, in place of masks/",
    )
    mask_flags.add(parser)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='new folder for the prepared data (default: check only)',
    )
    parser.add_argument(
        '--val',
        type=float,
        default=0.2,
        metavar='SHARE',
        help='share of the images to evaluate on, where there are no lists',
    )
    parser.add_argument(
        '--longest_side',
        type=int,
        default=1024,
        metavar='PIXELS',
        help='larger images are reduced to this size; 0: none',
    )


def main(args) -> None:
    """Check the folder, say what was found, and prepare it."""
    from simpropnet_jax.datasets.folder.prepare import prepare

    findings = prepare(
        args.folder,
        args.coco,
        args.out,
        args.val,
        args.longest_side,
        mask_value=args.mask_value,
        mask_threshold=args.mask_threshold,
        invert=args.invert,
    )
    print(findings, end='')
    if findings.mistakes:
        errors.stop(f'{args.folder} has mistakes, listed above; nothing was written')
    if args.out:
        print(NEXT.format(out=args.out), end='')
