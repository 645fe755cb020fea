"""Your own images and masks: a folder that is checked, and prepared as a data set like the others."""

from simpropnet_jax.datasets.folder.store import load

__all__ = ['load']
