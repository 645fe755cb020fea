"""How long until the first step and the first mask? With nothing compiled before, and with the cache of an earlier run.

    simpropnet bench startup --checkpoint runs/fold2

Takes the config and the weights of a training, and an episode of its data. Each number times a fresh command, as
a user starts it: `train` until its first step is done, `segment` with one query until it has ended, and what each
further query adds. The cache is a folder of this benchmark alone. Prints a table and writes JSON.
"""

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes.loader import binary_label, own_labels
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.data import evaluation_episodes, open_data

ROOT = Path(__file__).parent.parent
FURTHER = 10  # queries
CONFIG_FILE = """from pathlib import Path
from simpropnet_jax.config.rules import load
def get_config(argument=''):
    config = load(Path({path!r}))
    config.train.update(steps=2, log_every=1, epochs=1)
    config.select.update(on='last', every=2)
    return config
"""


def main(workdir: Path, repeats: int, out: Path | None = None) -> dict[str, Any]:
    """Time the commands, print the table and write the JSON file.

    Args:
      workdir: work directory of a trained few-shot method.
      repeats: number of runs with the cache; their median is reported.
    Returns: what is written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    measure.whole_numbers('repeats', [repeats])
    Segmenter.from_checkpoint(workdir)  # or this says what is wrong
    with tempfile.TemporaryDirectory() as folder:
        support, queries = pictures(workdir, Path(folder))
        rows = {
            'first step': lambda cache: first_step(workdir, Path(folder), cache),
            'one query': lambda cache: predict(workdir, Path(folder), support, queries[:1], cache),
            'all queries': lambda cache: predict(workdir, Path(folder), support, queries, cache),
        }
        found = {name: timed(run, Path(folder) / name, repeats) for name, run in rows.items()}
    further = (found['all queries']['warm'] - found['one query']['warm']) / FURTHER
    record = {'seconds': found, 'seconds_a_further_query': further, **measure.machine()}
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def timed(run, cache: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds of a run with an empty cache, then the median and all values of later runs."""
    cold, *warm = [run(cache) for _ in range(1 + repeats)]
    return {'cold': cold, 'warm': statistics.median(warm), 'runs': warm}


def pictures(workdir: Path, folder: Path) -> tuple[tuple[Path, Path], list[Path]]:
    """An episode's support, (image, mask), and 1 + FURTHER queries, as files."""
    config = stored_config(workdir)
    source = open_data(config)
    _, sets = evaluation_episodes(config, source)
    episodes = next(iter(sets.values()))
    number = episodes[0].supports[0]
    label = binary_label(own_labels(source, [number])[0], episodes[0].class_id)
    (folder / 'support.jpg').write_bytes(source.example(number)[0])
    Image.fromarray(np.where(label == 1, np.uint8(255), np.uint8(0))).save(folder / 'support.png')
    (folder / 'queries').mkdir()
    queries = []
    for i in range(1 + FURTHER):
        image = Image.open(io.BytesIO(source.example(episodes[i % len(episodes)].query)[0]))
        queries.append(folder / 'queries' / f'{i}.jpg')
        image.convert('RGB').save(queries[-1], quality=95)
    return (folder / 'support.jpg', folder / 'support.png'), queries


def predict(workdir: Path, folder: Path, support, queries: list[Path], cache: Path) -> float:
    """Seconds of `segment` on one query, or on the folder of all."""
    query = queries[0] if len(queries) == 1 else queries[0].parent
    command = [
        'segment',
        '--checkpoint',
        workdir,
        '--support',
        *support,
        '--query',
        query,
        '--overwrite',
        '--out',
        folder / 'out',
    ]
    start = time.perf_counter()
    with started(command, cache) as process:
        _finished(process, process.communicate()[0])
    return time.perf_counter() - start


def first_step(workdir: Path, folder: Path, cache: Path) -> float:
    """Return the seconds until `train` reports its first step."""
    (folder / 'first.py').write_text(
        CONFIG_FILE.format(path=str((workdir / 'config.json').absolute()))
    )
    with tempfile.TemporaryDirectory() as new:
        command = ['train', '--config', folder / 'first.py', '--workdir', new]
        start, lines = time.perf_counter(), []
        with started(command, cache) as process:
            for line in process.stdout:
                lines.append(line)
                if ' step 1/' in line:
                    seconds = time.perf_counter() - start
            process.wait()
            _finished(process, ''.join(lines))
    return seconds


def started(command: list, cache: Path) -> subprocess.Popen:
    """Start the command with its own cache and readable messages."""
    return subprocess.Popen(
        [sys.executable, '-m', 'simpropnet_jax', *map(str, command)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {'JAX_COMPILATION_CACHE_DIR': str(cache), 'PYTHONPATH': str(ROOT)},
    )


def _finished(process, said):
    if process.returncode:
        raise ValueError(f'{process.args[3]} failed, so there is nothing to time: {said.strip()}')


def table(record: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    names = {'first step': 'train, first step done', 'one query': 'segment, one query'}
    lines = ['| seconds | nothing compiled before | with the cache |', '|---|---|---|']
    lines += [
        f'| {title} | {record["seconds"][name]["cold"]:.1f} | {record["seconds"][name]["warm"]:.1f} |'
        for name, title in names.items()
    ]
    return '\n'.join([*lines, f'\nEach further query: {record["seconds_a_further_query"]:.2f} s.'])


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--checkpoint',
        required=True,
        type=Path,
        metavar='RUN',
        help='run folder on this machine; its best weights are taken',
    )
    parser.add_argument('--repeats', type=int, default=3, help='runs with the cache')
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.checkpoint, args.repeats, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench startup')
