"""The books of an output folder: what made its masks (run.json), and which pictures are finished (done.jsonl).

A line is added to done.jsonl when all files of a picture are written, so that a killed run resumes there.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from simpropnet_jax.inference import outputs
from simpropnet_jax.inference.queries import Query
from simpropnet_jax.runtime import records

ONE_CLASS = 'object'  # its name in COCO's JSON where --support gave none
MADE_BY = {  # entries of run.json on which masks depend, in the words of the error
    'weights': 'another checkpoint',
    'size': 'another --size',
    'fit': 'another --fit',
    'tiles': 'another --tiles',
    'absent_below': 'another --absent_below',
    'supports': 'other supports or classes',
    'threshold': 'another --threshold',
    'self_support': 'another --self_support',
    'write': 'another --write',
    'coco': 'another --polygons or --components',
}


AGAIN = 'Give another --out, or --overwrite to start over'


class Line(TypedDict):
    """A line of done.jsonl."""

    path: str
    name: str
    file_name: str
    stamp: tuple[int, int]
    height: int
    width: int
    annotations: list[dict[str, Any]]


class Finished(NamedTuple):
    """A picture's line of done.jsonl."""

    name: str  # of its output
    stamp: list[int]  # of the picture: bytes and time of the last change, in ns
    start: int  # byte of done.jsonl where the line begins


class Results:
    """An output folder.

    Args:
      out: made by `begin`.
      run: what `run.json` is to say: MADE_BY, and what is good to know.
      overwrite: what a run of other supports and so on left here is removed.
    Raises:
      ValueError: there are results of another run.
    """

    def __init__(self, out: Path, run: Mapping[str, Any], overwrite: bool = False):
        self.out, self.run, self._overwrite = out, dict(run), overwrite
        self._lines = out / 'done.jsonl'
        self._done = dict(self._read())
        if not overwrite:
            self._check()

    def _check(self):
        path = self.out / 'run.json'
        if not path.exists():
            if self._done:
                raise ValueError(
                    f'{path} is missing, which says what made the masks beside it: add --overwrite'
                )
            return
        earlier = {
            'self_support': 0,
            'fit': 'stretch',
            'tiles': 1,
            'absent_below': None,
            'coco': [False, False],
            **records.read(path, dict[str, Any], AGAIN),
        }  # which earlier versions had not
        other = [words for key, words in MADE_BY.items() if earlier.get(key) != self.run[key]]
        if other:
            raise ValueError(
                f'{self.out} has masks made with {" and ".join(dict.fromkeys(other))}: give another --out, or '
                '--overwrite to remove them and make all anew'
            )

    def _read(self) -> Iterator[tuple[str, Finished]]:
        """What is finished, by picture; a line that a kill cut short is not."""
        if not self._lines.exists():
            return
        with self._lines.open('rb') as file:
            start = 0
            for line in file:
                with contextlib.suppress(ValueError):
                    one = records.check(records.of_line(line), Line, self._lines, AGAIN)
                    yield one['path'], Finished(one['name'], one['stamp'], start)
                start += len(line)

    @property
    def names(self) -> dict[Path, str]:
        """Names of output by the picture that has it."""
        return {Path(path): one.name for path, one in self._done.items()}

    def begin(self) -> None:
        """Make the folder and write run.json, after removing results that --overwrite replaces."""
        self.out.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            for one in self._done.values():
                for path in outputs.files_of(self.out, one.name, outputs.ENDINGS).values():
                    if self.out.resolve() in path.resolve().parents:  # done.jsonl may be anybody's
                        path.unlink(missing_ok=True)
            for path in (
                self._lines,
                self.out / 'predictions.json',
                *self.out.glob('sheet_[0-9]*.jpg'),
            ):
                path.unlink(missing_ok=True)
            self._done = {}
        records.write(self.out / 'run.json', self.run)
        with self._lines.open('a+b') as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b'\n':
                    file.write(b'\n')  # else the next line would go on with one that was cut short

    def has(self, query: Query) -> bool:
        """Whether the picture, as it is now, has all its files."""
        one = self._done.get(_key(query))
        try:
            return one is not None and one.stamp == _stamp(query.path) and self._there(one.name)
        except OSError:
            return False

    def _there(self, name):
        return all(
            path.exists() for path in outputs.files_of(self.out, name, self.run['write']).values()
        )

    def add(
        self,
        query: Query,
        name: str,
        size: tuple[int, int],
        annotations: list[dict],
        presence: Mapping[str, float] | None = None,
    ) -> None:
        """Notes that all files of a picture are written.

        Args:
          size: height and width.
          annotations: entries of COCO's JSON but for ids of image and annotation.
          presence: score of each class, if there is one.
        """
        line = {
            'path': _key(query),
            'name': name,
            'file_name': query.place.as_posix(),
            'stamp': _stamp(query.path),
            'height': size[0],
            'width': size[1],
            'annotations': annotations,
        }
        if presence is not None:
            line['presence'] = presence
        with self._lines.open('a') as file:
            start = file.tell()
            file.write(records.line(line))
        self._done[line['path']] = Finished(name, line['stamp'], start)

    def overlays(self) -> list[tuple[str, Path]]:
        """Names and overlays of all finished pictures, by name."""
        names = sorted(one.name for one in self._done.values())
        files = [
            (name, outputs.files_of(self.out, name, ('overlay',))['overlay']) for name in names
        ]
        return [(name, path) for name, path in files if path.exists()]

    def write_coco(self) -> None:
        """Writes predictions.json from done.jsonl, picture by picture, by name."""
        names = [name or ONE_CLASS for name, _ in self.run['supports']]
        categories = [{'id': number, 'name': name} for number, name in enumerate(names, 1)]
        counts = Counter(line['file_name'] for line in self._ordered())
        with (
            outputs.replacing(self.out / 'predictions.json') as unfinished,
            unfinished.open('w') as file,
        ):
            file.write(f'{{"categories": {json.dumps(categories)},\n"images": [')
            _write_list(
                file,
                (
                    {
                        'id': number,
                        # Of two runs in one folder, both may have had a 1.jpg.
                        'file_name': line[
                            'file_name' if counts[line['file_name']] == 1 else 'path'
                        ],
                        'height': line['height'],
                        'width': line['width'],
                    }
                    for number, line in enumerate(self._ordered(), 1)
                ),
            )
            file.write('],\n"annotations": [')
            found = (
                (number, one)
                for number, line in enumerate(self._ordered(), 1)
                for one in line['annotations']
            )
            _write_list(
                file,
                ({'id': i, 'image_id': number, **one} for i, (number, one) in enumerate(found, 1)),
            )
            file.write(']}\n')

    def _ordered(self) -> Iterator[dict]:
        with self._lines.open('rb') as file:
            for one in sorted(self._done.values()):
                file.seek(one.start)
                yield records.of_line(file.readline())


def _write_list(file, entries):
    for number, entry in enumerate(entries):
        file.write((',\n' if number else '\n') + json.dumps(entry))


def _key(query):
    return os.path.abspath(query.path)


def _stamp(path):
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]
