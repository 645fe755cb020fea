"""What all commands share: how words become flags and config fields, --help, the log and how errors end.

A command is a module with a docstring, which is its help text, and two functions: `add_arguments(parser)` and
`main(args)`. Fields of its config are set by --config.FIELD=VALUE; what stands there comes to `main` as `args.config`,
or, where no --config is given, as `args.changes`.
"""

import argparse
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, NoReturn, Protocol, runtime_checkable

from ml_collections import ConfigDict

from simpropnet_jax.config import field_help, recipes
from simpropnet_jax.runtime import errors, paths

# TensorFlow only decodes and writes here: no start-up notes.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')

HELP = ('-h', '--help')
FIELD = re.compile(r'--config\.([^=]+)(?:=(.*))?', re.S)


@runtime_checkable
class Command(Protocol):
    """A module of simpropnet_jax.cli, or a script of benchmarks/.

    With PASSES_ON = True the command gets what was typed as `args.words`, and reads it itself.
    """

    __doc__: str | None

    def add_arguments(self, parser: 'Parser') -> None:
        """Add the command's flags."""

    def main(self, args: argparse.Namespace) -> None:
        """Run the command."""


class Script:
    """A command that is not a module: a benchmark with a `main` that takes more than flags."""

    def __init__(
        self,
        doc: str | None,
        add_arguments: Callable[['Parser'], None],
        main: Callable[[argparse.Namespace], object],
    ):
        self.__doc__ = doc
        self.add_arguments = add_arguments
        self.main = main


class Shown(NamedTuple):
    """The config fields that --help lists.

    Attributes:
      recipe: --help lists its fields if --config is not given.
      only: beginnings of the fields that are listed then.
      default: whether the recipe is used if --config is not given.
    """

    recipe: str
    only: Sequence[str]
    default: bool


class Parser(argparse.ArgumentParser):
    """A command's flags; errors end in one sentence, and --help shows the config's fields too.

    Args:
      doc: the help text.
      prog: what a user types, 'simpropnet train'.
    """

    def __init__(self, doc: str | None, prog: str):
        super().__init__(prog=prog, description=doc, allow_abbrev=False, add_help=False)
        self.takes_fields = False
        self.shown: Shown | None = None

    def error(self, message: str) -> NoReturn:
        """End with a sentence about the words that were typed."""
        missing = re.fullmatch('the following arguments are required: (.*)', message)
        stray = re.fullmatch(r'unrecognized arguments: (\S+).*', message)
        if missing:
            names = missing[1].split(', ')
            message = f'{names[0]} is missing; --help says what it is'
        elif stray:
            message = f'unexpected argument {stray[1]!r}; --help lists all arguments'
        errors.stop(message.replace('\n', ' '))

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Return the flags; with a config's fields among them, see `add_config`."""
        rest, changes = _split(words)
        if changes and not self.takes_fields:
            self.error(f'{self.prog} has no config, so --config.{changes[0][0]} cannot be set')
        args = self.parse_args(rest)
        args.changes = changes
        if self.shown:
            args.config = _configured(args.config, self.shown, changes)
        return args

    def help_text(self, words: Sequence[str] = ()) -> str:
        """Return what --help prints: usage, help text, flags, and the fields of the config that is given or usual."""
        optional = [action for action in self._actions if action.option_strings]
        positional = [action for action in self._actions if not action.option_strings]
        parts = [self._usage(), (self.description or '').strip('\n') + '\n']
        if positional:
            parts += ['Arguments:', field_help.columns(map(_row, positional))]
        rows = [*map(_row, optional), ('--help', 'this text')]
        parts += ['Flags:', field_help.columns(rows)]
        if self.shown:
            parts += _field_help(self.shown, _given_config(words))
        return '\n'.join(parts)

    def _usage(self) -> str:
        words, optional = [self.prog], False
        for action in self._actions:
            if not action.option_strings:
                words.append(_value(action))
            elif action.required:
                words.append(f'{action.option_strings[0]} {_value(action)}')
            else:
                optional = True
        words += ['[--config.FIELD=VALUE ...]'] * self.takes_fields
        words += ['[FLAGS]'] * optional
        text = 'usage: ' + ' '.join(word.replace(' ', '\0') for word in words)
        lines = textwrap.wrap(text, field_help.width(), subsequent_indent=' ' * 7)
        return '\n'.join(lines).replace('\0', ' ') + '\n'


