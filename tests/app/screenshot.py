"""Makes the picture of the page in the README, with drawn shapes of a class that the demo's training never saw.

python -m tests.app.screenshot --checkpoint runs/demo --out docs/app.png
"""

import argparse
import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from simpropnet_jax.datasets.shapes5i import draw
from tests.app import browser

CLASS = 3  # of fold 0, which the demo holds out
FIRST_SCENE = 1_000_000  # of the list 'val'
OF_EXAMPLES, OF_QUERIES = 2, 6
WIDTH, COLOURS = 1050, 200  # of the picture


def scenes(count):
    """Images and masks of the first scenes in which the class is large and not cut by another object much."""
    number, found = FIRST_SCENE, []
    while len(found) < count:
        image, label = draw(number)
        if (label == CLASS).mean() > 0.1:
            found.append((image, label == CLASS))
        number += 1
    return found


def strokes(mask, step=9, edge=8):
    """Lines from side to side of the object, as a hurried person would fill it."""
    lines = []
    for y in range(0, len(mask), step):
        columns = np.flatnonzero(mask[y])
        runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        lines += [[(run[0] + edge, y), (run[-1] - edge, y)] for run in runs if len(run) > 2 * edge]
    return lines


def main(flags: argparse.Namespace):
    found = scenes(OF_EXAMPLES + OF_QUERIES)
    with (
        tempfile.TemporaryDirectory() as named,
        browser.served(flags.checkpoint, Path(named)) as address,
    ):
        paths = [Path(named, f'shapes_{number}.png') for number in range(len(found))]
        for path, (image, _) in zip(paths, found, strict=True):
            Image.fromarray(image).save(path)
        with browser.Browser(address, Path(named), size=(1400, 1330)) as person:
            person.give('queries', *paths[OF_EXAMPLES:])
            for number, (path, (_, mask)) in enumerate(
                zip(paths, found[:OF_EXAMPLES], strict=False)
            ):
                person.give('example', path)
                person.paint(mask.shape[::-1], *strokes(mask))
                if number < OF_EXAMPLES - 1:
                    person.click('add')
                    person.until(lambda: len(person.shown('results')) == OF_QUERIES)
            picture = Image.open(io.BytesIO(person.driver.get_screenshot_as_png())).convert('RGB')
            small = picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.LANCZOS)
            small.quantize(palette=small.quantize(COLOURS)).save(
                flags.out
            )  # dithered: a third of the bytes


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog='python -m tests.app.screenshot',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument('--checkpoint', type=Path, required=True, help='of the demo')
    result.add_argument('--out', type=Path, required=True, help='the picture')
    return result


if __name__ == '__main__':
    main(parser().parse_args())
