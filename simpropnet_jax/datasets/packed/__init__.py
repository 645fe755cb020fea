"""A prepared data set in a few files, to copy to a machine without TensorFlow."""

from simpropnet_jax.datasets.packed.store import is_packed, load, write

__all__ = ['is_packed', 'load', 'write']
