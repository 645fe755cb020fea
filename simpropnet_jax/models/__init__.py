"""Methods: each a module with encode, probe and decode; supervised networks: with logits."""

import flax.linen as nn
import jax.numpy as jnp


def build(model) -> nn.Module:
    """The module that a config describes.

    Args:
      model: `config.model`, with `convention` resolved to the name of an entry of `normalise.CONVENTIONS`.
    """
    from simpropnet_jax.models import canet, classifier, deeplab, normalise, prototype, simpropnet

    methods = {
        'canet': canet.CANet,
        'simpropnet': simpropnet.SimPropNet,
        'prototype': prototype.Prototype,
        'classifier': classifier.Classifier,
        'deeplab': deeplab.DeepLab,
    }
    others = ('name', 'weights', 'trained', 'convention', 'dtype')
    fields = {name: value for name, value in model.items() if name not in others}
    stride_on = normalise.CONVENTIONS[model.convention].stride_on
    return methods[model.name](stride_on=stride_on, dtype=jnp.dtype(model.dtype), **fields)
