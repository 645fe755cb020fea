"""The commands that `fuzz` kills: what is typed, their inputs, and which results must be the same afterwards."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
from PIL import Image

from benchmarks import fuzz_kinds
from simpropnet_jax import models
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.models.prototype import Prototype

TINY = {  # fields that make a training take seconds
    'data.name': 'shapes5i',
    'data.loader': 'threads',
    'model.weights': '',
    'train.size': 33,
    'train.batch': 8,
    'train.steps': 4,
    'train.log_every': 1,
    'select.every': 2,
    'select.episodes': 5,
    'eval.size': 33,
    'eval.label_size': 33,
    'eval.episodes': 6,
    'eval.batch': 8,
    'eval.seeds': '(0,)',
    'eval.shots': '(1,)',
}
PORT = 18652
SPEEDS = (
    'per_second',
    'minutes',
    'seconds',
    'memory',
    'time',
)  # parts of names of what no two runs share


class Network(Prototype):
    """A method of two convolutions, which compiles in a second."""

    def setup(self) -> None:
        """Make the layers; the second one is trained."""
        self.backbone = nn.Conv(8, (8, 8), strides=8)
        self.project = nn.Conv(8, (3, 3))

    def encode(self, images, train=False):
        """Compute features of normalised images."""
        return self.project(self.backbone(images))


def build(*_) -> Network:
    """Make the network, whatever the config says."""
    return Network()


def use_tiny_network() -> None:
    """Let every method of this process, and of its children, be `Network`."""
    models.build = build


class Killed(NamedTuple):
    """A command to kill.

    Attributes:
      words: what is typed, of the folder of inputs and that of outputs.
      result: what must be the same afterwards, of the folder of outputs.
      endless: it runs until it is killed: the page.
    """

    words: Callable[[Path, Path], list[str]]
    result: Callable[[Path], dict[str, str]]
    endless: bool = False


def make_inputs(folder: Path) -> None:
    """Write a small data set, a run, a folder of masks, VOC, and pictures."""
    if folder.exists():
        return
    use_tiny_network()
    shapes5i.store.load(folder / 'drawn', {'trainaug': 60, 'val': fuzz_kinds.SCENES})
    makers = {'run': fuzz_kinds.make_run, 'own': fuzz_kinds.make_own, 'voc': fuzz_kinds.make_voc}
    for name, make in makers.items():
        (folder / name).mkdir(parents=True)
        make(folder / name)
    for name in ('pictures', 'voc/aug'):
        (folder / name).mkdir()
    for number in range(12):
        image, label = fuzz_kinds.scene(number)
        image.save(folder / 'pictures' / f'{number}.png')
        if number < 6:
            label.save(folder / 'voc/aug' / f'2008_{number:06}.png')
    label = Image.new('L', fuzz_kinds.SIDES)
    label.paste(255, (5, 5, 25, 20))
    label.save(folder / 'mask.png')


def _fields(inputs: Path, **changes) -> list[str]:
    fields = TINY | {'data.dir': inputs / 'drawn'} | changes
    return [f'--config.{name}={value}' for name, value in fields.items()]


def _train(inputs: Path, out: Path) -> list[str]:
    return ['train', '--config', 'simpropnet:fold=1', '--workdir', f'{out}/run', *_fields(inputs)]


def _eval(inputs: Path, out: Path) -> list[str]:
    if not (out / 'run').exists():
        shutil.copytree(inputs / 'run', out / 'run')
    sizes = ['--config.eval.seeds=(0,1)', '--config.eval.shots=(1,)', '--config.eval.batch=8']
    return ['eval', '--workdir', f'{out}/run', f'--config.data.dir={inputs}/drawn', *sizes]


def _segment(inputs: Path, out: Path) -> list[str]:
    support = [f'{inputs}/pictures/0.png', f'{inputs}/mask.png']
    words = ['segment', '--checkpoint', f'{inputs}/run', '--support', *support]
    words += ['--query', f'{inputs}/pictures', '--out', f'{out}/masks']
    return [*words, '--write', 'mask,coco']


def _sweep(inputs: Path, out: Path) -> list[str]:
    rows = ['sweep', '--rows', 'simpropnet', '--seeds', '1', '--inputs', 'identical']
    fields = _fields(inputs, **{'train.steps': 2})
    return [*rows, '--recipe', 'cpu', '--workdir', f'{out}/sweep', *fields]


def _prepare(inputs: Path, out: Path) -> list[str]:
    return ['prepare', 'folder', f'{inputs}/own', '--out', f'{out}/prepared']


def _pack(inputs: Path, out: Path) -> list[str]:
    words = ['prepare', 'packed', '--name', 'shapes5i', '--data_dir', f'{inputs}/drawn']
    return [*words, '--out', f'{out}/packed']


def _pascal5i(inputs: Path, out: Path) -> list[str]:
    labels = ['--voc', f'{inputs}/voc/VOCdevkit', '--aug', f'{inputs}/voc/aug']
    return ['prepare', 'pascal5i', *labels, '--subset', '--data_dir', f'{out}/tfds']


def _page(inputs: Path, out: Path) -> list[str]:
    return ['app', '--checkpoint', f'{inputs}/run', '--port', str(PORT)]


def files(out: Path, *patterns: str) -> dict[str, str]:
    """Return the SHA-256 of files, by their place."""
    found = {path for pattern in patterns for path in out.glob(pattern) if path.is_file()}
    digests = [(path, hashlib.sha256(path.read_bytes())) for path in sorted(found)]
    return {str(path.relative_to(out)): digest.hexdigest() for path, digest in digests}


def scores(out: Path) -> dict[str, str]:
    """Return what result files measured, by their place."""
    found = {}
    for path in sorted(out.glob('**/eval/*.json')):
        found[str(path.relative_to(out))] = json.dumps(json.loads(path.read_text())['shots'])
    return found


def checkpoints(out: Path) -> dict[str, str]:
    """Return the steps of the checkpoints, by run."""
    found = {}
    for folder in out.glob('**/checkpoints'):
        steps = sorted(int(one.name) for one in folder.iterdir() if one.name.isdigit())
        found[str(folder.relative_to(out))] = str(steps)
    return found


def metrics(out: Path) -> dict[str, str]:
    """Return everything that was logged at each step, without speeds, by run."""
    found = {}
    for path in out.glob('**/metrics.jsonl'):
        steps: dict[int, dict] = {}
        for line in path.read_text().splitlines():
            row = json.loads(line)
            row.pop('crc32', None)
            kept = {name: row[name] for name in row if not any(one in name for one in SPEEDS)}
            steps.setdefault(row['step'], {}).update(kept)
        found[str(path.relative_to(out))] = json.dumps(steps, sort_keys=True)
    return found


COMMANDS = {
    'train': Killed(_train, lambda out: metrics(out) | checkpoints(out)),
    'eval': Killed(_eval, scores),
    'segment': Killed(_segment, lambda out: files(out, 'masks/*.png', 'masks/predictions.json')),
    'sweep': Killed(_sweep, lambda out: metrics(out) | scores(out)),
    'prepare folder': Killed(_prepare, lambda out: files(out, 'prepared/**/*')),
    'prepare packed': Killed(_pack, lambda out: files(out, 'packed/*')),
    'prepare pascal5i': Killed(_pascal5i, lambda out: files(out, 'tfds/**/*.array_record*')),
    'page': Killed(_page, lambda out: {}, endless=True),
}
