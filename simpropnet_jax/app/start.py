"""Starting the page: the network is compiled before the first user waits for it."""

import contextlib
import importlib.util
import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simpropnet_jax.app.storage import Storage, temporary_folder
from simpropnet_jax.runtime.paths import AnyPath

logger = logging.getLogger(__name__)


def start(
    run: AnyPath,
    which: str,
    host: str,
    port: int,
    max_upload: int,
    folder: Path | None = None,
    max_storage: int = 4000,
    allowed: Sequence[str] = (),
    view: Mapping[str, Any] | None = None,
) -> None:
    """Serve the page of a trained run until the program is stopped.

    Args:
      run: the run folder.
      which: checkpoint, 'best', 'latest' or a step.
      host, port: address to listen at.
      max_upload: largest size of a file in MB.
      folder: for uploads; None: a temporary one.
      max_storage: MB of all uploads; one visitor may use a quarter.
      allowed: more names that the page goes by.
      view: size, fit, tiles and absent_below, see `Segmenter`.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if not 0 < port < 65536:
        raise ValueError(f'--port must be from 1 to 65535, got {port}')
    if max_upload < 1:
        raise ValueError(f'--max_upload must be at least 1 (MB), got {max_upload}')
    if max_storage < 4 * max_upload:
        raise ValueError(
            f'--max_storage must be at least four times --max_upload ({4 * max_upload} MB), got {max_storage}'
        )
    _check_gradio()
    # The page has a limit of its own.
    warnings.simplefilter('ignore', Image.DecompressionBombWarning)
    # Larger than what the C library keeps for itself when it is freed.
    Image.core.set_block_size(64 * 2**20)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the folder is deleted then, too
    with _folder(folder) as uploads:
        # Before Gradio is imported, which reads them once: all that is uploaded, made or cached goes into one folder.
        os.environ |= dict.fromkeys(('GRADIO_TEMP_DIR', 'HF_HOME', 'MPLCONFIGDIR'), str(uploads))
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        tempfile.tempdir = str(uploads)
        from simpropnet_jax.app import about, page, serve
        from simpropnet_jax.inference import Segmenter

        serve.check_free(host, port)
        segmenter = Segmenter.from_checkpoint(run, which, **(view or {}))
        _compile(segmenter)
        storage = Storage(uploads, max_storage * 2**20)
        built = page.build(segmenter, about.trained_on(run))
        serve.serve(built, host, port, max_upload, storage, allowed)


def _compile(segmenter):
    """Compile before the first user waits for it; what is compiled is kept for the next start."""
    logger.info('compiling (up to a minute, the first time)')
    gray = np.full((64, 64, 3), 128, np.uint8)
    segmenter.segment(gray, supports=[(gray, np.eye(64) > 0)])


def _check_gradio():
    if importlib.util.find_spec('gradio') is None:
        raise ImportError("the page needs Gradio, which is not installed: pip install -e '.[app]'")


@contextlib.contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    """Yield the one folder that is written to; a temporary one is deleted at the end."""
    if named is None:
        with temporary_folder() as folder:
            yield folder
    else:
        named.mkdir(parents=True, exist_ok=True)
        yield named.resolve()
