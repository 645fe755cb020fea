"""A page in the browser that segments pictures like the ones shown: paint an example, drop pictures, download masks.

    python -m simpropnet_jax.app --checkpoint runs/fold2

Open the address that is printed. What you paint or drop stays on this machine, in one folder, and is deleted when the
program ends (Ctrl+C), or kept where --folder names one. The page fetches nothing from elsewhere.

Only this machine can open the page. With --host 0.0.0.0 everybody in your network can, without a password. Several
people may use it at once: each has examples and pictures of their own, and the network serves one after the other.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from simpropnet_jax.config import command_line
from simpropnet_jax.runtime import errors

logger = logging.getLogger('simpropnet_jax.app')


def parser() -> argparse.ArgumentParser:
    """The flags, as predict.py has them."""
    result = errors.Parser(__doc__, prog='python -m simpropnet_jax.app')
    result.add_argument('--checkpoint', required=True, type=Path, help='folder that train.py wrote')
    result.add_argument(
        '--host', default='127.0.0.1', help='address to listen at (default: this machine alone)'
    )
    result.add_argument('--port', default=7860, type=int, help='port to listen at (default: 7860)')
    result.add_argument(
        '--max_upload', default=20, type=int, metavar='MB', help='of one file (default: 20)'
    )
    result.add_argument(
        '--folder', type=Path, help='for uploads (default: a temporary one, deleted at the end)'
    )
    return result


def main(given: argparse.Namespace):
    if not 0 < given.port < 65536:
        raise ValueError(f'--port must be from 1 to 65535, got {given.port}')
    if given.max_upload < 1:
        raise ValueError(f'--max_upload must be at least 1 (MB), got {given.max_upload}')
    _check_gradio()
    warnings.simplefilter(
        'ignore', Image.DecompressionBombWarning
    )  # the page has a limit of its own
    Image.core.set_block_size(
        64 * 2**20
    )  # larger than what the C library keeps for itself when it is freed
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the folder is deleted then, too
    with _folder(given.folder) as folder:
        # Before Gradio is imported, which reads them once: all that is uploaded, made or cached goes into one folder.
        os.environ |= dict.fromkeys(('GRADIO_TEMP_DIR', 'HF_HOME', 'MPLCONFIGDIR'), str(folder))
        os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
        tempfile.tempdir = str(folder)
        from simpropnet_jax.app import page
        from simpropnet_jax.inference import Segmenter

        page.check_free(given.host, given.port)
        segmenter = Segmenter.from_checkpoint(given.checkpoint)
        _compile(segmenter)
        page.serve(segmenter, given.host, given.port, given.max_upload)


def _compile(segmenter):
    """Before the first user waits for it; what is compiled is kept for the next start."""
    logger.info('compiling')
    gray = np.full((64, 64, 3), 128, np.uint8)
    segmenter.segment(gray, supports=[(gray, np.eye(64) > 0)])


def _check_gradio():
    if importlib.util.find_spec('gradio') is None:
        raise ImportError("the page needs Gradio, which is not installed: pip install -e '.[app]'")


@contextlib.contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    """The one folder that is written to; a temporary one is deleted at the end."""
    if named is None:
        with tempfile.TemporaryDirectory(
            prefix='simpropnet_jax_app_', ignore_cleanup_errors=True
        ) as folder:
            yield Path(folder)
    else:
        named.mkdir(parents=True, exist_ok=True)
        yield named.resolve()


if __name__ == '__main__':
    arguments, sys.argv[1:] = (
        parser().parse_known_args()
    )  # the rest is for the flags that all commands have
    command_line.run(lambda: main(arguments))
