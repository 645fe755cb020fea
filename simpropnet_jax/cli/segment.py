"""Segments pictures like the ones shown: a few images with masks in, a mask for each query out.

    simpropnet segment --support cat1.jpg cat1.png --support cat2.jpg cat2.png --query photos --out masks
    simpropnet segment --checkpoint runs/fold2 --support cat cat1.jpg cat1.png --support cat cat2.jpg cat2.png \\
        --support car car.jpg car.png --query 'photos/**/*.jpg' --write mask,overlay,coco,sheet --out masks

Segment one kind of object (--support IMAGE MASK, again for more examples), or several with names (--support CLASS
IMAGE MASK); not both in one run. More examples of a class make it more certain.

--write chooses what is written for each query. Results have the query's size, and lie below --out as the query lies
below the folder that was given:
  mask      NAME_mask.png: 0 and 255; with named classes their numbers, as colours (an indexed PNG; classes.json has
            the number, name and colour of each)
  overlay   NAME_overlay.jpg: the picture, tinted in the colours of the mask
  coco      predictions.json: COCO's annotations of all pictures, with RLE and as score the mean probability.
            --polygons writes polygons instead, --components an annotation for each connected part
  sheet     sheet_001.jpg and so on: 24 overlays a page, with their names

Where classes overlap: each class has its own probability at each pixel. The pixel goes to the class with the highest
probability, if that is above --threshold; else it is background. Of two equal classes, the one named first has it.

What a mask may be, at the size of its image:
  one channel            two values, one of them 0: the other is the object. Class or instance ids: each is the object,
                         and next to ids below 64, 255 is void: neither object nor background
  palette (PASCAL VOC)   every index but 0 is the object, 255 is void. Refused if another index than 0 is shown black
  with transparency      what is more opaque than not is the object; if alpha is the same everywhere, as in colour
  colour                 every pixel that is not black is the object
  annotations            a file that ends in .json: COCO's, as CVAT, Label Studio, Roboflow, supervision and Datumaro
                         export it, or labelme's. Polygons, run lengths (RLE) and brush masks of IMAGE and the
                         category CLASS; without CLASS, of all. IMAGE is found by its file_name, whatever folders, URL,
                         percent signs or upload prefix it has; the log says how. --crowds says what iscrowd means

A mask that can be read in several ways is refused with its values: shades (trimaps, soft edges, JPEG, photographs),
fractions (probabilities), several values without a 0. Three flags say how to read the masks of all supports:
  --mask_threshold 128   pixels of 128 and above are the object (in colour: of the brightest channel)
  --mask_value 1         pixels of the value 1 are the object
  --invert               object and background change places: black objects on white
MASK#8 is the object of value 8 in an index mask of all classes: --support cat a.jpg voc.png#8.
NaN and negative values are background. For each support the log says what was understood, as
`cat1.jpg: object 14.7 %, void 0.8 %`, and warns of what looks wrong.

The network sees each picture as a square of the training's size. For small objects and large pictures:
  --size 417             a larger square, 8n + 1 pixels; four times the pixels take four times as long
  --tiles 3              also overlapping tiles, three along the longer side; examples are magnified alike
  --fit pad              keep the shape of pictures that are not square
Every picture gets a mask, even without the object. --absent_below 0.6 leaves the mask empty where the presence score is
lower: the mean probability inside the mask. The log names these pictures, and done.jsonl keeps the score of each.

Pictures may be of any usual format, up to 200 million pixels. They are read as they are shown (turned by EXIF, the
first frame, transparent parts on white). A support or its mask in the query folder is segmented like any other picture
there; the log names it.

Re-run the same command to resume an interrupted run. A folder with results of other supports, another checkpoint,
threshold, --size or another flag that changes masks is refused: give another one, or --overwrite. A picture that cannot
be read is left out and named at the end, with exit status 1. A wrong flag ends at once, with exit status 2.
"""

import signal
import sys
from pathlib import Path

from simpropnet_jax.cli import mask_flags, run_folder, view_flags
from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import errors


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    run_folder.add_checkpoint(parser)
    parser.add_argument(
        '--support',
        required=True,
        nargs='+',
        action='append',
        metavar='[CLASS] IMAGE MASK',
        help='an image and a mask of the same size, after the class where there are several; repeat for more',
    )
    mask_flags.add(parser)
    parser.add_argument(
        '--query',
        required=True,
        nargs='+',
        action='extend',
        metavar='PICTURES',
        help="pictures, folders (not their subfolders), or patterns in quotes ('photos/**/*.jpg': all subfolders)",
    )
    parser.add_argument(
        '--out',
        required=True,
        type=Path,
        metavar='DIR',
        help='folder for the results; created if missing',
    )
    parser.add_argument(
        '--write',
        type=command_line.comma_separated,
        default='mask,overlay',
        metavar='KINDS',
        help='what is written, with commas between: mask, overlay, coco, sheet',
    )
    parser.add_argument(
        '--threshold',
        type=float,
        default=0.5,
        metavar='P',
        help='probability that a class must exceed',
    )
    parser.add_argument(
        '--self_support',
        type=int,
        default=0,
        metavar='N',
        help="rounds in which a picture's confident pixels become an extra support (default: 0)",
    )
    view_flags.add(parser)
    parser.add_argument(
        '--polygons',
        action='store_true',
        help='predictions.json has polygons instead of RLE; a hole is joined to the outline around it',
    )
    parser.add_argument(
        '--components',
        action='store_true',
        help='predictions.json has an annotation for each connected part, with the score of its class',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='delete previous results in --out and start over',
    )


def main(args) -> None:
    """Segment the pictures."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C
    try:
        from simpropnet_jax.inference.run import predict

        unreadable = predict(
            args.checkpoint.folder,
            args.support,
            args.query,
            args.out,
            which=args.checkpoint.which,
            write=args.write,
            threshold=args.threshold,
            self_support=args.self_support,
            overwrite=args.overwrite,
            polygons=args.polygons,
            components=args.components,
            **mask_flags.options(args),
            **view_flags.options(args),
        )
    except KeyboardInterrupt:
        errors.stop('stopped. Re-run the same command to resume', 130)
    sys.exit(1 if unreadable else 0)
