"""The training loop. Resuming is exact because of its order: select, save, next batch, step."""

import contextlib
import logging
import math
import signal
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.runtime import checkpoint, sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.runtime.workdir import WriteError, is_about_writing, only_run, reason
from simpropnet_jax.setup.run import TrainingRun, prepare_training, store_config
from simpropnet_jax.training import phases
from simpropnet_jax.training.feed import Feed
from simpropnet_jax.training.selection import Selection, SupervisedSelection
from simpropnet_jax.training.state import (
    TrainState,
    from_items,
    from_variables,
    init_state,
    to_items,
)
from simpropnet_jax.training.trainer import prepare_history, prepare_trainer
from simpropnet_jax.training.writer import Writer, log_progress

logger = logging.getLogger(__name__)

STOPPED_BY_SIGNAL = 143  # 128 + SIGTERM


class NonFiniteLossError(ValueError):
    """The loss is not finite; no checkpoint was saved after the last finite loss."""


def train_and_evaluate(config: ConfigDict, workdir: AnyPath) -> TrainState:
    """Train, select and save; the same call resumes an interrupted run.

    The work directory gets config.json, checkpoints/, metrics.jsonl, TensorBoard files and figures/.

    Raises:
      ValueError, OSError, ImportError: what a user can fix, before anything is compiled or written.
      WriteError: before anything is compiled, if the work directory cannot be written or another training uses it;
        later, if the disk is full; then it names the last good checkpoint.
      NonFiniteLossError: names the step and the last good checkpoint.
      SystemExit: on SIGTERM, after a checkpoint was saved.
    """
    return train(prepare_training(config, workdir))


def train(run: TrainingRun) -> TrainState:
    """Train a prepared run. See `train_and_evaluate`."""
    config, workdir, sampler, options = run.config, run.workdir, run.sampler, run.config.train
    mesh = sharding.make_mesh()
    feed = Feed(run, mesh)
    trainer, new_history = prepare_trainer(run, feed.make_step), prepare_history(run)
    steps = trainer.phases[-1].last
    kind = Selection if run.method.few_shot else SupervisedSelection
    selection = kind(run, mesh, phases.lengths(trainer.phases, sampler.steps_per_epoch))
    with (
        only_run(workdir),
        contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints,
        _naming_the_last_good(checkpoints, workdir),
    ):
        store_config(config, workdir)
        state, first = _begin(run.method, trainer.optimizers[0], checkpoints, mesh, new_history)
        every = config.select.every or sampler.steps_per_epoch
        counts = trainer.counts(first, feed.steps_per_dispatch, (every, options.log_every))
        groups = feed.groups(first, counts)
        if first < steps:
            feed.load(ProgressBar())
        writer = Writer(workdir, first)
        with contextlib.closing(groups), contextlib.closing(writer), _Stop() as stop:
            log = _Log(writer, checkpoints, trainer, options, steps)
            if first < steps:
                logger.info('compiling the first training step (about a minute on a CPU)')
            step, count = first, 1
            while True:
                stopping = stop.requested or checkpoints.preempted(
                    range(step - count + 1, step + 1)
                )
                due = step % every == 0 or step == steps
                if step > first and (due or stopping):
                    log.flush(step)
                    score = selection.run(state, step, writer, workdir) if due else None
                    checkpoints.save(step, to_items(state), score)
                    log.restart_clock()
                if step >= steps or stopping:
                    break
                count, batch = next(groups)
                state, metrics = trainer(state, step, batch)
                step += count
                log.add(step, metrics, count)
                checkpoints.check()  # a full disk ends the run now, and not at the next checkpoint
            checkpoints.wait()
            if step < steps:
                logger.warning(
                    'stopped by a signal; step %d of %d is saved, re-run the same command to resume',
                    step,
                    steps,
                )
                raise SystemExit(STOPPED_BY_SIGNAL)
            best = checkpoints.best_step()
            logger.info(
                'trained %d steps; best checkpoint: step %s (by %s)', steps, best, config.select.on
            )
    return state


