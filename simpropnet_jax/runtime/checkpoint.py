"""Checkpoints on disk: the latest and the best are kept, and a damaged one falls back to the one before."""

import contextlib
import errno
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.records import write_json
from simpropnet_jax.runtime.workdir import reason, writing

logger = logging.getLogger(__name__)
# Orbax logs the traceback of an error before it raises it; here the error ends in one sentence or in a fallback.
logging.getLogger('absl').addFilter(
    lambda record: record.levelno < logging.ERROR or '/orbax/' not in record.pathname
)

# Environment variable: 1 refuses a damaged checkpoint, in place of which another would be read.
STRICT = 'SIMPROPNET_STRICT'
NOT_MEASURED = -math.inf  # the score of a checkpoint that no selection looked at
# In a checkpoint: file -> SHA-256, and the score once more under SCORE. Only older checkpoints are without it.
SUMS = 'sha256.json'
SCORE = 'score'
WRITTEN = 'commit_success.txt'  # in a checkpoint, of an orbax of today
HALF_WRITTEN = (
    ocp.path.step.TMP_DIR_SUFFIX
)  # ends the name of a checkpoint's folder until all is in it


class Restored(NamedTuple):
    """What was read of a checkpoint.

    Attributes:
      step: of the checkpoint.
      items: name -> pytree of arrays.
      damaged: why each checkpoint that was to be read before this one was not, by its step; empty if none was.
    """

    step: int
    items: dict[str, Any]
    damaged: dict[int, str]


