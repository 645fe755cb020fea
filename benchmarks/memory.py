"""How much memory does an evaluation of so many images take, for narrow and wide features?

    simpropnet bench memory --config simpropnet
    simpropnet bench memory --config prototype --images 1449

It uses noise images of VOC's size, by default the number of VOC's val list. Each is once a query and once a support. No
weights and no data are needed. Prints the bytes of an image's features, the limit that config.eval.memory sets to all
of them, and the peak memory of the process, and writes JSON. Run one process per method: the peak never falls.
"""

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.protocols import get_protocol
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation import run
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import EvaluationRun

SIZE = (375, 500)  # of VOC's images, most often
DIFFERENT = 16  # images of noise; reading the same one again costs the same
CLASSES = tuple(range(1, 21))


def noise(images: int) -> Source:
    """Return a source of this many images, with a rectangle of one class in each."""
    rng = np.random.default_rng(0)
    pictures = [
        _encoded(rng.integers(0, 256, (*SIZE, 3), np.uint8), 'jpeg') for _ in range(DIFFERENT)
    ]
    labels = np.zeros((len(CLASSES), *SIZE), np.uint8)
    labels[:, 100:250, 100:300] = np.array(CLASSES, np.uint8)[:, None, None]
    files = [_encoded(label, 'png') for label in labels]
    ids = tuple(f'{number:06}' for number in range(images))
    shown = (labels[number % len(CLASSES)] for number in range(images))
    index = Index.build(zip(ids, shown, strict=True), {'val': ids})
    records = [
        {'image': pictures[number % DIFFERENT], 'label': files[number % len(CLASSES)]}
        for number in range(images)
    ]
    return Source('noise', index, {'val': records})


def _encoded(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def main(config: ConfigDict, images: int, out: Path | None = None) -> dict[str, Any]:
    """Evaluate, print the numbers and write the JSON file.

    Args:
      images: 40 or more, so that each class has two.
    Returns: what is written.
    Raises:
      ValueError: in one sentence, what is wrong.
    """
    if images < 2 * len(CLASSES):
        raise ValueError(
            f'--images must be {2 * len(CLASSES)} or more, two of each class, got {images}'
        )
    config_rules.validate(config, devices=1)
    config = ConfigDict(config.to_dict())
    if config.model.convention == 'auto':
        config.model.convention = 'torchvision'
    method = Method.from_config(config)
    source, step = noise(images), len(CLASSES)

    def support(n):
        return n + step if n + step < images else n % step  # the next image of the same class

    episodes = [Episode(n, (support(n),), 1 + n % step, n) for n in range(images)]
    protocol = dataclasses.replace(get_protocol(config.eval.protocol), void='ignore')
    work = EvaluationRun(
        method, source, Path(), 'episodes', protocol, {(1, 0): episodes}, CLASSES, None
    )
    evaluator = run.prepare_evaluator(work, measure.one_device(), ProgressBar())
    result = evaluator.run({'params': measure.random_params(method)}, ProgressBar())
    from benchmarks.evaluation import feature_bytes

    record = {
        'method': config.model.name,
        'size': config.eval.size,
        'images': images,
        'episodes': len(episodes),
        'feature_bytes_per_image': feature_bytes(method.module, config.eval.size),
        'memory': config.eval.memory,
        'peak_memory': measure.peak_memory(),
        'seconds': result['seconds'],
        **measure.machine(),
    }
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def table(record: dict[str, Any]) -> str:
    """The numbers in a sentence."""
    each = record['feature_bytes_per_image']
    peak = ', '.join(
        f'{where} {size / 2**30:.2f} GiB' for where, size in record['peak_memory'].items()
    )
    return (
        f'{record["method"]} at {record["size"]}: features of an image {each / 1e6:.2f} MB, of all {record["images"]} '
        f'{record["images"] * each / 2**30:.2f} GiB, of which {record["memory"]:g} GiB may be held; '
        f'most memory of the process: {peak}.'
    )


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    command_line.add_config(parser, required=True, only=('eval.', 'model.'))
    parser.add_argument(
        '--images', type=int, default=1449, help="images; VOC's val list has the default"
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.config, args.images, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench memory')
