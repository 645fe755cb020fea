"""Does a long training stay as small as it began, and how long do its checkpoints take?

    simpropnet bench long_run --workdir runs/long
    simpropnet bench long_run --workdir runs/long --steps 20000 --every 1000

Trains SimPropNet on the embedded data set with a tiny network (the steps are many, not heavy), with a checkpoint every
so often, and notes the memory of the process and the time that the loop spends in saving. Prints a table and writes
JSON. `growth` is the slope of the memory over the steps of the second half, in MiB per 1,000 steps; the first half is
left out, in which things are loaded and compiled. `saving` is the share of the loop's time between two checkpoints.
"""

import contextlib
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from simpropnet_jax.config import command_line, recipes
from simpropnet_jax.runtime import checkpoint

MIB = 2**20
SAMPLES = 40  # of the memory


def main(workdir: Path, steps: int, every: int, out: Path | None = None) -> dict[str, Any]:
    """Trains, prints the table, writes the JSON file.

    Args:
      workdir: a new folder.
      steps: of the training.
      every: steps between two checkpoints.
    Returns: what is written.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    from simpropnet_jax.training import loop

    if steps < 2 * SAMPLES or every < 1:
        raise ValueError(
            f'--steps must be {2 * SAMPLES} or more and --every 1 or more, got {steps} and {every}'
        )
    if checkpoint.exist(workdir):
        raise ValueError(f'{workdir} has checkpoints already; give a new folder as --workdir')
    notes = Notes()
    with notes.taken(loop):
        loop.train_and_evaluate(tiny(steps, every), workdir)
    record = notes.record() | {'steps': steps, 'every': every, **measure.machine()}
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def tiny(steps: int, every: int) -> ConfigDict:
    """The demo's config with a network so small that a step takes milliseconds."""
    config = recipes.get('shapes')
    config.model.update(weights='', width=8, features=8)
    config.train.update(
        size=33, batch=8, steps=steps, frozen=('backbone',), log_every=max(steps // SAMPLES, 1)
    )
    config.select.update(on='last', every=every)
    return config


class Notes:
    """What is seen of a training: memory at each line of metrics, time at each checkpoint."""

    def __init__(self):
        self.memory: list[tuple[int, int]] = []  # (step, bytes)
        self.saving: list[tuple[float, float]] = []  # (when it began, seconds that the loop waited)

    @contextlib.contextmanager
    def taken(self, loop):
        """Within, a training of this module is watched."""
        scalars, save = loop.Writer.scalars, checkpoint.Checkpoints.save

        def watched_scalars(writer, step, values):
            scalars(writer, step, values)
            self.memory.append((step, resident_bytes()))

        def watched_save(checkpoints, *args):
            start = time.perf_counter()
            save(checkpoints, *args)
            self.saving.append((start, time.perf_counter() - start))

        with (
            mock.patch.object(loop.Writer, 'scalars', watched_scalars),
            mock.patch.object(checkpoint.Checkpoints, 'save', watched_save),
        ):
            yield

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        later = np.array(self.memory[len(self.memory) // 2 :], np.float64)
        slope = np.polyfit(later[:, 0] / 1000, later[:, 1], 1)[0]
        starts, seconds = np.array(self.saving).T
        return {
            'memory': [[step, size] for step, size in self.memory],
            'growth_per_1000_steps': float(slope),
            'saving_seconds': seconds.tolist(),
            'interval_seconds': float(np.diff(starts).mean()),
            'saving_share': float(seconds[1:].mean() / np.diff(starts).mean()),
        }


def resident_bytes() -> int:
    """Memory of this process, now. OSError where the system does not say."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS:'):
            return int(line.split()[1]) * 1024
    raise OSError(
        '/proc/self/status does not say VmRSS, so the memory of this process is not known'
    )


def table(record: dict[str, Any]) -> str:
    """The memory at some steps, its growth, and the share of saving, as Markdown."""
    memory = record['memory']
    chosen = [memory[round(place)] for place in np.linspace(0, len(memory) - 1, 6)]
    return '\n'.join(
        [
            '| step | ' + ' | '.join(f'{step}' for step, _ in chosen) + ' |',
            '|---' * (1 + len(chosen)) + '|',
            '| memory, MiB | ' + ' | '.join(f'{size / MIB:.0f}' for _, size in chosen) + ' |',
            f'\nGrowth in the second half: {record["growth_per_1000_steps"] / MIB:+.1f} MiB per 1,000 steps.',
            f'A checkpoint each {record["every"]} steps, {record["interval_seconds"]:.2f} s; the loop waits '
            f'{1000 * float(np.mean(record["saving_seconds"][1:])):.0f} ms for it: {record["saving_share"]:.2%}.',
        ]
    )


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--workdir', required=True, type=Path, metavar='DIR', help='new folder, for the training'
    )
    parser.add_argument('--steps', type=int, default=2000, help='steps of the training')
    parser.add_argument('--every', type=int, default=500, help='steps between two checkpoints')
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.workdir, args.steps, args.every, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench long_run')
