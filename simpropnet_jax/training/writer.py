"""Write the metrics of a run: always to a JSON-lines file and a line of text, with TensorFlow also to TensorBoard."""

import importlib.util
import logging
from collections.abc import Mapping
from datetime import timedelta

import jax
import numpy as np

from simpropnet_jax.runtime import paths, records
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.workdir import writing

logger = logging.getLogger(__name__)

TENSORBOARD = "TensorBoard's files in the work directory"


class Writer:
    """Write on the first host, do nothing on the others; raise WriteError on failure.

    Args:
      workdir: work directory of the run, for metrics.jsonl and TensorBoard's files.
      first_step: lines of later steps, from an interrupted run, are dropped: they will be written again.
    """

    def __init__(self, workdir: AnyPath, first_step: int):
        self.active = jax.process_index() == 0
        self._tensorboard = None
        if not self.active:
            return
        self.path = workdir / 'metrics.jsonl'
        lines = (
            self.path.read_bytes().decode(errors='replace').splitlines()
            if self.path.exists()
            else []
        )
        kept = [line for line in lines if _step_of(line) <= first_step]
        self._text = ''.join(f'{line}\n' for line in kept)
        temporary = self.path.with_suffix('.tmp')
        with writing(self.path):
            temporary.write_text(self._text)
            temporary.replace(self.path)
        if importlib.util.find_spec('tensorflow') and importlib.util.find_spec('tensorboard'):
            import tensorflow as tf
            from clu import metric_writers

            tf.config.set_visible_devices(
                [], 'GPU'
            )  # else TensorFlow takes the memory that JAX needs
            with writing(TENSORBOARD):
                self._tensorboard = metric_writers.SummaryWriter(str(workdir))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line to metrics.jsonl, and the same to TensorBoard."""
        if not self.active:
            return
        values = {name: float(value) for name, value in values.items()}
        line = records.line({'step': step, **values})
        with writing(self.path):
            self._append(line)
        if self._tensorboard:
            with writing(TENSORBOARD):
                self._tensorboard.write_scalars(step, values)

    def _append(self, line):
        if paths.is_url(self.path):  # files in cloud storage are replaced, not changed
            self._text += line
            self.path.write_text(self._text)
            return
        with self.path.open('a') as file:
            file.write(line)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Write images, u8 [H, W, 3] each, to TensorBoard."""
        if self._tensorboard:
            with writing(TENSORBOARD):
                self._tensorboard.write_images(
                    step, {name: image[None] for name, image in images.items()}
                )

    def close(self) -> None:
        """Flush and close the files."""
        if self._tensorboard:
            with writing(TENSORBOARD):
                self._tensorboard.flush()
                self._tensorboard.close()


def _step_of(line: str) -> int | float:
    try:
        step = records.of_line(line).get('step')
    except ValueError:
        step = None  # half a line of an interrupted run
    return step if isinstance(step, int) else float('inf')


def log_progress(step: int, steps: int, values: Mapping[str, float], seconds_left: float) -> None:
    """Log a readable line: step, losses, speed, and the time left."""
    shown = '  '.join(f'{name} {value:.4g}' for name, value in values.items())
    logger.info(
        'step %d/%d  %s  done in %s', step, steps, shown, timedelta(seconds=int(seconds_left))
    )
