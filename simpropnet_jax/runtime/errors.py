"""How a mistake of the user ends, in every command: in one plain sentence and status 2."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """What a user can mend ends in one sentence and exit status 2, or that which the error says as `exit_status`."""
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
        if not _is_about_platforms(error):
            raise
        logger.debug('where it went wrong:', exc_info=True)
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
