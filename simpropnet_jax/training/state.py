"""The state of a run, with trainable and frozen parameters apart, and the step that updates the trainable ones."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from simpropnet_jax.episodes.resident import Resident
from simpropnet_jax.ops.convolve import batch_split_over
from simpropnet_jax.runtime import sharding
from simpropnet_jax.setup.parameters import merge, split


class TrainState(flax.struct.PyTreeNode):
    """Everything needed to resume a run. It holds no random state: keys are folded from the step."""

    step: jax.Array  # i32 [], steps done
    params: dict  # trainable
    frozen: dict  # never differentiated, never in the optimizer
    opt_state: optax.OptState
    history: jax.Array | None = None  # f16 [pairs, h, w] of an iterative method, see history.py

    @property
    def variables(self) -> dict:
        """Return trainable and frozen parameters merged, as a module takes them."""
        return {'params': merge(self.params, self.frozen)}


def learning_rate(train, steps: int) -> optax.Schedule:
    """Return step -> learning rate: constant, or with `train.poly_power` falling to zero over the training's steps.

    With `train.warmup_steps` it first rises linearly.
    """
    rise, top = train.warmup_steps, train.learning_rate * train.rate_factor
    if train.poly_power:
        then = optax.polynomial_schedule(top, 0.0, train.poly_power, max(steps - rise, 1))
    else:
        then = optax.constant_schedule(top)
    if not rise:
        return then
    return optax.join_schedules([optax.linear_schedule(0.0, top, rise), then], [rise])


def make_optimizer(train, steps: int) -> optax.GradientTransformation:
    """Build the optimizer `train.optimizer`; SGD and RMSprop add weight decay to the gradient, as in PyTorch."""
    rate, decay = learning_rate(train, steps), train.weight_decay
    clip = [optax.clip_by_global_norm(train.clip)] if train.clip else []
    if train.optimizer == 'adamw':
        return optax.chain(*clip, optax.adamw(rate, weight_decay=decay))
    decayed = optax.add_decayed_weights(decay)
    if train.optimizer == 'rmsprop':
        return optax.chain(*clip, decayed, optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False))
    return optax.chain(*clip, decayed, optax.sgd(rate, momentum=train.momentum))


def init_state(
    method,
    optimizer,
    *,
    frozen: Sequence[str],
    seed: int,
    mesh: Mesh,
    new_history: Callable = lambda: None,
) -> TrainState:
    """Create a new state, replicated over the mesh.

    It is built inside jit, so that it owns its buffers and can be donated.

    Args:
      method: a setup.method.Method.
      new_history: makes the history masks of an iterative method.
    """

    def create(key, pretrained):
        return from_variables(method.init(key, pretrained), frozen, optimizer, new_history())

    return jax.jit(create, out_shardings=sharding.replicated(mesh))(
        jax.random.key(seed), method.pretrained
    )


def from_variables(
    variables: dict,
    frozen: Sequence[str],
    optimizer: optax.GradientTransformation,
    history: jax.Array | None = None,
) -> TrainState:
    """Create the state at step 0 with these weights."""
    params, kept = split(variables['params'], frozen)
    return TrainState(jnp.zeros((), jnp.int32), params, kept, optimizer.init(params), history)


def to_items(state: TrainState) -> dict:
    """Return a checkpoint's items: `variables`, for evaluation, and `optimizer`, the rest that training needs."""
    rest = {'step': state.step, 'opt_state': state.opt_state}
    if state.history is not None:
        rest['history'] = state.history
    return {'variables': state.variables, 'optimizer': rest}


def from_items(items: dict, frozen: Sequence[str]) -> TrainState:
    """Undo `to_items`."""
    params, kept = split(items['variables']['params'], frozen)
    rest = items['optimizer']
    return TrainState(rest['step'], params, kept, rest['opt_state'], rest.get('history'))


def make_step(objective: Callable, optimizer, *, seed: int, mesh: Mesh) -> Callable:
    """Return the jitted training step: (state, batch) -> (state, metrics). The old state is donated.

    Args:
      objective: (state, batch, key) -> (loss, (metrics, changes of the state)): the loss a mean over the whole batch,
        differentiated in state.params.
    """
    everywhere, split_over_data = sharding.replicated(mesh), sharding.sharded(mesh)
    return jax.jit(
        _step(objective, optimizer, seed, mesh.size),
        donate_argnums=0,
        in_shardings=(everywhere, split_over_data),
        out_shardings=(everywhere, everywhere),
    )


class Group(NamedTuple):
    """Several steps on images that are on the device.

    Attributes:
      numbers: image numbers of the batches, [T, B, ...] each; steps from `count` on are padding.
      count: i32 [], number of steps to make.
    """

    images: Resident
    numbers: dict[str, jax.Array]
    count: jax.Array


def make_group_step(
    objective: Callable,
    optimizer,
    gather: Callable,
    steps_per_dispatch: int,
    *,
    seed: int,
    mesh: Mesh,
) -> Callable:
    """Return the jitted step of several training steps: (state, Group) -> (state, metrics [steps_per_dispatch]).

    Only `count` steps are made, the other metrics are 0. The count is not a shape, so a shorter group needs no new
    compilation. Each step has the same key, and so the same loss, as in a dispatch of one step.

    Args:
      gather: (images, numbers) -> the batch.
    """
    step = _step(objective, optimizer, seed, mesh.size)
    everywhere, split = sharding.replicated(mesh), sharding.sharded(mesh)

    def steps(state: TrainState, group: Group):
        def one(i, state):
            numbers = jax.tree.map(lambda x: x[i], group.numbers)
            batch = gather(group.images, numbers)
            return step(state, jax.lax.with_sharding_constraint(batch, split))

        if steps_per_dispatch == 1:  # a loop of unknown length makes the host wait, and a CPU slow
            state, metrics = one(0, state)
            return state, jax.tree.map(lambda x: x[None], metrics)

        def body(i, carried):
            state, collected = carried
            state, metrics = one(i, state)
            return state, jax.tree.map(lambda whole, x: whole.at[i].set(x), collected, metrics)

        metrics = jax.eval_shape(lambda state: one(0, state)[1], state)
        blank = jax.tree.map(lambda x: jnp.zeros((steps_per_dispatch, *x.shape), x.dtype), metrics)
        return jax.lax.fori_loop(0, group.count, body, (state, blank))

    shardings = Group(everywhere, sharding.sharded(mesh, axis=1), everywhere)
    return jax.jit(
        steps,
        donate_argnums=0,
        in_shardings=(everywhere, shardings),
        out_shardings=(everywhere, everywhere),
    )


def _step(objective, optimizer, seed, devices):
    """(state, batch) -> (state, metrics), not jitted; the batch is split over so many devices."""

    def step(state: TrainState, batch):
        key = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss(params):
            return objective(state.replace(params=params), batch, key)

        with batch_split_over(devices):
            (value, (metrics, changes)), gradients = jax.value_and_grad(loss, has_aux=True)(
                state.params
            )
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        metrics = {'loss': value, 'gradient_norm': optax.global_norm(gradients), **metrics}
        params = optax.apply_updates(state.params, updates)
        return state.replace(
            step=state.step + 1, params=params, opt_state=opt_state, **changes
        ), metrics

    return step
