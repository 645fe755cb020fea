"""What the commands with a config share: its flags and their help."""

import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from simpropnet_jax.config import field_help
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import hosts
from simpropnet_jax.runtime.errors import plain_errors, stop

logger = logging.getLogger(__name__)


class _Config(NamedTuple):
    """What a command says of its flag --config."""

    default: str | None = None  # taken when it is not given
    shown: str = ''  # the file whose fields --help lists when it is not given
    only: Sequence[str] = ('',)  # beginnings of the fields that --help lists then


_config = _Config()


def define_config(
    required: bool,
    default: str | None = None,
    shown: str = 'configs/simpropnet.py',
    only: Sequence[str] = ('',),
) -> flags.FlagHolder:
    """The flag --config FILE.py[:arguments]; its fields are flags too: --config.train.batch=4.

    Args:
      default: the file when none is given.
      shown: the file whose fields --help lists when none is given and there is no default.
      only: beginnings of the fields that --help lists then.
    """
    global _config
    _config = _Config(default, default or shown, only)
    holder = config_flags.DEFINE_config_file(
        'config',
        None,
        'config file and, after a colon, its arguments: configs/simpropnet.py:fold=2,cpu'
        + (f' (default: {default})' if default else ''),
    )
    if required:
        flags.mark_flag_as_required('config')
    return holder


# TensorFlow only decodes and writes here: no start-up notes.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls main, with `plain_errors`; with --verbosity=1 the traceback is shown too."""

    def guarded(argv):
        if len(argv) > 1:
            stop(f'unexpected argument {argv[1]!r}; all arguments are flags, --help lists them')
        show_log()
        _keep_compiled()
        with hosts.ending_together(), plain_errors():
            main()

    app.run(guarded, flags_parser=_parse)


def show_log() -> None:
    """Shows the package's own messages, with the time; other libraries' only where they warn."""
    if not flags.FLAGS['verbosity'].present:
        absl_logging.set_verbosity(absl_logging.WARNING)
    package = logging.getLogger('simpropnet_jax')
    package.setLevel(logging.DEBUG if flags.FLAGS.verbosity > 0 else logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(asctime)s  %(message)s', '%H:%M:%S'))
    package.addHandler(handler)
    package.propagate = False


def _keep_compiled() -> None:
    """What takes long to compile is kept on disk for later runs, in JAX's folder for it where one is named."""
    import jax

    if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
        folder = (
            Path(os.environ.get('SIMPROPNET_CACHE') or '~/.cache/simpropnet_jax').expanduser()
            / 'compiled'
        )
        jax.config.update('jax_compilation_cache_dir', str(folder))
    if 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS' not in os.environ:
        jax.config.update(
            'jax_persistent_cache_min_compile_time_secs', 0.3
        )  # many take less than JAX's second


def _parse(argv: list[str]) -> list[str]:
    try:
        if {'-h', '--help', '-help', '-?', '--helpshort'} & set(argv[1:]):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `--help | head` ends quietly
            print(_help(argv))
            sys.exit()
        if _config.default and _given_config(argv) is None:
            argv.insert(
                1, f'--config={_config.default}'
            )  # a default of ml_collections answers mistakes by tracebacks
        _check_config(argv)
        return flags.FLAGS(argv)
    except flags.Error as error:
        missing = re.search(r'flag --(\w+)=None', str(error))
        stop(
            f'--{missing[1]} is missing; --help says what it is'
            if missing
            else str(error).replace('\n', ' ')
        )
    except (ValueError, TypeError, OSError) as error:
        stop(str(error).replace('\n', ' '))


def _help(argv: list[str]) -> str:
    """What the command is for, its own flags, and the fields of the config that is given or usual."""
    rows = []
    for flag in [flags.FLAGS['config'], *flags.FLAGS.get_flags_for_module(argv[0])]:
        required = (
            ' (required)' if flag.validators else ''
        )  # that it must be given is all that validators check here
        default = f' (default: {flag.default})' if flag.default else ''
        rows.append((f'--{flag.name}', flag.help + required + default))
    rows.append(('--verbosity=1', 'the traceback of an error, too'))
    rows.append(('--helpfull', 'the flags of the libraries, too'))
    given = _given_config(argv)
    argument, only = (given, ('',)) if given else (_config.shown, _config.only)
    which = '' if only == ('',) else ' that need not be as in the training'
    return '\n'.join(
        [
            sys.modules['__main__'].__doc__,
            'Flags:',
            field_help.columns(rows),
            'Config files:',
            field_help.summaries(Path(_config.shown).parent),
            f'Fields of {argument}{which}, each a flag: --config.eval.batch=4',
            field_help.describe(argument, only),
            'With another --config, --help lists the fields of that.',
        ]
    )


def _given_config(argv: list[str]) -> str | None:
    given = re.search(r'(?:^| )--?config[= ](\S+)', ' '.join(argv[1:]))
    return given and given[1]


def _check_config(argv: list[str]) -> None:
    """Loads the config once more than ml_collections will, which reports mistakes in it by a traceback.

    Raises:
      ValueError: a file that is not there, arguments that it does not take, or a field that it does not have.
    """
    given = _given_config(argv)
    known = dict(config_rules.fields(field_help.load(given)[1])) if given else {}
    for argument in argv[1:]:
        name = re.match(r'--?(?:no)?config\.([^=]+)', argument)
        if name and not given:
            raise ValueError(
                f'--config.{name[1]} needs --config too: the config file that has the field'
            )
        if name and name[1] not in known:
            raise ValueError(config_rules.unknown_field(name[1], known))
