"""Flags that name trained weights, the same ones in every command: --checkpoint RUN[@WHICH] and --workdir."""

import argparse
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.config import command_line
from simpropnet_jax.published import header, locate, table
from simpropnet_jax.runtime import paths

WHICH = locate.WHICH
CHECKPOINT = 'RUN[@WHICH]'
HELP = (
    'run folder of `simpropnet train`, or its gs:// URL; @best (the default), @latest or @STEP choose its weights. Or '
    f'a published model: its folder or file, its name ({", ".join(table.MODELS)}), hf://owner/name@revision, or '
    'https://HOST/FILE#sha256=HASH'
)
BUNDLED = f'{HELP} (default: {table.DEFAULT}, which comes with the package)'
RESULTS = 'runs'  # the folder of the results of published models
# Beginnings of the fields that may differ from those of the training: what --help of eval and others lists.
MAY_DIFFER = (
    'data.dir',
    'data.loader',
    'data.workers',
    'data.resident',
    'data.decoded',
    'model.dtype',
    'model.weights',
    'eval.',
)


class _Strict(argparse.Action):
    """Set the environment variable of `runtime.checkpoint.STRICT`, which all that is called inherits."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Set it, and the flag."""
        os.environ['SIMPROPNET_STRICT'] = '1'
        setattr(namespace, self.dest, True)


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights as they were typed: `folder, which = checkpoint`.

    Attributes:
      name: run folder, published model, or address; None: the bundled model.
      which: 'best', 'latest' or a step.
    """

    name: str | None
    which: str = 'best'

    @functools.cached_property
    def folder(self) -> paths.AnyPath:
        """The run folder, or the folder or file of a published model; see `locate.find`, which may download it."""
        return locate.find(self.name)

    def __iter__(self) -> Iterator:
        yield self.folder
        yield self.which


def checkpoint(text: str) -> Checkpoint:
    """Return what RUN, RUN@best, RUN@latest or RUN@STEP names; for argparse.

    Raises:
      argparse.ArgumentTypeError: another word stands after the @.
    """
    try:
        name, which = locate.split(text)
        if not locate.is_address(name):
            paths.parse(name)
        return Checkpoint(name, which)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_strict(parser: command_line.Parser) -> None:
    parser.add_argument(
        '--strict',
        action=_Strict,
        nargs=0,
        default=False,
        help='refuse a damaged checkpoint, instead of a warning and the next one',
    )


def folder(text: str) -> paths.AnyPath:
    """Return the path or URL that was given; for argparse.

    Raises:
      argparse.ArgumentTypeError: it is a URL that cannot be read.
    """
    try:
        return paths.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_checkpoint(parser: command_line.Parser, required: bool = False) -> None:
    """Add --checkpoint RUN[@WHICH]; if it is not required, the bundled model is the default."""
    parser.add_argument(
        '--checkpoint',
        type=checkpoint,
        required=required,
        default=None if required else Checkpoint(None),
        metavar=CHECKPOINT,
        help=HELP if required else BUNDLED,
    )
    _add_strict(parser)


def add_checkpoints(parser: command_line.Parser, required: bool, help: str = HELP) -> None:
    """Add --checkpoint RUN[@WHICH] [RUN[@WHICH] ...]; see `of_one_kind`."""
    parser.add_argument(
        '--checkpoint',
        type=checkpoint,
        required=required,
        nargs='+',
        action='extend',
        metavar=CHECKPOINT,
        help=help,
    )
    _add_strict(parser)


def of_one_kind(checkpoints: Sequence[Checkpoint]) -> tuple[list[paths.AnyPath], str]:
    """Return the folders of several checkpoints, and the word after the @ of all of them.

    Raises:
      ValueError: the words differ.
    """
    words = {one.which for one in checkpoints}
    if len(words) > 1:
        raise ValueError(
            f'the checkpoints are of several kinds ({", ".join(sorted(words))}): write the same word after each @'
        )
    return [one.folder for one in checkpoints], words.pop()


def add_run(parser: command_line.Parser, results: str) -> None:
    """Add --checkpoint and --workdir; see `given_run`.

    Args:
      results: what goes into the folder.
    """
    parser.add_argument('--checkpoint', type=checkpoint, metavar=CHECKPOINT, help=BUNDLED)
    _add_strict(parser)
    parser.add_argument(
        '--workdir',
        type=folder,
        metavar='DIR',
        help=f'run folder; {results}. The same as --checkpoint DIR@best. Give one of the two; with a published model, '
        f'it names another folder for the results (default: {RESULTS}/NAME)',
    )


def given_run(args: argparse.Namespace) -> Checkpoint:
    """Return the run that --checkpoint and --workdir name; the bundled model if neither is given.

    A published model is copied to a folder of its own, because results go there.

    Raises:
      ValueError: they name different folders, or --config or --predictions needs a folder.
    """
    if args.checkpoint is None and args.workdir is None:
        if args.config is not None or getattr(args, 'predictions', None):
            raise ValueError('give --workdir DIR or --checkpoint RUN; --help says what they are')
        return with_results(Checkpoint(None))
    if args.checkpoint is None:
        return Checkpoint(os.fspath(args.workdir))
    if header.of(args.checkpoint.folder):
        return with_results(args.checkpoint, args.workdir)
    if args.workdir is not None and not _same(args.workdir, args.checkpoint.folder):
        hint = ''
        if str(args.checkpoint.folder) in WHICH or str(args.checkpoint.folder).isdecimal():
            hint = f': write --checkpoint {args.workdir}@{args.checkpoint.folder}'
        raise ValueError(
            f'--checkpoint {args.checkpoint.folder} and --workdir {args.workdir} name different folders{hint}'
        )
    return args.checkpoint


def with_results(given: Checkpoint, workdir: paths.AnyPath | None = None) -> Checkpoint:
    """Return a folder that results can go to: of a published model a copy, made once; a run folder itself.

    Args:
      workdir: folder of the copy; None: one of the model's name.
    Raises:
      ValueError: the folder has other weights.
    """
    file = header.of(given.folder)
    if file is None:
        return given
    to = workdir or Path(RESULTS) / header.read_about(file)['name']
    if paths.is_url(to):
        raise ValueError(
            f'--workdir must be a folder on this machine for a published model, got {to}'
        )
    header.copy(file, to)
    return Checkpoint(os.fspath(to), given.which)


def given_config(args: argparse.Namespace, run: paths.AnyPath) -> ConfigDict | None:
    """Return the config that a command on a run takes: --config, or the stored one with --config.FIELD=VALUE.

    Returns:
      None where neither is given: the run's own.
    Raises:
      ValueError: the run has no config, or a field or value is wrong.
    """
    if args.config is not None or not args.changes:
        return args.config
    return command_line.change(stored(run), args.changes)


def stored(run: paths.AnyPath) -> ConfigDict:
    """Return the config that a run folder keeps.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    from simpropnet_jax.config.rules import stored_config

    return stored_config(run)


def _same(one: paths.AnyPath, other: paths.AnyPath) -> bool:
    if paths.is_url(one) or paths.is_url(other):
        return os.fspath(one).rstrip('/') == os.fspath(other).rstrip('/')
    return one.resolve() == other.resolve()
