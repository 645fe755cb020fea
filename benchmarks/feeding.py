"""Does the accelerator wait for its data? Time the ways in which training images reach it, and the step they feed.

    simpropnet bench feeding --config simpropnet:fold=1 --config.data.name=pascal5i/subset
    simpropnet bench feeding --config simpropnet:fold=1 --config.train.steps_per_dispatch=20 \\
        --config.data.workers=16 --out feeding.json                                             (on a GPU)

Needs a prepared data set; weights are random, which takes as long. The ways are

    tfdata      streamed, decoded by tf.data (left out without TensorFlow)
    threads     streamed, decoded by a thread pool
    decoded     streamed from files of decoded images, which are written first (left out if the disk has no room)
    resident    all training images in the device's memory, batches gathered there (left out if they do not fit)

The table shows for each, in steady state: pairs a second that reach the device without computing on them; pairs a
second of processor time, which is what one busy core brings; seconds of a training step that is fed so; and the share
of them that the device waits, which is what a step takes longer than with a batch that is already there, the same one
again and again. The first row is that one: its pairs a second are the step's appetite. Log lines, selection and
checkpoints are in none. Where JAX computes on the CPU, decoding and step share the cores, and that is in the share;
resident images are gathered by the cores, too.

resident makes config.train.steps_per_dispatch steps a call, the others one. On a CPU more than one is slower: XLA's CPU
compiler makes a slower step of it within a loop.
"""

import dataclasses
import importlib.util
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from benchmarks import measure
from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import checkpoint, sharding
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.run import TrainingRun, prepare_training
from simpropnet_jax.training.feed import Feed
from simpropnet_jax.training.state import init_state
from simpropnet_jax.training.trainer import prepare_history, prepare_trainer

LEAD = 8  # batches before the clock runs: what was decoded in advance is used up
THERE = 'a batch that is there'


def main(
    config: ConfigDict, steps: int = 20, repeats: int = 3, out: Path | None = None
) -> dict[str, Any]:
    """Time, print the table and write the JSON file.

    Args:
      steps: of one timed run.
      repeats: timed runs, which the ways take in turn.
      out: the JSON file; None: none.
    Returns: what is written.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    measure.whole_numbers('steps', [steps])
    measure.whole_numbers('repeats', [repeats])
    work = prepare(config)
    feeds = prepare_feeds(work, config.train.steps_per_dispatch)
    alone = {name: time_alone(work, feed, steps) for name, feed in feeds.items()}
    times = time_steps(work, feeds, steps, repeats)
    train, any_feed = work.method.config.train, next(iter(feeds.values()))
    record = {
        'method': work.method.config.model.name,
        'data': work.source.name,
        'size': train.size,
        'batch': train.batch,
        'shot': train.shot,
        'workers': work.method.config.data.workers,
        'images': any_feed.images,
        'resident_bytes': any_feed.bytes,
        'decoded_bytes': any_feed.files.bytes,
        'rows': rows(train.batch, feeds, alone, times),
        **measure.machine(),
    }
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def prepare(config: ConfigDict) -> TrainingRun:
    """The config's method without its weights, and its data. Raises ValueError, OSError."""
    config = ConfigDict(config.to_dict())
    config.model.weights, config.train.start = '', ''
    config.train.steps_per_dispatch = 1  # `prepare_feeds` gives resident images more
    with tempfile.TemporaryDirectory() as nothing:
        return prepare_training(config, Path(nothing))


def prepare_feeds(work: TrainingRun, steps_per_dispatch: int) -> dict[str, Feed]:
    """Prepare a feed for each way that is available here; resident images are read.

    Args:
      steps_per_dispatch: of resident images.
    """
    backends = ['tfdata'] * (importlib.util.find_spec('tensorflow') is not None) + ['threads']
    feeds = {}
    kinds = {name: {'backend': name, 'decoded': 'never'} for name in backends}
    kinds['decoded'] = {'decoded': 'always'}
    kinds['resident'] = {'residency': 'always', 'steps_per_dispatch': steps_per_dispatch}
    for name, kind in kinds.items():
        changes = {'residency': 'never', **kind}
        run = dataclasses.replace(work, loading=work.loading._replace(**changes))
        try:
            feeds[name] = Feed(run, sharding.make_mesh())
        except ValueError as error:
            print(f'{name} is left out: {error}')
            continue
        feeds[name].load(ProgressBar())
    return feeds


def endless(feed: Feed) -> Iterator[tuple[int, Any]]:
    """Dispatches of `feed.steps_per_dispatch` steps, from the first step on."""

    def counts():
        while True:
            yield feed.steps_per_dispatch

    return feed.groups(0, counts())


def take(batches: Iterator, steps: int, use: Callable[[Any, int], Any]) -> int:
    """Has so many steps or a few more, of whole dispatches, and waits for the last; how many they were."""
    done, last = 0, None
    while done < steps:
        count, batch = next(batches)
        last = use(batch, count)
        done += count
    jax.block_until_ready(last)
    return done