def add_config(
    parser: Parser,
    *,
    required: bool = False,
    default: str | None = None,
    shown: str = 'simpropnet',
    only: Sequence[str] = ('',),
    help: str = '',
) -> None:
    """Add --config RECIPE[:WORDS] and --config.FIELD=VALUE.

    `args.config` then is the ConfigDict with all changes, or None where --config is not given and has no default.
    `args.changes` has the changes as (field, text).

    Args:
      required: whether --config must be given.
      default: the recipe if --config is not given.
      shown: --help lists its fields if no recipe is given and there is no default.
      only: beginnings of the fields that --help lists then.
      help: what the recipe is for, if not obvious.
    """
    words = 'recipe and, after a colon, its words: simpropnet:fold=2,cpu, or the path of your own .py file'
    parser.add_argument(
        '--config',
        type=_recipe,
        required=required,
        metavar='RECIPE[:WORDS]',
        help='; '.join(filter(None, [words, help])) + (f' (default: {default})' if default else ''),
    )
    parser.takes_fields = True
    parser.shown = Shown(default or shown, only, bool(default))


def add_fields(parser: Parser) -> None:
    """Accept --config.FIELD=VALUE without a --config; `args.changes` has them as (field, text)."""
    parser.takes_fields = True


def comma_separated(text: str) -> list[str]:
    """Return words that stand with commas between; for argparse."""
    return [word for word in text.split(',') if word]


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number that must not be lower; for argparse."""

    def read(text: str) -> int:
        if not text.lstrip('-').isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f'must be a whole number, {least} or more, got {text}')
        return int(text)

    return read


def change(config: ConfigDict, changes: Iterable[tuple[str, str | None]]) -> ConfigDict:
    """Set fields of a config, which is changed, from text, and return it.

    Args:
      changes: (field, text); None as text stands for True.
    Raises:
      ValueError: there is no such field, or the text is not a value of it.
    """
    from simpropnet_jax.config import rules

    for name, text in changes:
        text = 'True' if text is None else text
        if text.lower() in ('true', 'false') and not _is_text(config, name):
            text = text.capitalize()
        rules.change(config, name, text)
    return config


def parse(command: Command, words: Sequence[str], prog: str = 'simpropnet') -> argparse.Namespace:
    """Return the flags of a command.

    Raises:
      SystemExit: a word cannot be understood; a sentence is printed then.
    """
    return _parser(command, prog).parse(words)


def run(command: Command, words: Sequence[str] | None = None, prog: str = 'simpropnet') -> None:
    """Run a command, or print its help; see `guarded`.

    Args:
      words: what was typed after the command's name; None: the program's own.
      prog: the command's name.
    """
    words = sys.argv[1:] if words is None else list(words)
    parser = _parser(command, prog)
    passes_on = getattr(command, 'PASSES_ON', False)
    if set(HELP) & set(words[:1] if passes_on else words):
        print_help(lambda: parser.help_text(words))
    if passes_on:
        guarded(lambda: command.main(argparse.Namespace(words=words)))
        return
    args = parser.parse(words)
    guarded(lambda: command.main(args), args.verbose)


def print_help(text: Callable[[], str]) -> NoReturn:
    """Print a help text and end the program; `--help | head` ends quietly."""
    with errors.plain_errors():
        try:
            print(text().rstrip('\n'), flush=True)
        except BrokenPipeError:
            # Python flushes stdout once more as it ends. SIGPIPE's default would end this process at any
            # broken connection, without a word.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit()


def guarded(main: Callable[[], None], verbose: bool = False) -> None:
    """Call a function with log and compilation cache; an error that a user can fix ends in one sentence.

    Args:
      verbose: show the traceback of an error too.
    """
    from simpropnet_jax.runtime import hosts

    show_log(verbose)
    _keep_compiled()
    with hosts.ending_together(), errors.plain_errors():
        main()


def show_log(verbose: bool = False) -> None:
    """Show the package's own messages with the time, and only the warnings of other libraries."""
    logging.getLogger('absl').setLevel(logging.DEBUG if verbose else logging.WARNING)
    package = logging.getLogger('simpropnet_jax')
    package.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not package.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter('%(asctime)s  %(message)s', '%H:%M:%S'))
        package.addHandler(handler)
    package.propagate = False


