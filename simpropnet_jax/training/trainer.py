"""From a config to what trains: a step, an optimizer and a rate for each phase; history masks for methods with them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from simpropnet_jax.training import history, objectives, phases
from simpropnet_jax.training.state import learning_rate, make_optimizer, split


def prepare_trainer(method, source, sampler, make_step: Callable) -> phases.Trainer:
    """The trainer of all phases.

    Args:
      method: an experiment.Method.
      source: the data set.
      make_step: (objective, optimizer) -> the jitted step, see feed.py.
    Raises:
      ValueError: all classes are to be trained, and the method segments episodes of a benchmark; or a supervised
        network, whose classes are those of the benchmarks, is to be trained on other data; or train.frozen names
        what is not there, or all there is.
    """
    config = method.config
    supervised = method.supervised
    if supervised and config.data.name == 'folder':
        raise ValueError(
            f'config.model.name is {config.model.name!r}, a supervised network for the classes of PASCAL-5i: on your '
            'own data train a few-shot method'
        )
    some_are_novel = not supervised or method.imprints
    if config.train.classes == 'all' and some_are_novel and config.data.name != 'folder':
        raise ValueError(
            f"config.train.classes must be 'base' for {config.model.name}, got 'all', which is for a supervised "
            'oracle: no class would be novel'
        )
    if not split(method.abstract()['params'], config.train.frozen)[0]:
        raise ValueError(
            f'config.train.frozen is {config.train.frozen}, which is all of it: nothing would be trained'
        )
    length = config.train.steps or config.train.epochs * sampler.steps_per_epoch
    planned = phases.plan(config.tpc if method.episodic else None, length, sampler.steps_per_epoch)
    lengths = [phase.last - phase.first for phase in planned]
    optimizers = [make_optimizer(config.train, steps) for steps in lengths]
    steps = [
        make_step(_objective(method, source, sampler, phase), optimizer)
        for phase, optimizer in zip(planned, optimizers, strict=True)
    ]
    return phases.Trainer(
        planned, optimizers, steps, [learning_rate(config.train, steps) for steps in lengths]
    )


def _objective(method, source, sampler, phase: phases.Phase) -> Callable:
    """What a phase minimises: the loss of whole labels, that of episodes, or their sum."""
    config, parts = method.config, []
    if method.supervised:
        parts.append(
            objectives.supervised(
                method.module,
                convention=config.model.convention,
                hidden=()
                if config.train.classes == 'all'
                else source.index.novel_classes(config.fold),
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
    return objectives.together(*parts) if len(parts) > 1 else parts[0]


def prepare_history(method, sampler) -> Callable:
    """What makes the history masks: of an iterative method that is to use them, one of every listed pair.

    Raises:
      ValueError: they are to be used, and episodes are not drawn from the list of pairs.
    """
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
