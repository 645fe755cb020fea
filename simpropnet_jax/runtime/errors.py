"""How a mistake of the user ends, in every command: in one plain sentence and status 2."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import NoReturn

logger = logging.getLogger(__name__)


class Parser(argparse.ArgumentParser):
    """For flags that absl's cannot be, of two values or given again; a mistake ends as with `plain_errors`."""

    def __init__(self, description: str | None, **options):
        super().__init__(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )

    def error(self, message):
        self.exit(2, f'error: {message}; --help says more\n')


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


def stop(sentence: str, status: int = 2) -> NoReturn:
    """Ends the program with a sentence to the user."""
    print(f'error: {sentence}', file=sys.stderr)
    sys.exit(status)