class Checkpoints:
    """The checkpoints of one work directory.

    It keeps the two latest checkpoints (the second in case the first is damaged) and the best by score.
    Opening and reading change nothing on disk, so both are safe while a training writes.

    Args:
      directory: created if missing.
    """

    def __init__(self, directory: str | AnyPath):
        directory = paths.parse(directory)
        self.directory = directory if paths.is_url(directory) else directory.absolute()
        self._saving = None  # the step that was last begun
        self._saving_score = NOT_MEASURED  # its score
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        best = preservation_policy.BestN(get_metric_fn=lambda metrics: metrics['score'], n=1)
        # Where folders are made in the background, an error of writing leaves tracebacks of threads on the screen.
        summing = ocp.AsyncOptions(
            post_finalization_callback=self._sum, create_directories_asynchronously=False
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics['score'],  # without it orbax does not write the metrics
            preservation_policy=preservation_policy.AnyPreservationPolicy(
                [preservation_policy.LatestN(2), best]
            ),
            async_options=summing,
        )
        return _Manager(self.directory, options=options)

    def _sum(self) -> None:
        """Adds SUMS; orbax calls it on the first host when all is written, before the folder gets its final name.

        Cloud storage keeps its own checksums.
        """
        if paths.is_url(self.directory):
            return
        folder = self.directory / f'{self._saving}{HALF_WRITTEN}'
        files = [
            path for path in folder.glob('*/**/*') if path.is_file()
        ]  # orbax still changes those at the top
        sums = {str(path.relative_to(folder)): _sha256(path) for path in files}
        write_json(folder / SUMS, sums | {SCORE: self._saving_score})

    def save(self, step: int, items: Mapping[str, Any], score: float | None = None) -> None:
        """Begins to write a checkpoint; the arrays may be donated at once.

        Args:
          items: name -> pytree of arrays; each can be restored without the others.
          score: what selection measured, higher is better; None: nothing.
        Raises:
          WriteError: names the step, be it this one or the one before, which was still being written.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        score = NOT_MEASURED if score is None else float(score)
        args = ocp.args.Composite(
            **{name: ocp.args.StandardSave(item) for name, item in items.items()}
        )
        self._saving, self._saving_score = step, score
        with writing(f'checkpoint {step} in {self.directory}'):
            self._check_room(items)
            self._manager.save(step, args=args, metrics={'score': score}, force=True)

    def _check_room(self, items: Mapping[str, Any]) -> None:
        """Refuse what the disk has no room for; else that shows only some steps later.

        Whole numbers are not counted: history masks take a small part of their size.
        """
        if paths.is_url(self.directory) or jax.process_index() != 0:
            return
        arrays = [one for one in jax.tree.leaves(items) if isinstance(one, jax.Array)]
        size = sum(one.nbytes for one in arrays if jnp.issubdtype(one.dtype, jnp.floating))
        if shutil.disk_usage(self.directory).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def check(self) -> None:
        """Return at once.

        Raises:
          WriteError: the checkpoint that was being written could not be.
        """
        with writing(f'checkpoint {self._saving} in {self.directory}'):
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Returns when all that was saved is on disk.

        Raises:
          WriteError: names the step that is not.
        """
        with writing(f'checkpoint {self._saving} in {self.directory}'):
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Finishes writing and lets go of the directory."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def preempted(self, steps: range) -> bool:
        """Whether the cluster asked a multi-host run to stop, after these steps, the last that were made.

        The hosts agree on one step to stop at. A host that never asks about this step would not stop,
        so no step is left out.
        """
        return any(self._manager.reached_preemption(step) for step in steps)

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score, the earlier of two; the latest where none was measured."""
        order, _ = self._best_first()
        return order[0] if order else None

    def score(self, step: int) -> float | None:
        """Return the score that a checkpoint was saved with; None where none was measured or it cannot be read."""
        metrics = self._manager.metrics(step)
        if metrics is None or metrics['score'] == NOT_MEASURED:
            return None
        return metrics['score']

    def restore(
        self, abstract: Mapping[str, Any], step: int | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return the newest readable checkpoint, or the checkpoint of one step: (step, items).

        Args:
          abstract: of each item wanted, a tree of jax.ShapeDtypeStruct with shardings; the devices need not be
            those that saved.
          step: None: the newest that can be read; each one that cannot is named in a warning.
        Raises:
          ValueError: the checkpoint of `step`, or every checkpoint, is unreadable, or there is none.
        """
        restored = self._first_readable(abstract, self.steps()[::-1] if step is None else [step])
        return restored.step, restored.items

    def restore_chosen(self, abstract: Mapping[str, Any], which: str) -> Restored:
        """Read a checkpoint that a user asked for.

        Args:
          abstract: see `restore`.
          which: 'best', 'latest' or a step. Where the best or the latest is damaged, the next one is read, and a
            warning names both; a step is never replaced. With STRICT=1 in the environment, nothing is.
        Raises:
          ValueError: there is no such checkpoint, or no readable one.
        """
        order, unreadable = self.steps()[::-1], {}
        if which == 'best':
            order, unreadable = self._best_first()
        elif which != 'latest':
            order = [self._given_step(which)]
        if os.environ.get(STRICT) == '1':
            for step, problem in unreadable.items():
                raise ValueError(self._refusal(step, problem))
            return self._first_readable(abstract, order, only_first=True)
        restored = self._first_readable(abstract, order)
        for step, problem in unreadable.items():
            if step not in restored.damaged:
                logger.warning(
                    'checkpoint %d in %s is damaged (%s), and may be the best; using checkpoint %d',
                    step,
                    self.directory,
                    problem,
                    restored.step,
                )
        return restored._replace(damaged=unreadable | restored.damaged)

    def _refusal(self, step: int, problem: str) -> str:
        return (
            f'checkpoint {step} in {self.directory} is damaged ({problem}). Restore it from a copy, or leave out '
            '--strict to use another checkpoint'
        )

    def _given_step(self, which: str) -> int:
        if which.isdecimal() and int(which) in self.steps():
            return int(which)
        there = ', '.join(str(step) for step in self.steps())
        raise ValueError(
            f"the checkpoint must be 'best', 'latest' or a step that is there ({there}), got {which!r}"
        )

    def _best_first(self) -> tuple[list[int], dict[int, str]]:
        """Return the steps, best first, and why the score of some cannot be read.

        Steps without a readable score come last, the latest first.
        """
        steps = self.steps()
        scores = {step: self.score(step) for step in steps}
        measured = [step for step in steps if scores[step] is not None]
        others = [step for step in reversed(steps) if scores[step] is None]
        unreadable = {
            step: 'its score cannot be read'
            for step in sorted(others)
            if len(steps) > 1 and self._manager.metrics(step) is None
        }
        return sorted(measured, key=lambda step: (-scores[step], step)) + others, unreadable

    def _first_readable(
        self, abstract: Mapping[str, Any], steps: Sequence[int], only_first: bool = False
    ) -> Restored:
        """Read the first checkpoint that is not damaged, and warn of each one before it.

        Args:
          only_first: refuse to read another one than the first.
        Raises:
          ValueError: there is none.
        """
        args = ocp.args.Composite(
            **{name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
        )
        damaged = {}
        for place, step in enumerate(steps):
            try:
                _verify(self.directory / str(step), abstract)
                restored = self._manager.restore(step, args=args)
                return Restored(step, {name: restored[name] for name in abstract}, damaged)
            except (
                Exception
            ) as error:  # orbax raises as many types as there are ways to break a file
                damaged[step] = reason(error)
            if only_first:
                raise ValueError(self._refusal(step, damaged[step]))
            if place + 1 < len(steps):
                logger.warning(
                    'checkpoint %d in %s is damaged (%s); falling back to checkpoint %d',
                    step,
                    self.directory,
                    damaged[step],
                    steps[place + 1],
                )
        only = f'{steps[0]} ' if len(steps) == 1 else ''
        problem = damaged[steps[-1]] if steps else 'there is none'
        raise ValueError(f'no readable checkpoint {only}in {self.directory}: {problem}')

    def delete_after(self, step: int) -> None:
        """Removes what a run will write again: half-written checkpoints, and damaged ones after a step.

        Only for the run that has the work directory: what another one is writing is half-written, too.
        """
        if jax.process_index() == 0:
            for half in _half_written(self.directory):
                logger.warning(
                    'checkpoint %s in %s is half-written; going on from step %d',
                    half.name.removesuffix(HALF_WRITTEN),
                    self.directory,
                    step,
                )
                paths.remove(half)
        for later in [later for later in self.steps() if later > step]:
            self._manager.delete(later)


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, except that one unreadable score does not keep the directory from opening."""

    def metrics(self, step: int) -> dict[str, float] | None:
        """Return the score of a checkpoint; None if neither its own file nor SUMS can be read."""
        folder = paths.parse(self.directory) / str(step)
        for read in (self._from_metrics, _score_of_sums, self._unverified):
            try:
                return {'score': float(read(folder, step))}
            except Exception:  # damaged; the policy of `_open` keeps a checkpoint without a score
                continue
        return None

    def _from_metrics(self, folder: AnyPath, step: int) -> float:
        _verify(folder, ['metrics'])
        return super().metrics(step)['score']

    def _unverified(self, folder: AnyPath, step: int) -> float:
        """The score where SUMS cannot be read, but the score's own file can."""
        with contextlib.suppress(ValueError):
            _sums(folder)
            raise LookupError('the sums say that it is damaged')
        return super().metrics(step)['score']


def _score_of_sums(folder: AnyPath, step: int) -> float:
    return _sums(folder)[SCORE]


def _sums(folder: AnyPath) -> dict[str, Any]:
    """Read SUMS.

    Raises:
      ValueError: it is damaged.
    """
    try:
        sums = json.loads((folder / SUMS).read_text())
        if isinstance(sums, dict) and len(sums) > 1:
            return sums
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{SUMS} is not as it was written') from error
    raise ValueError(f'{SUMS} is not as it was written')


def _verify(folder: AnyPath, items: Collection[str]) -> None:
    """Compares the files of some items of a checkpoint with their sums; orbax does not notice a flipped bit.

    Raises:
      ValueError: names a file that is not as it was written.
    """
    if not (folder / SUMS).exists():
        return
    sums = _sums(folder)
    missing = set(items) - {name.split('/')[0] for name in sums}
    if missing:
        raise ValueError(f'{SUMS} is not as it was written: it lacks {", ".join(sorted(missing))}')
    for name, expected in sums.items():
        if name.split('/')[0] in items and _sha256(folder / name) != expected:
            raise ValueError(f'{name} is not as it was written')


def _sha256(path: AnyPath) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def exist(workdir: AnyPath) -> bool:
    """Whether a work directory has a checkpoint; a half-written one is none."""
    directory = workdir / 'checkpoints'
    if not directory.is_dir():
        return False
    half = _half_written(directory)
    return any(path.name.isdigit() and path not in half for path in directory.iterdir())


def _half_written(directory: AnyPath) -> list[AnyPath]:
    """Checkpoints that are not all there: by their name or, in a cloud's storage, by what orbax writes last."""
    if not paths.is_url(directory):
        return list(directory.glob(f'*{HALF_WRITTEN}'))
    folders = (
        [path for path in directory.iterdir() if path.name.isdigit()] if directory.is_dir() else []
    )
    return [path for path in folders if not (path / WRITTEN).exists()]


def abstract_like(state: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes and types of a state (or of `jax.eval_shape`'s), with one sharding for all: what `restore` takes."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)
