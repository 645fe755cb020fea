"""The finished episodes of an evaluation, in a file, so that a killed evaluation resumes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simpropnet_jax.runtime import records


class Journal:
    """A file with a line for what is evaluated, and a line for each finished episode.

    Args:
      path: the file; `remove` deletes it when the result is written.
      about: what is evaluated.
      restart: whether to forget what an earlier call finished.
    Raises:
      ValueError: an earlier call evaluated something else.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], restart: bool = False):
        self.path, self.done = path, {}
        lines = [] if restart or not path.exists() else self._read()
        if lines:
            _compare(lines[0], about, path)
        self.done = {one['episode']: one['counts'] for one in lines[1:]}
        path.parent.mkdir(parents=True, exist_ok=True)
        # A kill may have cut the last line: whole lines are written again.
        path.write_text(''.join(map(records.line, [about, *lines[1:]])))

    def _read(self) -> list[dict[str, Any]]:
        lines = []
        for line in self.path.read_bytes().splitlines():
            try:
                lines.append(records.of_line(line))
            except ValueError:
                break
        return lines

    def add(self, episodes: Mapping[int, Sequence]) -> None:
        """Keep the counts of finished episodes, by number."""
        self.done |= episodes
        with self.path.open('a') as file:
            for number, counts in episodes.items():
                file.write(records.line({'episode': number, 'counts': counts}))

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink()


def _compare(earlier, now, path):
    for name, value in now.items():
        if earlier.get(name) != value:
            raise ValueError(
                f'{path} is of an unfinished evaluation with another {name} ({earlier.get(name)}, now {value}). Give '
                'restart=True to forget it, or another name'
            )
