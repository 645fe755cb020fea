"""Methods, one file each: few-shot methods have encode, probe and decode; supervised networks have logits."""

from simpropnet_jax.models.registry import (
    Registered,
    backbones,
    build,
    find,
    register_method,
    registered,
    title,
)

__all__ = [
    'Registered',
    'backbones',
    'build',
    'find',
    'register_method',
    'registered',
    'title',
]
