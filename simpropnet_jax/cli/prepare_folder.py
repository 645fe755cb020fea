"""Checks your own images and masks, and prepares them as a data set to train and evaluate on.

    simpropnet prepare folder photos                       (checks, writes nothing)
    simpropnet prepare folder photos --out prepared
    simpropnet prepare folder photos --coco photos/instances.json --out prepared
    simpropnet prepare folder photos --classes cat,dog --out prepared

photos holds images/NAME.jpg (or any usual format) and masks, at the size of the image as it is shown:
  masks/CLASS/NAME.png   a mask for each class. `simpropnet segment --help` says what a mask may be. --mask_value,
                         --mask_threshold and --invert say how to read shades, ids or black objects
  masks/NAME.png         with --classes: an index mask of all classes. --classes names them: cat,dog for 1 and 2;
                         8=cat,15=person; or a file with such lines. 255 is void
  --coco FILE ...        polygons and run lengths in COCO's JSON, as CVAT, Label Studio, Roboflow, supervision and
                         Datumaro export it, or labelme's JSON; a folder means all JSON files in it. Without images/,
                         the images of photos and its subfolders are used. They are found by file_name, whatever
                         folders, URL, percent signs or upload prefix it has; the output says how. --crowds says what
                         iscrowd means

Files of annotations that are called train, val (valid) and test, or lie in folders called so, make the lists: train to
train, the others to evaluate on. photos may also hold:

  train.txt, val.txt   names of images, one a line: which to train and which to evaluate on. Without them each class
                       gives a fifth (--val) of its images, and at least two, to val
  folds.json           [["cat", "dog"], ["car"]]: the classes that fold 0 holds out, the classes of fold 1, ... Without
                       it there is one fold, of all classes: train with --config.train.classes=all

Where masks of several classes overlap, the smaller area is on top. The command prints what is odd. If
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
        'folder', type=Path, help='folder with images/, and masks/ if there is no --coco'
    )
    parser.add_argument(
        '--coco',
        type=Path,
        nargs='+',
        action='extend',
        metavar='FILE.json',
        help="annotations in COCO's or labelme's JSON, or folders of them, in place of masks/",
    )
    parser.add_argument(
        '--classes',
        metavar='NAMES',
        help='names of the classes in index masks, masks/NAME.png: cat,dog or 8=cat,15=person or a file',
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
        classes=args.classes,
        **mask_flags.options(args),
    )
    print(findings, end='')
    if findings.mistakes:
        errors.stop(f'{args.folder} has mistakes, listed above; nothing was written')
    if args.out:
        print(NEXT.format(out=args.out), end='')
