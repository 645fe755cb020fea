"""Checkpoints on disk: the latest and the best are kept, and a damaged one falls back to the one before."""

import hashlib
import itertools
import json
import logging
import math
import os
from collections.abc import Collection, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.workdir import reason, writing

logger = logging.getLogger(__name__)
# Orbax logs the traceback of an error before it raises it; here the error ends in one sentence or in a fallback.
logging.getLogger('absl').addFilter(
    lambda record: record.levelno < logging.ERROR or '/orbax/' not in record.pathname
)

NOT_MEASURED = -math.inf  # the score of a checkpoint that no selection looked at
SUMS = 'sha256.json'  # in a checkpoint: file -> SHA-256; only older checkpoints are without
WRITTEN = 'commit_success.txt'  # in a checkpoint, of an orbax of today
HALF_WRITTEN = (
    ocp.path.step.TMP_DIR_SUFFIX
)  # ends the name of a checkpoint's folder until all is in it


class Checkpoints:
    """The checkpoints of one work directory.

    Kept are the two latest (the second for the case that the first is damaged) and the one with the highest score.
    To open and to read changes nothing on disk, so that it may be done while a training writes.

    Args:
      directory: made if it is not there.
    """

    def __init__(self, directory: str | AnyPath):
        directory = paths.parse(directory)
        self.directory = directory if paths.is_url(directory) else directory.absolute()
        self._saving = None  # the step that was last begun
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

        A cloud's storage has sums of its own.
        """
        if paths.is_url(self.directory):
            return
        folder = self.directory / f'{self._saving}{HALF_WRITTEN}'
        files = [
            path for path in folder.glob('*/**/*') if path.is_file()
        ]  # orbax still changes those at the top
        write_json(folder / SUMS, {str(path.relative_to(folder)): _sha256(path) for path in files})

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
        self._saving = step
        with writing(f'checkpoint {step} in {self.directory}'):
            self._manager.save(step, args=args, metrics={'score': score}, force=True)

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

        The hosts agree on one step to stop at, and whoever never asks for that one goes on: so none is left out.
        """
        return any(self._manager.reached_preemption(step) for step in steps)

    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score, the earlier of two; the latest where none was measured."""
        scores = {step: self.score(step) for step in self.steps()}
        if not scores:
            return None
        measured = {step: score for step, score in scores.items() if score is not None}
        return max(measured, key=lambda step: (measured[step], -step)) if measured else max(scores)

    def score(self, step: int) -> float | None:
        """Return the score that a checkpoint was saved with; None where none was measured or it cannot be read."""
        metrics = self._manager.metrics(step)
        if metrics is None or metrics['score'] == NOT_MEASURED:
            return None
        return metrics['score']

    def restore(
        self, abstract: Mapping[str, Any], step: int | None = None
    ) -> tuple[int, dict[str, Any]]:
        """The newest readable checkpoint, or that of one step: (step, items).

        Args:
          abstract: of each item wanted, a tree of jax.ShapeDtypeStruct with shardings; the devices need not be
            those that saved.
          step: None: the newest that can be read; each one that cannot is named in a warning.
        Raises:
          ValueError: the checkpoint of `step`, or every checkpoint, is unreadable, or there is none.
        """
        steps = self.steps()[::-1] if step is None else [step]
        args = ocp.args.Composite(
            **{name: ocp.args.StandardRestore(item) for name, item in abstract.items()}
        )
        problem = 'there is none'
        for candidate, following in itertools.zip_longest(steps, steps[1:]):
            try:
                _verify(self.directory / str(candidate), abstract)
                restored = self._manager.restore(candidate, args=args)
                return candidate, {name: restored[name] for name in abstract}
            except (
                Exception
            ) as error:  # orbax raises as many types as there are ways to break a file
                problem = reason(error)
                if following is not None:
                    logger.warning(
                        'checkpoint %d in %s is damaged (%s); falling back to checkpoint %d',
                        candidate,
                        self.directory,
                        problem,
                        following,
                    )
        raise ValueError(
            f'no readable checkpoint {"" if step is None else f"{step} "}in {self.directory}: {problem}'
        )

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
    """Orbax's, which does not open a directory where it cannot read one score."""

    def metrics(self, step: int) -> dict[str, float] | None:
        try:
            _verify(paths.parse(self.directory) / str(step), ['metrics'])
            return {'score': float(super().metrics(step)['score'])}
        except Exception:  # damaged; the policy of `_open` keeps it
            return None


def _verify(folder: AnyPath, items: Collection[str]) -> None:
    """Compares the files of some items of a checkpoint with their sums; orbax does not notice a flipped bit.

    Raises:
      ValueError: names a file that is not as it was written.
    """
    if not (folder / SUMS).exists():
        return
    for name, expected in json.loads((folder / SUMS).read_text()).items():
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


def write_json(path: AnyPath, value: Any, sort_keys: bool = True) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of one, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, sort_keys=sort_keys) + '\n'
    if paths.is_url(path):
        path.write_text(text)
        return
    temporary = path.with_suffix(path.suffix + '.tmp')
    with temporary.open('w') as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
