"""Write the predicted masks of a trained method as PNG files.

Under a protocol that compares masks at their original size, they score exactly like an evaluation. On a square the
scores differ a little, because the mask is stretched where an evaluation stretches logits.
"""

import logging
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.episodes.episode_files import episode_name
from simpropnet_jax.evaluation.external import predictors
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.run import prepare, with_episodes
from simpropnet_jax.setup.weights import load_variables

logger = logging.getLogger(__name__)


def export(
    config: ConfigDict | None,
    workdir: Path,
    out: Path,
    which: str = 'best',
    progress: Progress | None = None,
) -> int:
    """Write the masks of a work directory's method and return their number.

    Args:
      config: the config; None takes the stored config.
      out: folder; created if missing.
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    run = with_episodes(prepare(config, workdir))
    variables, _ = load_variables(run.method, workdir, which, sharding.make_mesh())
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'{out} exists and is not an empty folder: give another --out')
    count = 0
    for (shot, seed), number, mask in predictors.predict_episodes(run, variables, progress):
        if jax.process_index() == 0:
            out.mkdir(parents=True, exist_ok=True)
            name = episode_name(run.protocol.name, run.config.fold, shot, seed, number)
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / f'{name}.png')
        count += 1
    logger.info('%d masks: %s', count, out)
    return count
