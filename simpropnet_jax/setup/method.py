"""A method: its module, its weights, and what it can do."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.backbones import normalise
from simpropnet_jax.datasets import declared
from simpropnet_jax.datasets.folds import PASCAL, novel_classes
from simpropnet_jax.models.layers import he_scaled
from simpropnet_jax.runtime.paths import AnyPath


@dataclass(frozen=True)
class Method:
    """A module with its weights.

    Attributes:
      config: config of the run, with model.convention and model.dtype resolved.
      module: see `models`.
      pretrained: parameters that do not start at random, 'backbone' or all; empty if they are in the checkpoint.
      weights: where the pretrained parameters came from.
    """

    config: ConfigDict
    module: object
    pretrained: dict
    weights: str | None

    @classmethod
    def from_config(
        cls, config: ConfigDict, pretrained: dict | None = None, weights: str | None = None
    ) -> 'Method':
        """Build the module of a config with a resolved model.convention.

        Raises:
          ValueError: there is no such method, or config.model has a field that the method lacks.
        """
        if config.model.convention not in normalise.CONVENTIONS:
            raise ValueError(
                f'config.model.convention is {config.model.convention!r}, but a trained run names its convention, one '
                f'of {", ".join(normalise.CONVENTIONS)}. Restore config.json from a copy'
            )
        if config.model.dtype == 'auto':
            raise ValueError(
                "config.model.dtype is 'auto', but a trained run names its type, float32 or bfloat16. Restore "
                'config.json from a copy'
            )
        stride_on = normalise.CONVENTIONS[config.model.convention].stride_on
        imprinting = models.find(config.model.name).module.imprinting
        held_out = declared.held_out(config.data.name, config.data.folds)
        novel = novel_classes(config.fold, held_out or PASCAL) if imprinting else ()
        module = models.build(config.model, stride_on, novel)
        classes = declared.class_count(config.data.name)
        if getattr(module, 'classes', classes) != classes:
            module = module.clone(classes=classes)
        return cls(config, module, pretrained or {}, weights)

    @property
    def supervised(self) -> bool:
        """Whether the method is trained on full labels rather than episodes."""
        return self.module.supervised

    @property
    def imprinting(self) -> bool:
        """Whether the method learns base classes from full labels and imprints novel ones from supports (AMP)."""
        return self.module.imprinting

    @property
    def few_shot(self) -> bool:
        """Whether the method segments the queries of episodes; a supervised network may do so too."""
        return self.module.few_shot

    @property
    def episodic(self) -> bool:
        """Whether the method is trained on episodes. An imprinting method is, if a loss or a conditioning needs them.

        Each step then has two losses: one of full labels, and one of episodes with their class treated as novel.
        """
        train, conditioned = self.config.train, self.config.tpc.when != 'never'
        needed = conditioned or train.crc or train.alignment or train.dual_prediction
        return not self.supervised or (self.imprinting and needed)

    def init(self, key: jax.Array, pretrained: dict) -> dict:
        """Return new variables, {'params': ...}; `pretrained` replaces random weights."""
        side = self.module.grid.nearest(33)
        image, mask = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side))
        params = self.module.init(key, image, mask)['params']
        gain = self.config.train.initial_gain
        if gain:
            params = he_scaled(params, gain, tuple(self.module.backbones))
        return {'params': {**params, **jax.tree.map(jnp.asarray, pretrained)}}

    def abstract(self) -> dict:
        """Return the shapes and types of the variables."""
        return jax.eval_shape(lambda: self.init(jax.random.key(0), {}))


def require_few_shot(method: Method, workdir: AnyPath) -> None:
    """Refuse a supervised network for segmenting episodes or a user's pictures.

    Raises:
      ValueError: the method takes no supports.
    """
    if not method.few_shot:
        raise ValueError(
            f'{workdir} holds {method.config.model.name}, a supervised network that takes no supports. Give the run '
            'folder of a few-shot method'
        )
