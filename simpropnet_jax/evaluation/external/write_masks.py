"""Writes the masks that a trained method predicts, as PNG files that `eval.py --predictions` and other programs read.

    python -m simpropnet_jax.evaluation.external.write_masks --workdir runs/fold2 --out masks/simpropnet

A file for each episode that config.eval says, named as python -m simpropnet_jax.cli.list_episodes names it
(simpropnet_f2_s0_k1_0007.png), at the size of the query's label, 255 where the object is predicted and 0 elsewhere.
Scored under a protocol that compares masks at their own size they give the numbers of eval.py; on a square they differ
a little, as a mask is stretched where eval.py stretches logits. Without --config, that of the training is used.
"""

import logging
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.config import command_line
from simpropnet_jax.config.rules import FREE
from simpropnet_jax.episodes.episode_files import episode_name
from simpropnet_jax.evaluation import run
from simpropnet_jax.evaluation.external import predictors
from simpropnet_jax.runtime import hosts, sharding
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
    """Writes the masks of a work directory's method; returns how many.

    Args:
      config: None: the work directory's own.
      out: folder; made if it is not there.
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    run = with_episodes(prepare(config, workdir))
    variables, _ = load_variables(run.method, workdir, which, sharding.make_mesh())
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'{out} is there and not an empty folder: give another --out')
    count = 0
    for (shot, seed), number, mask in predictors.predict_episodes(run, variables, progress):
        if jax.process_index() == 0:
            out.mkdir(parents=True, exist_ok=True)
            name = episode_name(run.protocol.name, run.config.fold, shot, seed, number)
            Image.fromarray(mask.astype(np.uint8) * 255).save(out / f'{name}.png')
        count += 1
    logger.info('%d masks: %s', count, out)
    return count


def main():
    hosts.start()
    export(CONFIG.value, Path(WORKDIR.value), Path(OUT.value), CHECKPOINT.value, run.ProgressBar())


if __name__ == '__main__':
    CONFIG = command_line.define_config(
        required=False, only=[name for name in FREE if not name.startswith('train.')]
    )
    WORKDIR = flags.DEFINE_string('workdir', None, 'folder that train.py wrote')
    CHECKPOINT = flags.DEFINE_string(
        'checkpoint', 'best', "which weights: 'best', 'latest' or a step"
    )
    OUT = flags.DEFINE_string(
        'out', None, "folder for the masks; its name is the method's for eval.py --predictions"
    )
    flags.mark_flags_as_required(['workdir', 'out'])
    command_line.run(main)