def time_alone(work: TrainingRun, feed: Feed, steps: int) -> dict[str, float]:
    """Return pairs per second, and per second of processor time, that reach the device without computing on them."""
    gather = jax.jit(
        lambda group, i: feed.gather(group.images, jax.tree.map(lambda x: x[i], group.numbers))
    )

    def use(batch, count):
        if not feed.resident:
            return jax.block_until_ready(batch)
        return [jax.block_until_ready(gather(batch, i)) for i in range(count)][-1]

    batches = endless(feed)
    take(batches, LEAD, use)
    start, cpu = time.perf_counter(), time.process_time()
    pairs = work.method.config.train.batch * take(batches, steps, use)
    found = {
        'pairs_per_second': pairs / (time.perf_counter() - start),
        'pairs_per_core_second': pairs / (time.process_time() - cpu),
    }
    batches.close()
    return found


def time_steps(
    work: TrainingRun, feeds: dict[str, Feed], steps: int, repeats: int
) -> dict[str, measure.Times]:
    """Time a step with a batch already on the device, and fed in each way; they take turns."""
    streams = {name: endless(feed) for name, feed in feeds.items()}
    streamed = next(name for name, feed in feeds.items() if not feed.resident)
    first = next(streams[streamed])
    runs = {THERE: (iter(lambda: first, None), stepper(work, feeds[streamed]))}
    for name, feed in feeds.items():
        use = stepper(work, feed) if feed.resident else runs[THERE][1]
        runs[name] = streams[name], use
    seconds = {name: [] for name in runs}
    compilation = {
        name: measure.clock(lambda run=run: take(run[0], 1, run[1])) for name, run in runs.items()
    }
    for _ in range(repeats):
        for name, (batches, use) in runs.items():
            take(batches, LEAD, use)
            start = time.perf_counter()
            done = take(batches, steps, use)
            seconds[name].append((time.perf_counter() - start) / done)
    for batches in streams.values():
        batches.close()
    return {name: measure.Times(compilation[name], own) for name, own in seconds.items()}


def stepper(work: TrainingRun, feed: Feed) -> Callable[[Any, int], Any]:
    """A function that makes the steps of one dispatch, of the training's first phase, and does not wait for them."""
    train = work.method.config.train
    trainer = prepare_trainer(work, feed.make_step)
    state = [
        init_state(
            work.method,
            trainer.optimizers[0],
            frozen=train.frozen,
            seed=0,
            mesh=sharding.make_mesh(),
            new_history=prepare_history(work),
        )
    ]

    def use(batch, count):
        del count
        state[0], metrics = trainer.steps[0](state[0], batch)
        return state[0], metrics

    return use


def rows(batch: int, feeds, alone, times: dict[str, measure.Times]) -> list[dict[str, Any]]:
    """One a way, for the JSON file and the table; the first is the step's appetite."""
    there = times[THERE].median
    result = []
    for name, one in times.items():
        row = {
            'name': name,
            'seconds': one.record(),
            'shown': str(one),
            'trained_pairs_per_second': batch / one.median,
        }
        if name in feeds:
            row |= {
                **alone[name],
                'waits': 1 - there / one.median,
                'steps_per_dispatch': feeds[name].steps_per_dispatch,
            }
        result.append(row)
    return result


def table(record: dict[str, Any]) -> str:
    """The rows as Markdown, and the bytes below."""
    lines = [
        '| fed by | pairs/s alone | pairs/s a core | a step | pairs/s trained | the device waits |',
        '|---|---|---|---|---|---|',
    ]
    for row in record['rows']:
        together = row.get('steps_per_dispatch', 1)
        name = row['name'] + (f', {together} steps a call' if together > 1 else '')
        own = [
            f'{row[key]:.4g}' if key in row else ''
            for key in ('pairs_per_second', 'pairs_per_core_second')
        ]
        waits = f'{row["waits"]:.1%}' if 'waits' in row else ''
        lines.append(
            f'| {name} | {" | ".join(own)} | {row["shown"]} '
            f'| {row["trained_pairs_per_second"]:.4g} | {waits} |'
        )
    lines.append(
        f'\n{record["images"]:,} training images; resident they take {record["resident_bytes"]:,} bytes on '
        f'each device; the files of decoded images, of the whole list, take {record["decoded_bytes"]:,} bytes. '
        f'{record["workers"]} decoding threads, {record["cores"]} cores, batches of '
        f'{record["batch"]}.'
    )
    return '\n'.join(lines)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    command_line.add_config(parser, required=True, only=('data.', 'model.', 'train.'))
    parser.add_argument('--steps', type=int, default=20, help='steps of one timed run')
    parser.add_argument(
        '--repeats', type=int, default=3, help='timed runs, of which the median is taken'
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    main(args.config, args.steps, args.repeats, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench feeding')
