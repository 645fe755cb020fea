"""Damage files of every kind that the product reads, and see what each command makes of them.

    simpropnet bench fuzz                                      (600 files, minutes on one core)
    simpropnet bench fuzz --files 60 --only results,weights
    simpropnet bench fuzz --files 0 --kills 100                (kills commands at random moments, see fuzz_kills)

Each file is cut off, emptied, removed, replaced or grown, its bits are flipped, and entries of JSON get another type.
What the reader does is one of:

    refused         a sentence that names the file, or its folder
    same            the same result as from the whole file
    said            another result, and a warning says what was left out
    valid           another result of a format that has no checksum (a JPEG, the user's JSON): a flipped bit makes a
                    valid file with another content, which no program can tell; or of a folder that is whole without
                    the file
    unclear         a sentence that does not name the file
    TRACEBACK       any other exception, or a traceback on the screen
    CRASH           the process ends, or takes more than a minute
    SILENT          another result without a word

The last four must be 0: then the exit status is 0, else 1. Ctrl+C prints the table so far. Readers run in one process,
which is started again where it ends. --seed draws other damages; every case is printed that is not as it must be, with
its seed.
"""

import collections
import contextlib
import logging
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks import fuzz_commands, fuzz_damage, fuzz_kills, fuzz_kinds
from simpropnet_jax.config import command_line

GOOD = ('refused', 'same', 'said', 'valid')
BAD = ('unclear', 'TRACEBACK', 'CRASH', 'SILENT')
ABSENT = ('missing', 'replaced', 'folder')  # damages that leave no file of the kind
PATIENCE = 60  # seconds
LONGEST = 700  # characters of a sentence
TRACEBACK = 'Traceback (most recent call last)'


class Case(NamedTuple):
    """A damaged file.

    Attributes:
      kind: name of the kind.
      file: the file, below the samples.
      way: name of the damage.
      seed: of the damage.
    """

    kind: str
    file: Path
    way: str
    seed: str


class Told(NamedTuple):
    """What a reader did: what it was, its result, and its words."""

    outcome: str
    result: object
    words: str


def main(
    files: int, only: Sequence[str] = (), seed: int = 0, kills: int = 0, keep: Path | None = None
) -> dict[str, collections.Counter]:
    """Damage files and print the table.

    Args:
      files: how many files to damage.
      only: names of kinds; (): all that the installed libraries allow.
      seed: of the damages.
      kills: how many commands to kill.
      keep: folder for the samples; None: a temporary one.
    Returns:
      Outcomes by kind.
    Raises:
      ValueError: there is no such kind.
    """
    unknown = sorted(set(only) - set(fuzz_kinds.KINDS) - set(fuzz_commands.COMMANDS))
    if unknown:
        names = ', '.join([*fuzz_kinds.KINDS, *fuzz_commands.COMMANDS])
        raise ValueError(f'there is no kind {unknown[0]!r}; there are {names}')
    counts: dict[str, collections.Counter] = {}
    try:
        with tempfile.TemporaryDirectory(prefix='fuzz_') as folder:
            root = keep or Path(folder)
            if files:
                kinds = [name for name in fuzz_kinds.KINDS if name in (only or fuzz_kinds.KINDS)]
                damage_files(root / 'samples', kinds, files, seed, counts)
            if kills:
                commands = [
                    one for one in fuzz_commands.COMMANDS if one in (only or fuzz_commands.COMMANDS)
                ]
                fuzz_kills.kill_commands(root / 'kills', commands, kills, seed, counts)
    finally:  # Ctrl+C ends a long table early
        print(table(counts), end='', flush=True)
    return counts


def damage_files(
    root: Path, kinds: Sequence[str], files: int, seed: int, counts: dict[str, collections.Counter]
) -> None:
    """Make samples of some kinds, damage their files one after the other, and count the outcomes."""
    with Worker(root, kinds) as worker:
        counts |= {name: collections.Counter() for name in worker.files}
        for case in cases(root, worker.files, files, seed):
            told = judged(case, root, worker)
            counts[case.kind][told.outcome] += 1
            if told.outcome in BAD:
                print(f'{told.outcome}: {case.kind}, {case.file}, {case.way}, seed {case.seed}')
                print('    ' + told.words[-1500:].strip().replace('\n', '\n    '), flush=True)


