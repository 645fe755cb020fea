"""The config that a run folder keeps: config.json."""

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import rules
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.runtime.paths import AnyPath


def stored_config(workdir: AnyPath) -> ConfigDict:
    """Return the config that a run was started with.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    if not (workdir / 'config.json').exists():
        raise ValueError(f'{workdir} has no config.json. Train there first, or give --config')
    return rules.load(workdir / 'config.json')


def store_config(config: ConfigDict, workdir: AnyPath) -> None:
    """Write config.json, once."""
    if not (workdir / 'config.json').exists() and jax.process_index() == 0:
        checkpoint.write_json(workdir / 'config.json', rules.plain(config))
