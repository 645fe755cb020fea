"""The training-free prototype: nothing to train, evaluated by the same command.

simpropnet eval --config prototype:fold=1 --workdir runs/prototype1
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    return common.apply(common.base('prototype'), argument, {'cpu': cpu})


def cpu(config: ConfigDict) -> None:
    """Evaluate in minutes on two CPU cores."""
    config.eval.size = 225  # 8n+1
