"""Matching: many prototypes and seeds, nothing to train, evaluated by the same command.

simpropnet eval --config matching:fold=1 --workdir runs/matching1
"""

from ml_collections import ConfigDict

from simpropnet_jax.config import common


def get_config(argument: str = '') -> ConfigDict:
    config = common.base('matching')
    config.model.shallow = 0.5  # length of all levels but the deepest, which has 1; 0: deepest only
    config.model.prototypes = 64  # clusters of a support's foreground, and of its background
    config.model.steps = 5  # of the clustering
    config.model.nearest = 5  # a pixel's score is its mean cosine to so many best prototypes
    config.model.backward = 0.3  # loss of a pixel that is not the most like a prototype; 0: off
    config.model.margin = 0.05  # cosine that the foreground gets when seeds are chosen
    config.model.seeds = 0.5  # weight of the cosines to the query's own confident pixels; 0: off
    config.model.seed_margin = 0.01  # cosine that the foreground gets in the end
    return common.apply(config, argument, {'cpu': cpu})


def cpu(config: ConfigDict) -> None:
    """Evaluate in minutes on two CPU cores."""
    config.eval.size = 225  # 8n+1
