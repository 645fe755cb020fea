"""The training run. Its order is the reason that resume is exact: select, save, next batch, step."""

import contextlib
import logging
import math
import signal
import time

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from simpropnet_jax import checkpoint, experiment, parallel
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.episodes import augment, loader
from simpropnet_jax.paths import AnyPath
from simpropnet_jax.training import history, objectives, phases
from simpropnet_jax.training.selection import Selection, SupervisedSelection
from simpropnet_jax.training.state import (
    TrainState,
    from_items,
    from_variables,
    init_state,
    learning_rate,
    make_optimizer,
    make_step,
    to_items,
)
from simpropnet_jax.training.writer import Writer, log_progress
from simpropnet_jax.workdir import CannotWrite, is_about_writing, only_run, reason

logger = logging.getLogger(__name__)

STOPPED_BY_SIGNAL = 143  # 128 + SIGTERM


class NonFiniteLoss(ValueError):
    """The loss is not a number any more; nothing was saved since it was one."""


def train_and_evaluate(config: ConfigDict, workdir: AnyPath) -> TrainState:
    """Trains, selects and saves; the same call goes on where an earlier one was killed.

    The work directory gets config.json, checkpoints/, metrics.jsonl, TensorBoard files and figures/.

    Raises:
      ValueError, OSError, ImportError: what a user can mend, before anything is compiled or written.
      CannotWrite: before anything is compiled, where the work directory cannot be written or another training has
        it; later, where the disk is full; then it names the last good checkpoint.
      NonFiniteLoss: names the step and the last good checkpoint.
      SystemExit: on SIGTERM, after a checkpoint was saved.
    """
    method = experiment.prepare_method(config, workdir)
    config, train = method.config, method.config.train
    source = experiment.open_data(config)
    sampler = experiment.prepare_sampler(config, source)
    mesh = parallel.make_mesh()
    trainer, new_history = _trainer(method, sampler, mesh), _new_history(method, sampler)
    steps = trainer.phases[-1].last
    selection = _selection(method, source, mesh, phases.lengths(trainer.phases, sampler.steps_per_epoch))
    with (
        only_run(workdir),
        contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints,
        _naming_the_last_good(checkpoints, workdir),
    ):
        experiment.store_config(config, workdir)
        state, first = _begin(method, trainer.optimizers[0], checkpoints, mesh, new_history)
        batches = _batches(method, source, sampler, first)
        writer = Writer(workdir, first)
        with contextlib.closing(batches), contextlib.closing(writer), _Stop() as stop:
            every = config.select.every or sampler.steps_per_epoch
            log = _Log(writer, checkpoints, trainer, train, steps)
            step, on_device = first, parallel.prefetch(mesh, batches)
            while True:
                stopping = stop.requested or checkpoints.preempted(step)
                due = step % every == 0 or step == steps
                if step > first and (due or stopping):
                    log.flush(step)
                    score = selection.run(state, step, writer, workdir) if due else None
                    checkpoints.save(step, to_items(state), score)
                    log.restart_clock()
                if step >= steps or stopping:
                    break
                state, metrics = trainer(state, step, next(on_device))
                step += 1
                log.add(step, metrics)
            checkpoints.wait()
            if step < steps:
                logger.warning('stopped by a signal; step %d of %d is saved, the same command goes on', step, steps)
                raise SystemExit(STOPPED_BY_SIGNAL)
            best = checkpoints.best_step()
            logger.info('trained %d steps; best checkpoint: step %s (by %s)', steps, best, config.select.on)
    return state


def _begin(method, optimizer, checkpoints, mesh, new_history) -> tuple[TrainState, int]:
    """The state to go on from, and its step."""
    frozen, seed = method.config.train.frozen, method.config.seed
    if not checkpoints.steps():
        checkpoints.delete_after(0)
        return init_state(method, optimizer, frozen=frozen, seed=seed, mesh=mesh, new_history=new_history), 0
    create = lambda v: to_items(from_variables(v, frozen, optimizer, new_history()))
    abstract = jax.eval_shape(create, method.abstract())
    step, items = checkpoints.restore(checkpoint.abstract_like(abstract, parallel.replicated(mesh)))
    checkpoints.delete_after(step)
    logger.info('resuming from checkpoint %d', step)
    return from_items(items, frozen), step


def _selection(method, source, mesh, lengths):
    kind = Selection if method.few_shot else SupervisedSelection
    return kind(method.config, method.module, source, mesh, lengths)


def _trainer(method, sampler, mesh) -> phases.Trainer:
    config = method.config
    supervised = method.supervised
    if config.train.classes == 'all' and not supervised:
        raise ValueError(
            f"config.train.classes must be 'base' for {config.model.name}, got 'all', which is for a supervised "
            'oracle: no class would be novel'
        )
    length = config.train.steps or config.train.epochs * sampler.steps_per_epoch
    planned = phases.plan(None if supervised else config.tpc, length, sampler.steps_per_epoch)
    lengths = [phase.last - phase.first for phase in planned]
    optimizers = [make_optimizer(config.train, steps) for steps in lengths]
    steps = []
    for phase, optimizer in zip(planned, optimizers, strict=True):
        if supervised:
            objective = objectives.supervised(
                method.module, convention=config.model.convention,
                hidden=() if config.train.classes == 'all' else novel_classes(config.fold),
                crop=None if config.train.turn else config.train.size)  # fmt: skip
        else:
            objective = objectives.episodic(
                method.module, config.train, void=config.data.void, convention=config.model.convention,
                steps_per_epoch=sampler.steps_per_epoch, first_step=phase.first, tpc=config.tpc,
                transformed=phases.transformed(config.tpc, phase))  # fmt: skip
        steps.append(make_step(objective, optimizer, seed=config.seed, mesh=mesh))
    return phases.Trainer(planned, optimizers, steps, [learning_rate(config.train, steps) for steps in lengths])


