"""Segments pictures like the ones shown: a few images with masks in, a mask for each query out.

    python predict.py --checkpoint runs/fold2 --support cat1.jpg cat1.png --support cat2.jpg cat2.png \\
        --query photos --out masks
    python predict.py --checkpoint runs/fold2 --support cat cat1.jpg cat1.png --support cat cat2.jpg cat2.png \\
        --support car car.jpg car.png --query 'photos/**/*.jpg' --write mask,overlay,coco,sheet --out masks

One kind of thing (--support IMAGE MASK, again for more examples), or several that have names (--support CLASS IMAGE
MASK); not both in one run. More examples of a class make it surer.

What is asked for (--write) is written for each query, at its own size, and below --out as it was below the folder that
was given:
  mask      NAME_mask.png: 0 and 255; with named classes their numbers, as colours (an indexed PNG; classes.json has
            the number, name and colour of each)
  overlay   NAME_overlay.jpg: the picture, tinted in the colours of the mask
  coco      predictions.json: COCO's annotations of all pictures, with RLE and as score the mean probability
  sheet     sheet_001.jpg and so on: 24 overlays a page, with their names

Where classes overlap: each class has a probability of its own at each pixel. The pixel goes to the class with the
highest one, if that is above --threshold; else it is background. Of two that are equal, the class named first has it.

What a mask may be, at the size of its image:
  one channel            every value but 0 is the object. 255 too, but beside other values (class ids, or 1) it is void:
                         neither object nor background. Shades of gray up to 255 (soft edges, JPEG) are refused
  palette (PASCAL VOC)   every index but 0 is the object, 255 is void. Refused if another index than 0 is shown black
  with transparency      what is not fully transparent is the object; if alpha is the same everywhere, as in colour
  colour                 every pixel that is not black is the object
  COCO's annotations     a file that ends in .json: polygons and runs (RLE) of the image whose file_name fits IMAGE and
                         of the category that is called CLASS; without CLASS, of all. What is iscrowd is void

Pictures may be of any usual format, up to 200 million pixels; they are read as they are shown (turned by EXIF, the
first frame, transparent parts on white).

A run that was stopped goes on with the same command. Other supports, another checkpoint, threshold, --self_support or
--write are refused in a folder that has results: give another one, or --overwrite. A picture that cannot be read is
left out and named at the end, with exit status 1; a mistake in what is given ends at once, with exit status 2.
"""

import argparse
import signal
import sys
from pathlib import Path

from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import errors


def parser() -> argparse.ArgumentParser:
    """The flags; absl's, of the other commands, cannot take several values each."""
    result = errors.Parser(__doc__)
    result.add_argument('--checkpoint', required=True, type=Path, help='folder that train.py wrote')
    result.add_argument(
        '--support',
        required=True,
        nargs='+',
        action='append',
        metavar=('[CLASS]', 'IMAGE MASK'),
        help='an image and its mask, of one size, after the class where there are several; give it again for more',
    )
    result.add_argument(
        '--query',
        required=True,
        nargs='+',
        action='extend',
        metavar='PICTURES',
        help="pictures, folders (not their subfolders), or patterns in quotes ('photos/**/*.jpg': of all subfolders)",
    )
    result.add_argument(
        '--out', required=True, type=Path, help='folder for the results; made if it is not there'
    )
    result.add_argument(
        '--write',
        default='mask,overlay',
        metavar='KINDS',
        help='what, with commas between: mask, overlay, coco, sheet (default: mask,overlay)',
    )
    result.add_argument(
        '--threshold',
        type=float,
        default=0.5,
        metavar='P',
        help='probability that a class must exceed (default: 0.5)',
    )
    result.add_argument(
        '--self_support',
        type=int,
        default=0,
        metavar='N',
        help="rounds in which a picture's surest pixels are an example for the rest of it (default: 0)",
    )
    result.add_argument(
        '--overwrite',
        action='store_true',
        help='remove what an earlier run wrote to --out, and make all anew',
    )
    return result


def main(given: argparse.Namespace):
    from simpropnet_jax.inference.run import predict

    unreadable = predict(
        given.checkpoint,
        given.support,
        given.query,
        given.out,
        write=given.write.split(','),
        threshold=given.threshold,
        self_support=given.self_support,
        overwrite=given.overwrite,
    )
    sys.exit(1 if unreadable else 0)


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl+C
    try:
        arguments, sys.argv[1:] = (
            parser().parse_known_args()
        )  # the rest is for the flags that all commands have
        command_line.run(lambda: main(arguments))
    except KeyboardInterrupt:
        errors.stop('stopped; the same command goes on from here', 130)