def _keep_compiled() -> None:
    """Keep compiled code on disk, in JAX's own cache folder if one is set."""
    import jax

    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        jax.config.update('jax_compilation_cache_dir', str(paths.cache() / 'compiled'))
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
        # Many programs take less than JAX's default of one second.
        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)


def _parser(command: Command, prog: str) -> Parser:
    parser = Parser(command.__doc__, prog)
    command.add_arguments(parser)
    parser.add_argument('--verbose', action='store_true', help='show the traceback of an error')
    return parser


def _split(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Flags with underscores, and the config fields that are set."""
    rest, changes = [], []
    for word in words:
        field = FIELD.fullmatch(word)
        if field:
            changes.append((field[1], field[2]))
        elif word.startswith('--'):
            name, equals, value = word.partition('=')
            rest.append('--' + name[2:].replace('-', '_') + equals + value)
        else:
            rest.append(word)
    return rest, changes


def _recipe(argument: str) -> recipes.Recipe:
    try:
        return recipes.load(argument)
    except (ValueError, OSError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _configured(
    recipe: recipes.Recipe | None, shown: Shown, changes: Sequence[tuple[str, str | None]]
) -> ConfigDict | None:
    try:
        if recipe is None and not shown.default:
            return None
        config = (recipe or recipes.load(shown.recipe)).config
        return change(config, changes) if changes else config
    except (ValueError, TypeError, OSError) as error:
        errors.stop(str(error).replace('\n', ' '))


def _is_text(config: ConfigDict, name: str) -> bool:
    for part in name.split('.'):
        config = config.get(part) if isinstance(config, ConfigDict) else None
    return isinstance(config, str)


def _given_config(words: Sequence[str]) -> str | None:
    found = re.search(r'(?:^|\0)--config[=\0]([^\0]+)', '\0'.join(words))
    return found and found[1]


def _field_help(shown: Shown, given: str | None) -> list[str]:
    argument, only = (given, ('',)) if given else (shown.recipe, shown.only)
    which = '' if only == ('',) else ' that may differ from the training'
    return [
        'Recipes:',
        field_help.summaries(),
        f'Fields of {argument}{which}, each a flag: --config.eval.batch=4',
        field_help.describe(argument, only),
        'With another --config, --help lists the fields of that recipe.\n',
    ]


def _row(action: argparse.Action) -> tuple[str, str]:
    """A flag with its value, and its explanation."""
    flag = action.option_strings[0] if action.option_strings else ''
    text = action.help or ''
    if action.option_strings and action.required:
        text += ' (required)'
    elif action.default not in (None, False, '', [], ()) and 'default' not in text:
        text += f' (default: {action.default})'
    return f'{flag} {_value(action)}'.strip(), text.replace('%(default)s', str(action.default))


def _value(action: argparse.Action) -> str:
    """What stands after a flag."""
    if action.nargs == 0:
        return ''
    choices = '{' + ','.join(map(str, action.choices)) + '}' if action.choices else None
    name = action.metavar or choices or action.dest.upper()
    if ' ' in name or action.nargs not in ('+', '*'):
        return name
    return f'{name} [{name} ...]' if action.nargs == '+' else f'[{name} ...]'
