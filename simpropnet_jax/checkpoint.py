"""Checkpoints on disk: the latest and the best are kept, and a damaged one falls back to the one before."""

import itertools
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

logger = logging.getLogger(__name__)

NOT_MEASURED = -math.inf  # the score of a checkpoint that no selection looked at


class Checkpoints:
    """The checkpoints of one work directory.

    Kept are the two latest (the second for the case that the first is damaged) and the one with the highest score.

    Args:
      directory: made if it is not there.
    """

    def __init__(self, directory: str | Path):
        self.directory = Path(directory).absolute()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        best = preservation_policy.BestN(get_metric_fn=lambda metrics: metrics['score'], n=1)
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics['score'],  # without it orbax does not write the metrics
            preservation_policy=preservation_policy.AnyPreservationPolicy([preservation_policy.LatestN(2), best]),
            cleanup_tmp_directories=True,
        )
        return ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, items: Mapping[str, Any], score: float | None = None) -> None:
        """Begins to write a checkpoint; the arrays may be donated at once.

        Args:
          items: name -> pytree of arrays; each can be restored without the others.
          score: what selection measured, higher is better; None: nothing.
        """
        if step in self._manager.all_steps():
            return
        score = NOT_MEASURED if score is None else float(score)
        args = ocp.args.Composite(**{name: ocp.args.StandardSave(item) for name, item in items.items()})
        self._manager.save(step, args=args, metrics={'score': score}, force=True)

    def wait(self) -> None:
        """Returns when all that was saved is on disk; raises what went wrong while writing."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes writing and lets go of the directory."""
        self._manager.close()

    def preempted(self, step: int) -> bool:
        """Whether the cluster asked a multi-host run to stop."""
        return self._manager.reached_preemption(step)

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score, the earlier of two; the latest where none was measured."""
        scores = {step: self._score(step) for step in self.steps()}
        if not scores:
            return None
        measured = {step: score for step, score in scores.items() if score > NOT_MEASURED}
        return max(measured, key=lambda step: (measured[step], -step)) if measured else max(scores)

    def _score(self, step: int) -> float:
        try:
            return float(self._manager.metrics(step)['score'])
        except Exception:  # damaged: orbax raises as many types as there are ways to break a file
            return NOT_MEASURED

    def restore(self, abstract: Mapping[str, Any], step: int | None = None) -> tuple[int, dict[str, Any]]:
        """The newest readable checkpoint, or that of one step: (step, items).

        Args:
          abstract: of each item wanted, a tree of jax.ShapeDtypeStruct with shardings; the devices need not be
            those that saved.
          step: None: the newest that can be read; each one that cannot is named in a warning.
        Raises:
          ValueError: the checkpoint of `step`, or every checkpoint, is unreadable, or there is none.
        """
        steps = self.steps()[::-1] if step is None else [step]
        args = ocp.args.Composite(**{name: ocp.args.StandardRestore(item) for name, item in abstract.items()})
        problem = 'there is none'
        for candidate, following in itertools.zip_longest(steps, steps[1:]):
            try:
                restored = self._manager.restore(candidate, args=args)
                return candidate, {name: restored[name] for name in abstract}
            except Exception as error:  # see _score
                problem = f'{type(error).__name__}: {str(error).partition(chr(10))[0]}'[:300]
                if following is not None:
                    logger.warning('checkpoint %d in %s is damaged (%s); falling back to checkpoint %d',
                                   candidate, self.directory, problem, following)  # fmt: skip
        raise ValueError(f'no readable checkpoint {"" if step is None else f"{step} "}in {self.directory}: {problem}')

    def delete_after(self, step: int) -> None:
        """Removes the checkpoints after a step: damaged ones that a run fell back from and will write again."""
        for later in [later for later in self.steps() if later > step]:
            self._manager.delete(later)


def exist(workdir: Path) -> bool:
    """Whether a work directory has anything in checkpoints/."""
    directory = workdir / 'checkpoints'
    return directory.is_dir() and any(directory.iterdir())


def abstract_like(state: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and types of a state (or of `jax.eval_shape`'s), with one sharding for all: what `restore` takes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(path.suffix + '.tmp')
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + '\n')
    temporary.replace(path)
