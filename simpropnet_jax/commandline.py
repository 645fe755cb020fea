"""What the commands share: flags, and errors in one plain sentence."""

import logging
import os
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from simpropnet_jax import config as config_rules

logger = logging.getLogger(__name__)


def define_config(required: bool, default: str | None = None) -> flags.FlagHolder:
    """The flag --config FILE.py[:arguments]; its fields are flags too: --config.train.batch=4."""
    holder = config_flags.DEFINE_config_file(
        'config', default, 'config file and, after a colon, its arguments: configs/simpropnet.py:fold=2,cpu'
    )
    if required:
        flags.mark_flag_as_required('config')
    return holder


os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # TensorFlow only decodes and writes here: no start-up notes


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls main; a mistake of the user ends in one sentence and exit status 2.

    With --verbosity=1 the traceback is shown too.
    """

    def guarded(argv):
        if len(argv) > 1:
            _stop(f'unexpected argument {argv[1]!r}; all arguments are flags, --help lists them')
        show_log()
        try:
            main()
        except (ValueError, OSError, ImportError) as error:
            logger.debug('where it went wrong:', exc_info=True)
            _stop(str(error) if not isinstance(error, OSError) or not error.strerror else
                  f'{error.filename or "a file"}: {error.strerror}')  # fmt: skip

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


def _parse(argv: list[str]) -> list[str]:
    try:
        _check_config(argv)
        return flags.FLAGS(argv)
    except flags.Error as error:
        missing = re.search(r'flag --(\w+)=None', str(error))
        _stop(f'--{missing[1]} is missing; --help says what it is' if missing else str(error).replace('\n', ' '))
    except (ValueError, TypeError, OSError) as error:
        _stop(str(error).replace('\n', ' '))


def _check_config(argv: list[str]) -> None:
    """Loads the config once more than ml_collections will, which reports mistakes in it by a traceback.

    Raises:
      ValueError: a file that is not there, arguments that it does not take, or a field that it does not have.
    """
    given = re.search(r'(?:^| )--?config[= ](\S+)', ' '.join(argv[1:]))
    if given is None:
        return
    path, _, arguments = given[1].partition(':')
    if not Path(path).is_file():
        raise ValueError(f'--config: there is no file {path}; the configs are in configs/')
    known = dict(config_rules.fields(runpy.run_path(path)['get_config'](arguments)))
    for argument in argv[1:]:
        name = re.match(r'--?(?:no)?config\.([^=]+)', argument)
        if name and name[1] not in known:
            raise ValueError(config_rules.unknown_field(name[1], known))


def _stop(sentence: str) -> None:
    print(f'error: {sentence}', file=sys.stderr)
    sys.exit(2)
