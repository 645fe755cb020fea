"""Write a trained model as a folder that others load: weights, config, model card and checksums."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.config.fields import FIELDS
from simpropnet_jax.config.rules import plain, stored_config
from simpropnet_jax.evaluation.results.naming import method_name
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.export import card
from simpropnet_jax.published import header, model_file, quantise
from simpropnet_jax.runtime import paths, records, sharding
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.weights import restore_variables

logger = logging.getLogger(__name__)

CARD, SUMS = 'README.md', 'SHA256SUMS'
# Fields that name files of the publisher's machine; the file's name stays.
FILES = ('model.weights', 'model.trained', 'train.start')


def publish(
    workdir: paths.AnyPath,
    out: Path,
    which: str = 'best',
    weights: str = 'float32',
    results: Sequence[Path] = (),
) -> header.About:
    """Write model.safetensors, config.json, README.md (the model card) and SHA256SUMS.

    Args:
      workdir: the run folder. Its results of the same checkpoint go into the card.
      out: folder; created if missing. Its name is the model's name.
      which: checkpoint, 'best', 'latest' or a step.
      weights: how the weights are stored, one of `quantise.KINDS`.
      results: more result files for the card, of the same recipe on other folds.
    Returns:
      What the file says of its model.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is written.
    """
    if weights not in quantise.KINDS:
        raise ValueError(f'--weights must be one of {", ".join(quantise.KINDS)}, got {weights!r}')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f'{out} exists and is not an empty folder: give another --out')
    stored = stored_config(workdir)
    others = [read_result(path) for path in results]
    method = Method.from_config(stored)
    mesh = sharding.make_mesh()
    variables, step = restore_variables(method, workdir, which, sharding.replicated(mesh))
    params = jax.tree.map(np.asarray, variables['params'])
    measured = _results(workdir, step)
    about: header.About = {
        'format': header.FORMAT,
        'name': out.resolve().name,
        'weights': weights,
        'step': step,
        'summary': f'{method_name(stored)} {card.trained_on(stored)}, step {step}',
        'data': stored.data.name,
        'classes': card.classes(stored),
    }
    config = _without_places(stored)
    text = card.write_card(about['name'], config, step, weights, [*measured, *others])
    out.mkdir(parents=True, exist_ok=True)
    model_file.write(out / header.NAME, params, plain(config), text, about)
    records.write(out / 'config.json', plain(config))
    (out / CARD).write_text(text)
    files = (header.NAME, 'config.json', CARD)
    (out / SUMS).write_text(''.join(f'{_sha256(out / name)}  {name}\n' for name in files))
    size = (out / header.NAME).stat().st_size
    logger.info('%s: %s, %.1f MB', out, about['summary'], size / 1e6)
    return about


def _without_places(config: ConfigDict) -> ConfigDict:
    """Return a copy that names no folder of this machine."""
    changes = {'data.dir': FIELDS['data.dir'].default}
    for field in FILES:
        section, name = field.split('.')
        if config[section].get(name):
            changes[field] = Path(config[section][name]).name
    config = ConfigDict(config.to_dict())
    config.update_from_flattened_dict(changes)
    return config


def _results(workdir: paths.AnyPath, step: int) -> list[dict]:
    """Return the run's results of a checkpoint on ordinary episodes."""
    folder = workdir / 'eval'
    files = sorted(folder.glob('*.json')) if folder.is_dir() else []
    found = [read_result(path) for path in files if not path.name.startswith('hpascal_')]
    return [
        record
        for record in found
        if record['checkpoint'].get('step') == step and record.get('inputs') == 'episodes'
    ]


def _sha256(path: Path) -> str:
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