def _begin(method, optimizer, checkpoints, mesh, new_history) -> tuple[TrainState, int]:
    """Return the state to start or resume from, and its step."""
    frozen, seed = method.config.train.frozen, method.config.seed
    if not checkpoints.steps():
        checkpoints.delete_after(0)
        return init_state(
            method, optimizer, frozen=frozen, seed=seed, mesh=mesh, new_history=new_history
        ), 0

    def create(v):
        return to_items(from_variables(v, frozen, optimizer, new_history()))

    abstract = jax.eval_shape(create, method.abstract())
    step, items = checkpoints.restore(checkpoint.abstract_like(abstract, sharding.replicated(mesh)))
    checkpoints.delete_after(step)
    logger.info('resuming from checkpoint %d', step)
    return from_items(items, frozen), step


@contextlib.contextmanager
def _naming_the_last_good(checkpoints, workdir):
    """Add the checkpoint to resume from to a write error, for example of a full disk."""
    try:
        yield
    except OSError as error:
        if not is_about_writing(error):
            raise
        with contextlib.suppress(WriteError):
            checkpoints.wait()
        what = (
            str(error)
            if isinstance(error, WriteError)
            else f'{workdir} could not be written ({reason(error)})'
        )
        raise WriteError(
            f'{what}; {_last_good(checkpoints)}; fix this and re-run the same command to resume'
        ) from error


def _last_good(checkpoints) -> str:
    last = checkpoints.steps()[-1:]
    return f'the last good checkpoint is step {last[0]}' if last else 'there is no checkpoint yet'


def _means(values: dict[int, dict]) -> dict[str, float]:
    """Average each metric of the last step over the steps that have it: another phase may have other losses."""
    collected = {
        name: [float(one[name]) for one in values.values() if name in one]
        for name in values[max(values)]
    }
    return {name: sum(found) / len(found) for name, found in collected.items()}


class _Stop:
    """Turn SIGTERM into a request that the loop checks between two steps."""

    def __enter__(self):
        self.requested = False
        # In a multi-host run the cluster's coordinator reports the signal, so that all hosts stop at the same step.
        self._before = (
            signal.signal(signal.SIGTERM, self._hear) if jax.process_count() == 1 else None
        )
        return self

    def _hear(self, *_):
        self.requested = True

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class _Log:
    """Collect metrics on the device, and write their means every `log_every` steps."""

    def __init__(self, writer, checkpoints, trainer, options, steps):
        self.writer, self.checkpoints, self.train, self.steps = writer, checkpoints, options, steps
        self.waiting, self.rate = [], trainer.rate
        self.restart_clock()

    def restart_clock(self):
        """Exclude the time outside training from the speed."""
        self.clock, self.counted = time.perf_counter(), 0

    def add(self, step, metrics, count):
        """Add the metrics of the last `count` steps: numbers for one step, or arrays that begin with the steps."""
        self.waiting.append((step, metrics, count))
        self.counted += count
        if step % self.train.log_every == 0:
            self.flush(step)

    def flush(self, step):
        """Write the collected metrics; raise NonFiniteLossError if a loss is not finite."""
        if not self.waiting:
            return
        values = self._fetched()
        for number, one in values.items():
            if not (math.isfinite(one['loss']) and math.isfinite(one['gradient_norm'])):
                self.checkpoints.wait()
                raise NonFiniteLossError(
                    f'the loss is {one["loss"]}, the gradient norm {one["gradient_norm"]}, at step {number}; '
                    f'{_last_good(self.checkpoints)}; '
                    'a smaller config.train.learning_rate (in a new --workdir) may help'
                )
        means = _means(values)
        seconds = (time.perf_counter() - self.clock) / max(self.counted, 1)
        means |= {'learning_rate': self.rate(step), 'pairs_per_second': self.train.batch / seconds}
        seconds_left = (self.steps - step) * seconds
        self.writer.scalars(step, means | {'seconds_left': seconds_left})
        shown = {name: means[name] for name in means if name != 'ica_probability'}
        log_progress(step, self.steps, shown, seconds_left)
        self.restart_clock()

    def _fetched(self):
        """Fetch {step: its metrics} from the device."""
        fetched = jax.device_get([metrics for _, metrics, _ in self.waiting])
        values = {}
        for (last, _, count), metrics in zip(self.waiting, fetched, strict=True):
            for place, step in enumerate(range(last - count + 1, last + 1)):
                values[step] = {name: np.ravel(value)[place] for name, value in metrics.items()}
        self.waiting = []
        return values
