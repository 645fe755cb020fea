"""How much memory does reading the annotations of COCO-20i take?

    simpropnet bench coco_memory
    simpropnet bench coco_memory --share 0.1

It writes made-up annotations of COCO 2014's number (123,287 images, 896,782 objects of 24 points), with empty files for
the images, and reads them as `simpropnet prepare coco20i` does. Nothing is drawn or decoded. It prints the peak memory
of the process and the bytes of the index that a training keeps, and writes JSON.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.datasets.coco20i.check import PARTS
from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES
from simpropnet_jax.datasets.coco20i.inputs import find_inputs
from simpropnet_jax.runtime import records

SIZES = {'train2014': (82_783, 604_907), 'val2014': (40_504, 291_875)}
"""Part of COCO -> (images, annotated objects)."""

POINTS = 24  # of a polygon: the files then have COCO's sizes
DIFFERENT = 1000  # polygons; reading the same one again costs the same


def write_annotations(folder: Path, share: float) -> int:
    """Write the JSON files, and an empty file for each image; returns the bytes of the JSON files."""
    rng, written = np.random.default_rng(0), 0
    shapes = [_shape(rng) for _ in range(DIFFERENT)]
    categories = [{'id': i, 'name': name} for i, name in enumerate(CLASS_NAMES) if i]
    for part, (images, objects) in SIZES.items():
        images, objects = int(images * share), int(objects * share)
        names = [f'COCO_{part}_{i:012d}.jpg' for i in range(images)]
        (folder / part).mkdir()
        for name in names:
            (folder / part / name).touch()
        content = {
            'images': [
                {'id': i, 'file_name': name, 'height': 480, 'width': 640, 'license': 1}
                for i, name in enumerate(names)
            ],
            'categories': categories,
        }
        path = folder / f'instances_{part}.json'
        with path.open('w') as file:
            file.write(json.dumps(content)[:-1] + ', "annotations": [')
            for i in range(objects):
                place = f'"id": {i}, "image_id": {i % images}, "category_id": {1 + i % 80}'
                file.write(f'{", " if i else ""}{{{place}, {shapes[i % len(shapes)]}}}')
            file.write(']}')
        written += path.stat().st_size
    return written


def _shape(rng) -> str:
    """Return the entries of an annotation that take most bytes, as JSON without the braces."""
    polygon = np.round(rng.uniform(0, 480, 2 * POINTS), 2).tolist()
    shape = {'segmentation': [polygon], 'area': 1234.5, 'bbox': [1.25, 2.25, 100.5, 100.5]}
    return json.dumps(shape | {'iscrowd': 0})[1:-1]


def main(share: float, out: Path | None = None) -> dict[str, Any]:
    """Read the annotations, print the numbers and write the JSON file.

    Args:
      share: of COCO's images and objects, up to 1.
    Returns: what is written.
    Raises:
      ValueError: the share is out of range.
    """
    if not 0.001 <= share <= 1:
        raise ValueError(f'--share must be from 0.001 to 1, got {share}')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_annotations(folder, share)
        inputs = find_inputs(folder, folder, subset=False)
        images = sum(len(inputs.ids(part)) for part in PARTS)
    record = {
        'images': images,
        'annotation_bytes': size,
        'index_bytes': 2 * 4 * images * len(CLASS_NAMES),
        'peak_memory': measure.peak_memory(),
        **measure.machine(),
    }
    peak = record['peak_memory']['host'] / 2**30
    print(
        f'{images:,} images, {size / 2**20:.0f} MiB of annotations: peak memory of the process {peak:.2f} GiB; '
        f'the index of a training {record["index_bytes"] / 2**20:.0f} MiB'
    )
    if out:
        records.write_json(out, record)
    return record


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--share', type=float, default=1.0, help="share of COCO's images and objects"
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.share, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench coco_memory')
