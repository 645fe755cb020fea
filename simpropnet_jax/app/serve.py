"""Serving the page: the address, the guard around Gradio, and a log of whole sentences."""

import contextlib
import logging
import socket
import sys
import traceback
from collections.abc import Sequence

import gradio as gr

from simpropnet_jax.app import guard, layout
from simpropnet_jax.app.storage import Storage

logger = logging.getLogger(__name__)

MOST_SESSIONS = 30  # open pages whose pictures are kept; the oldest is forgotten for the next


def serve(
    page: gr.Blocks,
    host: str,
    port: int,
    most_megabytes: int,
    storage: Storage,
    allowed: Sequence[str] = (),
) -> None:
    """Serve the page until the program is interrupted.

    Args:
      page: see `page.build`.
      host, port: address to listen at.
      most_megabytes: largest size of a file.
      storage: counts all uploads.
      allowed: more names that the page goes by.
    """
    page.queue(api_open=False)
    token = guard.new_token(host)
    _log_in_one_line()

    @contextlib.asynccontextmanager
    async def guarded(app):
        """Put the guard around all of Gradio's own middleware, before the first request."""
        app.middleware_stack = guard.Guard(app.middleware_stack, host, allowed, token, storage)
        yield

    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=most_megabytes * 2**20,
        quiet=True,
        share=False,
        ssr_mode=False,
        run_history=False,
        footer_links=[],
        state_session_capacity=MOST_SESSIONS,
        theme=layout.THEME,
        css=layout.CSS,
        prevent_thread_lock=True,
        app_kwargs={'lifespan': guarded},
    )
    logger.info(
        'open %s in a browser; Ctrl+C ends', _address(page.local_url, host, port, allowed, token)
    )
    page.block_thread()


def _address(local: str, host: str, port: int, allowed: Sequence[str], token: str) -> str:
    """Return what to open: for other machines, this machine's name and the token."""
    if not token:
        return local
    anywhere = host in ('0.0.0.0', '::')
    name = next(iter(allowed), 'localhost') if anywhere else host
    name = f'[{name}]' if ':' in name else name
    return f'http://{name}:{port}/?{guard.TOKEN}={token}'


class _OneLine:
    """The module `traceback` for Gradio, which prints what goes wrong in an event."""

    def __getattr__(self, name):
        return getattr(traceback, name)

    def print_exc(self, *args, **options):
        """Log the type of the error alone."""
        logger.debug('where it went wrong:', exc_info=True)
        logger.warning('a request failed (%s)', type(sys.exception()).__name__)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info:
        record.msg, record.args = f'a request failed ({record.exc_info[0].__name__})', ()
        record.exc_info = record.exc_text = None
    return True


def _log_in_one_line() -> None:
    """Keep the tracebacks of Gradio and its server out of the log."""
    for module in ('queueing', 'routes', 'route_utils', 'utils'):
        vars(sys.modules[f'gradio.{module}'])['traceback'] = _OneLine()
    for name in ('uvicorn.error', 'asyncio'):
        logging.getLogger(name).addFilter(_without_traceback)


def check_free(host: str, port: int) -> None:
    """Refuses, before anything takes long, a port that is taken and an address that is none of this machine."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        reason = error.strerror.partition(' (')[0]  # the rest says host and port again
        sentence = f'cannot listen at {host}, port {port} ({reason}): give another --port or --host'
        raise ValueError(sentence) from error
