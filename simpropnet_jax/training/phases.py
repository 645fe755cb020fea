"""The phases of a training: conditioning on transformed pairs, and episodes, each with its own optimizer."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import optax

from simpropnet_jax.training.state import TrainState

CONDITIONING, EPISODES = 'conditioning', 'episodes'


class Phase(NamedTuple):
    """Steps first, first + 1, ..., last - 1."""

    name: str
    first: int
    last: int


def plan(tpc, steps: int, steps_per_epoch: int) -> list[Phase]:
    """Return the phases in order.

    Args:
      tpc: `config.tpc`; None for a training without episodes.
      steps: number of steps on episodes.
    """
    if tpc is None:
        return [Phase(EPISODES, 0, steps)]
    conditioning = tpc.steps or tpc.epochs * steps_per_epoch
    if tpc.when == 'before':
        return [
            Phase(CONDITIONING, 0, conditioning),
            Phase(EPISODES, conditioning, conditioning + steps),
        ]
    if tpc.when == 'after':
        return [Phase(EPISODES, 0, steps), Phase(CONDITIONING, steps, steps + conditioning)]
    return [Phase(EPISODES, 0, steps)]


def lengths(planned: Sequence[Phase], steps_per_epoch: int) -> dict[str, int]:
    """Return the steps of an epoch and of the conditioning before it, for curves."""
    before = planned[0].last if planned[0].name == CONDITIONING else 0
    return {'steps_per_epoch': steps_per_epoch, 'conditioning_steps': before}


def transformed(tpc, phase: Phase) -> float:
    """Return the share of a phase's episodes in which the query is the transformed support."""
    if phase.name == CONDITIONING:
        return 1.0
    return tpc.mix if tpc.when == 'mixed' else 0.0


class Trainer:
    """Choose step function, optimizer and learning rate at every step of a training.

    Args:
      phases: the result of `plan`.
      optimizers, steps, rates: of each phase; optimizers and rates count from the start of their phase.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        optimizers: Sequence[optax.GradientTransformation],
        steps: Sequence[Callable],
        rates: Sequence[optax.Schedule],
    ):
        self.phases, self.optimizers, self.steps, self.rates = phases, optimizers, steps, rates

    def __call__(self, state: TrainState, step: int, batch) -> tuple[TrainState, dict]:
        """Run one dispatch from step `step` on; the first of a later phase starts with a new optimizer."""
        number = self._phase(step)
        if 0 < step == self.phases[number].first:
            state = state.replace(opt_state=jax.jit(self.optimizers[number].init)(state.params))
        return self.steps[number](state, batch)

    def counts(
        self, first: int, steps_per_dispatch: int, intervals: Sequence[int]
    ) -> Iterator[int]:
        """Yield the number of steps of each dispatch from step `first` on: at most `steps_per_dispatch`.

        A dispatch ends at the end of a phase and at each multiple of an interval, when something else is due. A
        resumed run has the same dispatches as an uninterrupted one.
        """
        step = first
        while step < self.phases[-1].last:
            ends = [
                step + interval - step % interval for interval in (steps_per_dispatch, *intervals)
            ]
            end = min(*ends, self.phases[self._phase(step)].last)
            yield end - step
            step = end

    def rate(self, step: int) -> float:
        """Return the learning rate of step `step`."""
        number = self._phase(step)
        return float(self.rates[number](step - self.phases[number].first))

    def _phase(self, step):
        return next(
            i
            for i, phase in enumerate(self.phases)
            if step < phase.last or i == len(self.phases) - 1
        )
