"""Segments pictures like the ones shown: a few images with masks in, a mask for each query out.

    python predict.py --checkpoint runs/fold2 --support cat1.jpg cat1.png --support cat2.jpg cat2.png \\
        --query photos --out masks

Each query gets masks/<stem>_mask.png (0 and 255) and masks/<stem>_overlay.jpg, at its own size. Pictures may be of any
usual format; they are read as they are shown (turned by EXIF, transparent parts on white).

What a mask may be, at the size of its image:
  one channel            every value but 0 is the object. 255 too, but beside other values (class ids, or 1) it is void:
                         neither object nor background. Shades of gray up to 255 (soft edges, JPEG) are refused
  palette (PASCAL VOC)   every index but 0 is the object, 255 is void. Refused if another index than 0 is shown black
  with transparency      what is not fully transparent is the object; if alpha is the same everywhere, as in colour
  colour                 every pixel that is not black is the object

A picture of a folder that cannot be read is left out and named at the end, with exit status 1; a mistake in what is
given ends at once, with exit status 2.
"""

import argparse
import sys
from pathlib import Path

from simpropnet_jax import commandline, mistakes


def parser() -> argparse.ArgumentParser:
    """The flags; absl's, of the other commands, cannot take two values each."""
    result = mistakes.Parser(__doc__)
    result.add_argument('--checkpoint', required=True, type=Path, help='folder that train.py wrote')
    result.add_argument(
        '--support', required=True, nargs=2, type=Path, action='append', metavar=('IMAGE', 'MASK'),
        help='an image and its mask, of one size; give --support again for more of them')  # fmt: skip
    result.add_argument('--query', required=True, type=Path, help='a picture, or a folder of them (not its subfolders)')
    result.add_argument('--out', required=True, type=Path, help='folder for the results; made if it is not there')
    return result


def main(given: argparse.Namespace):
    from simpropnet_jax.inference.run import predict

    unreadable = predict(given.checkpoint, [tuple(pair) for pair in given.support], given.query, given.out)
    sys.exit(1 if unreadable else 0)


if __name__ == '__main__':
    arguments, sys.argv[1:] = parser().parse_known_args()  # the rest is for the flags that all commands have
    commandline.run(lambda: main(arguments))
