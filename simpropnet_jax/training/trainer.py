"""Prepare the training of a run: a step, an optimizer and a rate for each phase, and history masks."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from simpropnet_jax.setup.refusals import keeps_history
from simpropnet_jax.setup.run import TrainingRun
from simpropnet_jax.training import history, objectives, phases
from simpropnet_jax.training.state import learning_rate, make_optimizer


def prepare_trainer(run: TrainingRun, make_step: Callable) -> phases.Trainer:
    """Prepare the trainer of all phases.

    Args:
      make_step: (objective, optimizer) -> the jitted step, see feed.py.
    """
    config, sampler = run.config, run.sampler
    length = config.train.steps or config.train.epochs * sampler.steps_per_epoch
    planned = phases.plan(
        config.tpc if run.method.episodic else None, length, sampler.steps_per_epoch
    )
    lengths = [phase.last - phase.first for phase in planned]
    optimizers = [make_optimizer(config.train, steps) for steps in lengths]
    steps = [
        make_step(_objective(run, phase), optimizer)
        for phase, optimizer in zip(planned, optimizers, strict=True)
    ]
    return phases.Trainer(
        planned, optimizers, steps, [learning_rate(config.train, steps) for steps in lengths]
    )


def _objective(run: TrainingRun, phase: phases.Phase) -> Callable:
    """Return a phase's objective: the loss of full labels, the loss of episodes, or their sum."""
    method, config, parts = run.method, run.config, []
    if method.supervised:
        parts.append(
            objectives.supervised(
                method.module,
                convention=config.model.convention,
                hidden=()
                if config.train.classes == 'all'
                else run.source.index.novel_classes(config.fold),
                crop=None if config.train.turn else config.train.size,
                foreground_weight=config.train.foreground_weight,
                episodes=method.episodic,
            )
        )
    if method.episodic:
        parts.append(
            objectives.episodic(
                method.module,
                config.train,
                void=config.data.void,
                convention=config.model.convention,
                steps=phase.last - phase.first,
                first_step=phase.first,
                tpc=config.tpc,
                transformed=phases.transformed(config.tpc, phase),
            )
        )
    return objectives.add_objectives(*parts) if len(parts) > 1 else parts[0]


def prepare_history(run: TrainingRun) -> Callable:
    """Return the function that makes the history masks: one per listed pair, if the method keeps them."""
    method, train = run.method, run.config.train
    if not keeps_history(method.module, train):
        return _no_history

    def encode(variables, images):
        return method.module.apply(variables, images, method='encode')

    images = jax.ShapeDtypeStruct((1, train.size, train.size, 3), jnp.float32)
    features = jax.tree.leaves(jax.eval_shape(encode, method.abstract(), images))[0]
    return partial(history.blank, len(run.sampler.pairs), features.shape[1:3])


def _no_history() -> None:
    return None
