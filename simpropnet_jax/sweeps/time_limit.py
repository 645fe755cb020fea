"""A time limit for a sweep: the current training is saved first."""

import contextlib
import os
import signal
from collections.abc import Iterator

from simpropnet_jax.training.loop import STOPPED_BY_SIGNAL

RESERVE = 20
"""Seconds before the end in which a checkpoint is saved."""


def check_minutes(minutes: float | None) -> None:
    """Refuse a time that is too short to save a checkpoint.

    Raises:
      ValueError: names --minutes.
    """
    if minutes is not None and minutes * 60 <= RESERVE:
        raise ValueError(
            f'--minutes must be more than {RESERVE / 60:.2g}, which saving may take, got {minutes:g}'
        )


@contextlib.contextmanager
def time_limit(minutes: float | None) -> Iterator[None]:
    """Stop the work inside the context `RESERVE` seconds before the time is over.

    A training gets SIGTERM, as from a cluster, and saves a checkpoint. Everything else ends at once.

    Args:
      minutes: the limit; None: no limit.
    Raises:
      SystemExit: with `STOPPED_BY_SIGNAL`, when the time is over or SIGTERM came.
    """
    if minutes is None:
        yield
        return

    def end(*_) -> None:
        raise SystemExit(STOPPED_BY_SIGNAL)

    def terminate(*_) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end), signal.signal(signal.SIGALRM, terminate)
    signal.setitimer(signal.ITIMER_REAL, minutes * 60 - RESERVE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])