def cases(root: Path, files: dict[str, list[Path]], count: int, seed: int) -> list[Case]:
    """Return so many cases, as evenly over kinds, files and ways as possible."""
    by_kind = []
    for kind, paths in files.items():
        of_files = []
        for path in paths:
            data = (root / path).read_bytes()
            ways = fuzz_damage.ways(data, path.suffix in ('.json', '.jsonl'), count)
            named = enumerate(way.__name__ for way in ways)
            of_files.append([Case(kind, path, way, f'{seed}.{i}') for i, way in named])
        by_kind.append([case for turn in zip(*of_files, strict=True) for case in turn])
    return [case for turn in zip(*by_kind, strict=False) for case in turn][:count]


def judged(case: Case, root: Path, worker: 'Worker | Reader') -> Told:
    """Damage a file, let it be read, and put it back."""
    path = root / case.file
    draw = random.Random(f'{case.seed} {case.file} {case.way}')
    data = path.read_bytes()
    others = [(root / other).read_bytes() for other in worker.every if other != case.file]
    damaged = getattr(fuzz_damage, case.way)(data, draw, others)
    path.unlink()  # a process that has mapped the whole file keeps it
    if damaged is fuzz_damage.FOLDER:
        path.mkdir()
    elif damaged is not fuzz_damage.MISSING:
        path.write_bytes(damaged)
    try:
        told = worker.read(case.kind, case.file)
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.write_bytes(data)
    kind = fuzz_kinds.KINDS[case.kind]
    if told.outcome == 'SILENT' and kind.optional and case.way in ABSENT:
        return told._replace(outcome='valid')
    if told.outcome == 'SILENT' and case.file.suffix in kind.without_checksum:
        lost = case.way in ('cut', 'cut_end', 'empty', 'missing', 'folder')
        return told if lost else told._replace(outcome='valid')
    return told


class Worker:
    """A process that makes samples, and reads them whenever it is asked; it is started again where it ends.

    Args:
      root: folder of the samples.
      kinds: names of the kinds.
    """

    def __init__(self, root: Path, kinds: Sequence[str]):
        self._root, self._kinds = root, kinds
        self._start()
        self.every = [path for paths in self.files.values() for path in paths]

    def __enter__(self) -> 'Worker':
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join()

    def _start(self) -> None:
        context = multiprocessing.get_context('spawn')
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, self._root, self._kinds)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.files = self._pipe.recv()
        except BaseException:  # Ctrl+C: it would go on writing samples
            self._process.kill()
            self._process.join()
            raise
        self._ended = False

    def read(self, kind: str, file: Path) -> Told:
        """Let it read a kind, of which one file is damaged."""
        if self._ended:
            self._start()
        try:
            self._pipe.send((kind, file))
            if self._pipe.poll(PATIENCE):
                return self._pipe.recv()
            words = f'more than {PATIENCE} seconds'
        except (EOFError, ConnectionError):
            self._process.join()
            words = f'the process ended with {self._process.exitcode}'
        self._process.kill()
        self._process.join()
        self._ended = True  # it is started again once the file is as it was
        return Told('CRASH', None, words)


class Reader:
    """Makes samples, and reads them in this process.

    Args:
      root: folder of the samples.
      kinds: names of the kinds.
    """

    def __init__(self, root: Path, kinds: Sequence[str]):
        self._root, self._whole, self._warnings = root, {}, _Warnings()
        self.files: dict[str, list[Path]] = {}
        for name in kinds:
            kind, folder = fuzz_kinds.KINDS[name], root / name
            if kind.available():
                made = kind.files(folder) if folder.exists() else kind.make(folder)
                self.files[name] = [path.relative_to(root) for path in made]
                self._whole[name] = kind.read(folder)
        self.every = [path for paths in self.files.values() for path in paths]

    def read(self, kind: str, file: Path) -> Told:
        """Read a kind, of which one file is damaged."""
        package = logging.getLogger('simpropnet_jax')
        self._warnings.said.clear()
        package.addHandler(self._warnings)
        try:
            return _outcome(
                fuzz_kinds.KINDS[kind],
                self._root / kind,
                self._root / file,
                self._whole[kind],
                self._warnings.said,
            )
        finally:
            package.removeHandler(self._warnings)


