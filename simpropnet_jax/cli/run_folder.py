"""Flags that name a trained run, the same ones in every command: --checkpoint RUN[@WHICH] and --workdir."""

import argparse
import os
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import paths

WHICH = ('best', 'latest')
CHECKPOINT = 'RUN[@WHICH]'
HELP = 'run folder of `simpropnet train`, or its gs:// URL; @best (the default), @latest or @STEP choose its weights'
# Beginnings of the fields that may differ from those of the training: what --help of eval and others lists.
MAY_DIFFER = (
    'data.dir',
    'data.loader',
    'data.workers',
    'data.resident',
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


class Checkpoint(NamedTuple):
    """A trained run and which of its weights.

    Attributes:
      folder: of the run.
      which: 'best', 'latest' or a step.
    """

    folder: paths.AnyPath
    which: str = 'best'


def checkpoint(text: str) -> Checkpoint:
    """Return what RUN, RUN@best, RUN@latest or RUN@STEP names; for argparse.

    Raises:
      argparse.ArgumentTypeError: another word stands after the @.
    """
    try:
        folder, at, which = text.rpartition('@')
        if at and (which in WHICH or which.isdecimal()):
            return Checkpoint(paths.parse(folder), which)
        whole = paths.parse(text)
        if at and not whole.exists() and '/' not in which:
            raise ValueError(f'after {folder}@ must come best, latest or a step, got {which!r}')
        return Checkpoint(whole)
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


def add_checkpoint(parser: command_line.Parser, help: str = HELP) -> None:
    """Add --checkpoint RUN[@WHICH]."""
    parser.add_argument(
        '--checkpoint', type=checkpoint, required=True, metavar=CHECKPOINT, help=help
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
    """Add --checkpoint and --workdir, of which one is needed; see `given_run`.

    Args:
      results: what goes into the folder.
    """
    parser.add_argument('--checkpoint', type=checkpoint, metavar=CHECKPOINT, help=HELP)
    _add_strict(parser)
    parser.add_argument(
        '--workdir',
        type=folder,
        metavar='DIR',
        help=f'run folder; {results}. The same as --checkpoint DIR@best. Give one of the two',
    )


def given_run(args: argparse.Namespace) -> Checkpoint:
    """Return the run that --checkpoint and --workdir name.

    Raises:
      ValueError: neither is given, or they name different folders.
    """
    if args.checkpoint is None and args.workdir is None:
        raise ValueError('give --workdir DIR or --checkpoint RUN; --help says what they are')
    if args.checkpoint is None:
        return Checkpoint(args.workdir)
    if args.workdir is not None and not _same(args.workdir, args.checkpoint.folder):
        hint = ''
        if str(args.checkpoint.folder) in WHICH or str(args.checkpoint.folder).isdecimal():
            hint = f': write --checkpoint {args.workdir}@{args.checkpoint.folder}'
        raise ValueError(
            f'--checkpoint {args.checkpoint.folder} and --workdir {args.workdir} name different folders{hint}'
        )
    return args.checkpoint


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
