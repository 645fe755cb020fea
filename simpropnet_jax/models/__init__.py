"""Methods: each a module with encode, probe and decode; supervised networks: with logits."""

import flax.linen as nn
import jax.numpy as jnp

from simpropnet_jax.datasets.folds import novel_classes


def build(config) -> nn.Module:
    """The module that a config describes.

    Args:
      config: of its `model`, `convention` is resolved to the name of an entry of `normalise.CONVENTIONS`.
    """
    from simpropnet_jax.backbones import normalise

    model = config.model
    others = ('name', 'weights', 'trained', 'convention', 'dtype')
    fields = {name: value for name, value in model.items() if name not in others}
    stride_on, kind = normalise.CONVENTIONS[model.convention].stride_on, _kind(model.name)
    if hasattr(kind, 'novel'):  # its classifier has to know which classes it is not to know
        fields['novel'] = novel_classes(config.fold)
    return kind(stride_on=stride_on, dtype=jnp.dtype(model.dtype), **fields)


def backbones(name: str) -> dict[str, int]:
    """The parts of a method that begin with ImageNet's weights, see `FewShotMethod.backbones`."""
    return getattr(_kind(name), 'backbones', {'backbone': 0})


def _kind(name: str) -> type[nn.Module]:
    from simpropnet_jax.models import (
        amp,
        canet,
        classifier,
        cofcn,
        deeplab,
        oslsm,
        panet,
        prototype,
        sgone,
        simpropnet,
    )

    return {
        'amp': amp.AMP,
        'canet': canet.CANet,
        'simpropnet': simpropnet.SimPropNet,
        'panet': panet.PANet,
        'sgone': sgone.SGOne,
        'cofcn': cofcn.CoFCN,
        'oslsm': oslsm.OSLSM,
        'prototype': prototype.Prototype,
        'classifier': classifier.Classifier,
        'deeplab': deeplab.DeepLab,
    }[name]