def _new_history(method, sampler):
    """What makes the history masks: of an iterative method that is to use them, one of every listed pair."""
    train = method.config.train
    if not method.few_shot or not method.module.iterative or train.history_drop == 1:
        return lambda: None
    if train.sampling != 'listed_pairs':
        raise ValueError(
            f"config.train.sampling must be 'listed_pairs' with history masks, got {train.sampling!r}: other orders "
            'may have a pair twice in a batch; or set config.train.history_drop to 1, which is without them'
        )
    images = jax.ShapeDtypeStruct((1, train.size, train.size, 3), jnp.float32)
    encode = lambda variables, images: method.module.apply(variables, images, method='encode')
    features = jax.tree.leaves(jax.eval_shape(encode, method.abstract(), images))[0]
    return lambda: history.blank(len(sampler.pairs), features.shape[1:3])


def _batches(method, source, sampler, first):
    data, train = method.config.data, method.config.train
    shared = dict(
        batch=train.batch, first_step=first, backend=data.loader, workers=data.workers,
        process_index=jax.process_index(), process_count=jax.process_count())  # fmt: skip
    if method.supervised:
        size = train.size if train.turn else augment.labelled_size(train.size)
        return loader.supervised_batches(source, sampler, size=size, **shared)
    support_size = augment.support_size(train.size, train.support_scale)
    return loader.train_batches(source, sampler, query_size=train.size, support_size=support_size, **shared)


@contextlib.contextmanager
def _naming_the_last_good(checkpoints, workdir):
    """Adds to an error of writing, of a full disk for one, from where the run will go on."""
    try:
        yield
    except OSError as error:
        if not is_about_writing(error):
            raise
        with contextlib.suppress(CannotWrite):
            checkpoints.wait()
        what = str(error) if isinstance(error, CannotWrite) else f'{workdir} could not be written ({reason(error)})'
        raise CannotWrite(f'{what}; {_last_good(checkpoints)}; mend that, and the same command goes on') from error


def _last_good(checkpoints) -> str:
    last = checkpoints.steps()[-1:]
    return f'the last good checkpoint is step {last[0]}' if last else 'there is no checkpoint yet'


class _Stop:
    """Turns SIGTERM into a wish that the loop sees between two steps."""

    def __enter__(self):
        self.requested = False
        # A multi-host run hears of it through the cluster's coordinator, so that all hosts stop at one step.
        self._before = signal.signal(signal.SIGTERM, self._hear) if jax.process_count() == 1 else None
        return self

    def _hear(self, *_):
        self.requested = True

    def __exit__(self, *_):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


class _Log:
    """Collects metrics on the device, and writes their means every `log_every` steps."""

    def __init__(self, writer, checkpoints, trainer, train, steps):
        self.writer, self.checkpoints, self.train, self.steps = writer, checkpoints, train, steps
        self.waiting, self.rate = [], trainer.rate
        self.restart_clock()

    def restart_clock(self):
        """Leaves out of the speed what was not training."""
        self.clock, self.counted = time.perf_counter(), 0

    def add(self, step, metrics):
        self.waiting.append((step, metrics))
        self.counted += 1
        if step % self.train.log_every == 0:
            self.flush(step)

    def flush(self, step):
        """Writes what has been collected; raises NonFiniteLoss where a loss is not a number."""
        if not self.waiting:
            return
        numbers = [number for number, _ in self.waiting]
        values = jax.device_get([metrics for _, metrics in self.waiting])
        self.waiting = []
        for number, one in zip(numbers, values, strict=True):
            if not (math.isfinite(one['loss']) and math.isfinite(one['gradient_norm'])):
                self.checkpoints.wait()
                raise NonFiniteLoss(
                    f'the loss is {one["loss"]}, the gradient norm {one["gradient_norm"]}, at step {number}; '
                    f'{_last_good(self.checkpoints)}; '
                    'a smaller config.train.learning_rate (in a new --workdir) may help')  # fmt: skip
        means = {name: sum(float(one[name]) for one in values) / len(values) for name in values[0]}
        seconds = (time.perf_counter() - self.clock) / max(self.counted, 1)
        means |= {'learning_rate': self.rate(step), 'pairs_per_second': self.train.batch / seconds}
        seconds_left = (self.steps - step) * seconds
        self.writer.scalars(step, means | {'seconds_left': seconds_left})
        shown = {name: means[name] for name in means if name != 'ica_probability'}
        log_progress(step, self.steps, shown, seconds_left)
        self.restart_clock()
