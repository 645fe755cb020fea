"""Masks in, masks out: a trained method on your own pictures; `Segmenter` in Python, `run` for the command."""

from simpropnet_jax.inference.segmenter import Segmentation, Segmenter, read_support
from simpropnet_jax.io.masks import describe_mask

__all__ = ['Segmentation', 'Segmenter', 'describe_mask', 'read_support']
