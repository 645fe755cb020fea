"""Read the metrics of a run, metrics.jsonl: a line for each step that was logged."""

import logging
from pathlib import Path
from typing import Any

from simpropnet_jax.runtime import records

logger = logging.getLogger(__name__)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines with their steps; a damaged line is left out, and a warning names it.

    Raises:
      OSError: there is no such file.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            # A training that was killed leaves half a line at the end, and writes it again.
            cut = 'cut short' if not line.endswith(b'\n') else f'damaged ({error})'
            logger.warning('line %d of %s is %s and left out', number, path, cut)
    _warn_of_missing_end(path, max((row['step'] for row in rows), default=0))
    return rows


def _warn_of_missing_end(path: Path, last: int) -> None:
    """Warn where a checkpoint is later than the last line: each is written after the line of its step."""
    folder = path.parent / 'checkpoints'
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    saved = max((int(name) for name in names if name.isdecimal()), default=0)
    if saved > last:
        logger.warning(
            '%s ends at step %d, but there is a checkpoint of step %d', path, last, saved
        )


def _row(line: bytes) -> dict[str, Any]:
    row = records.of_line(line)
    wrong = [name for name, value in row.items() if not _is_number(value)]
    if 'step' not in row or wrong or not isinstance(row['step'], int):
        raise ValueError(f'{(wrong or ["step"])[0]} is no number')
    return row


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