def _serve(pipe, root: Path, kinds: Sequence[str]) -> None:
    """Make samples, then read what is asked for; runs in a process of its own."""
    command_line.show_log()
    screen = tempfile.TemporaryFile()
    os.dup2(screen.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    reader = Reader(root, kinds)
    pipe.send(reader.files)
    while (asked := pipe.recv()) is not None:
        start = screen.seek(0, os.SEEK_END)
        told = reader.read(*asked)
        screen.seek(start)
        shown = screen.read().decode(errors='replace')
        if TRACEBACK in shown:
            told = Told('TRACEBACK', None, shown)
        pipe.send(told)


class _Warnings(logging.Handler):
    """Keeps what the package warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _outcome(kind, folder: Path, file: Path, whole, warnings: list[str]) -> Told:
    try:
        result = kind.read(folder)
    except (ValueError, OSError, ImportError) as error:  # those that end a command in a sentence
        named = isinstance(error, OSError) and error.strerror
        sentence = f'{error.filename or "a file"}: {error.strerror}' if named else str(error)
        clear = any(name in sentence for name in (file.name, file.parent.name, file.stem))
        if not clear or '\n' in sentence or len(sentence) > LONGEST:
            return Told('unclear', None, f'{type(error).__name__}: {sentence}')
        return Told('refused', None, sentence)
    except BaseException:
        return Told('TRACEBACK', None, traceback.format_exc())
    if kind.same(result, whole):
        return Told('same', None, '')
    said = [words for words in warnings if file.name in words or file.parent.name in words]
    checkpoint = [words for words in warnings if re.search('checkpoint .* damaged', words)]
    if said or checkpoint:
        return Told('said', None, ' '.join(warnings))
    return Told('SILENT', None, ' '.join(warnings) or 'no word')


def table(counts: dict[str, collections.Counter]) -> str:
    """Return a Markdown table: a row for each kind, a column for each outcome."""
    total = sum(counts.values(), collections.Counter())
    rows = [*counts.items(), ('all', total)]
    lines = [
        f'| kind | files | {" | ".join((*GOOD, *BAD))} |',
        '|---' * (2 + len(GOOD + BAD)) + '|',
    ]
    for name, found in rows:
        cells = [str(found[outcome]) for outcome in (*GOOD, *BAD)]
        lines.append(f'| {name} | {sum(found.values())} | {" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def add_arguments(parser: command_line.Parser) -> None:
    parser.add_argument(
        '--files', type=command_line.at_least(0), default=600, help='files to damage'
    )
    parser.add_argument(
        '--kills', type=command_line.at_least(0), default=0, help='commands to kill'
    )
    parser.add_argument(
        '--only',
        type=command_line.comma_separated,
        default=[],
        metavar='KINDS',
        help=f'of {", ".join([*fuzz_kinds.KINDS, *fuzz_commands.COMMANDS])}',
    )
    parser.add_argument(
        '--seed', type=command_line.at_least(0), default=0, help='draws other damages'
    )
    parser.add_argument('--keep', type=Path, metavar='DIR', help='folder for the samples')


def run(args) -> None:
    start = time.monotonic()
    try:
        counts = main(args.files, args.only, args.seed, args.kills, args.keep)
    except KeyboardInterrupt:
        sys.exit('interrupted: the table is not complete')
    print(f'{time.monotonic() - start:.0f} seconds')
    if any(found[outcome] for found in counts.values() for outcome in BAD):
        sys.exit(1)


if __name__ == '__main__':
    command_line.run(command_line.Script(__doc__, add_arguments, run), prog='simpropnet bench fuzz')
