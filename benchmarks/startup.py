"""How long until the first step and the first mask? With nothing compiled before, and with the cache of an earlier run.

    simpropnet bench startup
    simpropnet bench startup --checkpoint runs/fold2

Takes the model of the package or the one that is given, and the package's sample pictures. Each number times a fresh
command, as a user starts it: `segment` with one query until it has ended, and what each further query adds; reading the
weights alone; and for a run folder also `train` until its first step is done. The cache is a folder of this benchmark
alone. Prints a table and writes JSON.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measure
from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.published import header
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.samples import samples

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
LOADING = """import sys, time
from simpropnet_jax import Segmenter
Segmenter
start = time.perf_counter()
Segmenter.from_pretrained(sys.argv[1])
print(time.perf_counter() - start)
"""


def main(workdir: Path, repeats: int, out: Path | None = None) -> dict[str, Any]:
    """Time the commands, print the table and write the JSON file.

    Args:
      workdir: run folder of a few-shot method, or a published model.
      repeats: number of runs with the cache; their median is reported.
    Returns: what is written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    measure.whole_numbers('repeats', [repeats])
    Segmenter.from_checkpoint(workdir)  # or this says what is wrong
    with tempfile.TemporaryDirectory() as folder:
        support, queries = pictures(Path(folder))
        rows = {
            'one query': lambda cache: predict(workdir, Path(folder), support, queries[:1], cache),
            'all queries': lambda cache: predict(workdir, Path(folder), support, queries, cache),
        }
        if not header.of(workdir):
            rows['first step'] = lambda cache: first_step(workdir, Path(folder), cache)
        found = {name: timed(run, Path(folder) / name, repeats) for name, run in rows.items()}
    further = (found['all queries']['warm'] - found['one query']['warm']) / FURTHER
    loading = statistics.median(load(workdir) for _ in range(repeats))
    record = {
        'seconds': found,
        'seconds_a_further_query': further,
        'seconds_to_load': loading,
        **measure.machine(),
    }
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def timed(run, cache: Path, repeats: int) -> dict[str, Any]:
    """Return the seconds of a run with an empty cache, then the median and all values of later runs."""
    cold, *warm = [run(cache) for _ in range(1 + repeats)]
    return {'cold': cold, 'warm': statistics.median(warm), 'runs': warm}


def load(workdir: Path) -> float:
    """Return the seconds that a new process takes to read the weights, after its imports."""
    command = [sys.executable, '-c', LOADING, str(workdir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f'loading failed, so there is nothing to time: {done.stderr.strip()}')
    return float(done.stdout.split()[0])


def pictures(folder: Path) -> tuple[tuple[Path, Path], list[Path]]:
    """A sample as the support, (image, mask), and 1 + FURTHER queries, as files."""
    support, *others = samples()
    (folder / 'queries').mkdir()
    queries = [folder / 'queries' / f'{number}.jpg' for number in range(1 + FURTHER)]
    for number, query in enumerate(queries):
        shutil.copy(others[number % len(others)].image, query)
    return (support.image, support.mask), queries


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
    names = {'one query': 'segment, one query'}
    if 'first step' in record['seconds']:
        names['first step'] = 'train, first step done'
    lines = ['| seconds | nothing compiled before | with the cache |', '|---|---|---|']
    lines += [
        f'| {title} | {record["seconds"][name]["cold"]:.1f} | {record["seconds"][name]["warm"]:.1f} |'
        for name, title in names.items()
    ]
    lines.append(f'\nEach further query: {record["seconds_a_further_query"]:.2f} s.')
    lines.append(f'Reading the weights: {record["seconds_to_load"]:.2f} s.')
    return '\n'.join(lines)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    run_folder.add_checkpoint(parser)
    parser.add_argument('--repeats', type=int, default=3, help='runs with the cache')
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.checkpoint.folder, args.repeats, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench startup')
