"""Run every benchmark of an accelerator, or of the CPU in its place, in turn, within a time limit if given.

    simpropnet bench everything --out measured --config.data.name=pascal5i/subset --config.data.dir=packed
    simpropnet bench everything --out measured --minutes 9 --only training_simpropnet,training_canet
    simpropnet bench everything --out measured --checkpoint runs/fold1 --config.data.workers=16           (on a GPU)

Each runs in a separate process, which has the whole accelerator. Its table also goes to NAME.txt in --out, its numbers
to NAME.json. --minutes stops the rest when the time is over; re-run the same command to resume without repeating
finished benchmarks. --only chooses benchmarks, in order. The --help of each explains it and lists its flags.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules

RUN = 'RUN'  # in a benchmark's words: the run of --checkpoint


class Benchmark(NamedTuple):
    """A module of this folder with its flags, and beginnings of the fields that its config has."""

    words: tuple[str, ...]
    fields: tuple[str, ...] = ()


_SIMPROPNET = ('--config', 'simpropnet:fold=1')
_CANET = ('--config', 'canet:fold=1')
_BATCHES = ('--batches', '8,16,32')
_TOGETHER = ('--config.data.resident=always', '--config.train.steps_per_dispatch=20')
# The most asked for come first.
BENCHMARKS = {
    'training_simpropnet': Benchmark(('training', *_SIMPROPNET, *_BATCHES), ('model.', 'train.')),
    'evaluation': Benchmark(('evaluation', *_SIMPROPNET), ('data.', 'model.', 'eval.')),
    'feeding': Benchmark(('feeding', *_SIMPROPNET, *_TOGETHER), ('data.', 'model.', 'train.')),
    'training_canet': Benchmark(('training', *_CANET, *_BATCHES), ('model.', 'train.')),
    'memory': Benchmark(('memory', '--config', 'prototype'), ('model.', 'eval.')),
    'startup': Benchmark(('startup', '--checkpoint', RUN)),
}


def main(
    out: Path,
    only: Sequence[str] = (),
    minutes: float | None = None,
    workdir: Path | None = None,
    changes: Sequence[str] = (),
) -> dict[str, str]:
    """Run the benchmarks that are not measured yet.

    Args:
      out: the folder of the results.
      only: names in `BENCHMARKS`; (): all, without `workdir` but those that need it.
      minutes: time limit; None: no limit.
      workdir: work directory of a training.
      changes: FIELD=VALUE, for the benchmarks with this field in their config.
    Returns: the outcome of each, in words.
    Raises:
      ValueError: there is no such benchmark, or a field that none has.
    """
    for change in changes:
        name = change.partition('=')[0]
        if name not in config_rules.NAMES:
            raise ValueError(config_rules.unknown_field(name, config_rules.NAMES))
    chosen = list(only) or [
        name for name, one in BENCHMARKS.items() if workdir or RUN not in one.words
    ]
    commands = {name: command(name, workdir, changes) for name in chosen}
    unused = [
        one for one in changes if not any(f'--config.{one}' in words for words in commands.values())
    ]
    if unused:
        raise ValueError(f'--config.{unused[0]}: none of {", ".join(chosen)} has such a field')
    out.mkdir(parents=True, exist_ok=True)
    end, told = None if minutes is None else time.monotonic() + 60 * minutes, {}
    for name, words in commands.items():
        left = None if end is None else end - time.monotonic()
        told[name] = (
            'measured before' if (out / f'{name}.json').exists() else run(words, out / name, left)
        )
        print(f'{name}: {told[name]}', flush=True)
    return told


def command(name: str, workdir: Path | None, changes: Sequence[str]) -> list[str]:
    """Return the words of a benchmark's command, without --out.

    Raises:
      ValueError: there is no such benchmark, or it needs a `workdir`.
    """
    if name not in BENCHMARKS:
        raise ValueError(f'--only must be of {", ".join(BENCHMARKS)}, got {name!r}')
    (module, *words), fields = BENCHMARKS[name]
    if RUN in words and workdir is None:
        raise ValueError(f'{name} needs --checkpoint, a trained run')
    words = [str(workdir) if word == RUN else word for word in words]
    own = [f'--config.{change}' for change in changes if change.startswith(fields)]
    return [sys.executable, '-m', f'benchmarks.{module}', *words, *own]


def run(words: Sequence[str], to: Path, seconds: float | None) -> str:
    """Run a command with a time limit and return its outcome in words; its table also goes to `to`.txt."""
    if seconds is not None and seconds <= 0:
        return 'not begun, as time is over'
    print(f'\npython {" ".join(words[1:])}', flush=True)
    text, start = to.with_suffix('.txt'), time.monotonic()
    try:
        with text.open('w') as file:
            done = subprocess.run(
                [*words, '--out', str(to.with_suffix('.json'))],
                timeout=seconds,
                check=False,
                text=True,
                stdout=file,
                stderr=subprocess.PIPE,
            )
    except subprocess.TimeoutExpired:
        return f'ended after {seconds:.3g} s, as time is over'
    print(text.read_text(), end='', flush=True)
    if done.returncode:
        return f'failed: {(done.stderr.strip().splitlines() or ["nothing said"])[-1]}'
    return f'measured in {time.monotonic() - start:.0f} s'


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--out', required=True, type=Path, metavar='DIR', help='folder for what is measured'
    )
    parser.add_argument(
        '--only',
        type=command_line.comma_separated,
        default=[],
        metavar='NAMES',
        help=f'which, in order (default: all): {",".join(BENCHMARKS)}',
    )
    parser.add_argument(
        '--minutes', type=float, help='stop before they are over (default: do not stop)'
    )
    parser.add_argument(
        '--checkpoint',
        type=Path,
        metavar='RUN',
        help='run folder; without it, startup is left out',
    )
    command_line.add_fields(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    changes = [f'{name}={"True" if text is None else text}' for name, text in args.changes]
    outcome = main(args.out, args.only, args.minutes, args.checkpoint, changes)
    sys.exit(any(not one.startswith('measured') for one in outcome.values()))


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench everything')
