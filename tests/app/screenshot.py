"""Makes the picture of the page in the README, with the sample pictures.

python -m tests.app.screenshot --checkpoint runs/fold2 --out docs/app.png
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from simpropnet_jax.samples import samples
from tests.app import browser

SIZE = 1440, 900  # of the window: everything needed is in it
WIDTH, COLOURS = 1050, 200  # of the picture


def main(flags: argparse.Namespace):
    with (
        tempfile.TemporaryDirectory() as named,
        browser.served(flags.checkpoint, Path(named)) as address,
        browser.Browser(address, Path(named)) as person,
    ):
        person.screen(*SIZE)
        person.click('samples')
        person.until(lambda: person.find('#download').is_enabled())
        person.give('example', samples()[1].image)
        person.until(lambda: person.all('#editor canvas'))
        person.find('#marks-button').click()
        person.find('#typed textarea, #typed input').send_keys('0, 12, 66, 100\n')
        before = person.shown('clicks')
        person.until(lambda: person.shown('clicks') != before)
        picture = Image.open(io.BytesIO(person.driver.get_screenshot_as_png())).convert('RGB')
        small = picture.resize((WIDTH, WIDTH * picture.height // picture.width), Image.LANCZOS)
        small.quantize(palette=small.quantize(COLOURS)).save(flags.out)  # dithered: smaller


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog='python -m tests.app.screenshot',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument('--checkpoint', type=Path, required=True, help='a run on photographs')
    result.add_argument('--out', type=Path, required=True, help='the picture')
    return result


if __name__ == '__main__':
    main(parser().parse_args())
