"""The drawn data set on disk: a folder of JPEG and PNG files with the label index, made on first use."""

import io
import logging
import os
from pathlib import Path

from PIL import Image

from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.shapes5i.scene import draw
from simpropnet_jax.datasets.stored_files import StoredFiles, checksums
from simpropnet_jax.runtime import paths, records

logger = logging.getLogger(__name__)

VERSION = '2.0.0'  # increase with every change of a pixel
IMAGES = {'trainaug': 2000, 'val': 300}
"""Images of each list."""

FIRST_NUMBER = {'trainaug': 0, 'val': 1_000_000}
"""Number of each list's first image, for `draw`; far apart, so that no list's images depend on another's."""

INDEX_FILE = 'index.npz'
SUMS_FILE = 'crc32.json'


def load(
    data_dir: str | Path, images: dict[str, int] = IMAGES
) -> tuple[Index, dict[str, StoredFiles]]:
    """Load the index and the records of each list; draw them first if they are not in data_dir.

    Args:
      data_dir: folder for shapes5i/VERSION.
      images: number of images to draw for each list; tests need fewer.
    Raises:
      OSError: data_dir cannot be written.
    """
    folder = Path(data_dir, 'shapes5i', VERSION)
    if not folder.is_dir():
        _create(folder, images)
    again = f'Remove {folder}, and it is drawn again'
    index = Index.load(folder / INDEX_FILE, again)
    sums = {}
    if (folder / SUMS_FILE).exists():  # earlier versions wrote none
        sums = records.read(folder / SUMS_FILE, dict[str, int], again)
    return index, {
        name: StoredFiles(folder, [f'{index.ids[i]}.jpg' for i in member.nonzero()[0]], sums, again)
        for name, member in index.lists.items()
    }


def encoded(image, label) -> tuple[bytes, bytes]:
    """Encode an image uint8 [H, W, 3] as JPEG and a label uint8 [H, W] as PNG."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(image).save(jpeg, 'JPEG', quality=90)
    Image.fromarray(label).save(png, 'PNG')
    return jpeg.getvalue(), png.getvalue()


def _create(folder, images):
    """Draw everything next to `folder` and then rename it, so that `folder` is complete or missing."""
    logger.info(
        'drawing shapes5i, %d images, into %s: this once, about a minute',
        sum(images.values()),
        folder,
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with paths.unfinished_folder(folder) as drawn:
            _write(drawn, images)
            try:
                os.rename(drawn, folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster and wrote the same bytes
                    raise
    except OSError as error:
        raise OSError(
            f'shapes5i cannot be written to {folder} ({error.strerror}): set config.data.dir to a folder that can be'
        ) from error


def _write(folder, images):
    for name in ('images', 'labels'):
        (folder / name).mkdir(parents=True)
    ids = {name: [f'{name}_{i:04}' for i in range(count)] for name, count in images.items()}

    def labelled():
        for name, listed in ids.items():
            for number, image_id in enumerate(listed, FIRST_NUMBER[name]):
                image, label = draw(number)
                jpeg, png = encoded(image, label)
                (folder / 'images' / f'{image_id}.jpg').write_bytes(jpeg)
                (folder / 'labels' / f'{image_id}.png').write_bytes(png)
                yield image_id, label

    Index.build(labelled(), ids).save(folder / INDEX_FILE)
    records.write(folder / SUMS_FILE, checksums(folder))
