"""A progress bar with the time left, one for each stage of a long step."""

import sys
from collections.abc import Callable

import jax
from tqdm import tqdm

Progress = Callable[[str, int, int], None]
"""progress(stage, done, total): told how far a stage has come."""

TERMINAL_INTERVAL, LOG_INTERVAL = 0.1, 30.0  # seconds between two updates; a log file needs few


class ProgressBar:
    """Shows the stages of a long step, one bar each. Only the first host shows them."""

    def __init__(self):
        self._stage, self._bar = None, None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Update the bar of a stage; it closes when all is done."""
        if stage != self._stage:
            self._stage, self._bar = stage, _bar(stage, total)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._stage = None  # a stage may come again: images are read and encoded at each size


def _bar(stage, total):
    interval = TERMINAL_INTERVAL if sys.stderr.isatty() else LOG_INTERVAL
    quiet = jax.process_index() != 0
    return tqdm(total=total, desc=stage, leave=False, mininterval=interval, disable=quiet)
