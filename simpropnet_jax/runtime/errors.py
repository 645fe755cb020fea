"""How a mistake of the user ends, in every command: in one plain sentence and status 2."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

logger = logging.getLogger(__name__)

SYMLINK_LOOP = 'Symlink loop from'  # how pathlib begins its RuntimeError


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """End errors that a user can fix with one sentence and exit status 2, or the error's own `exit_status`."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        logger.debug('where it went wrong:', exc_info=True)
        named = (
            isinstance(error, OSError) and error.strerror
        )  # of the system, whose own words are a tuple
        sentence = f'{error.filename or "a file"}: {error.strerror}' if named else str(error)
        stop(sentence, getattr(error, 'exit_status', 2))
    except (RuntimeError, AssertionError) as error:
        logger.debug('where it went wrong:', exc_info=True)
        if str(error).startswith(SYMLINK_LOOP):
            link = str(error).removeprefix(SYMLINK_LOOP).strip('\' "')
            stop(f'{link} is a link that leads to itself')
        if not _is_about_platforms(error):
            raise
        stop(
            f'JAX_PLATFORMS is {os.environ["JAX_PLATFORMS"]!r}, but JAX cannot use that here '
            f'({str(error).partition(" (set ")[0].rstrip(".") or "it is not installed"}). Unset it, or set it to cpu'
        )


def _is_about_platforms(error: Exception) -> bool:
    """Whether JAX did not find the platform that JAX_PLATFORMS names."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    where = trace.tb_frame.f_code.co_filename if trace else ''
    return bool(os.environ.get('JAX_PLATFORMS')) and where.endswith('xla_bridge.py')


def stop(sentence: str, status: int = 2) -> NoReturn:
    """Ends the program with a sentence to the user."""
    print(f'error: {sentence}', file=sys.stderr)
    sys.exit(status)
