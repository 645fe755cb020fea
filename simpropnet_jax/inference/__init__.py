"""Masks in, masks out: a trained method on anybody's pictures; `Segmenter` in Python, `run` for the command."""

from simpropnet_jax.inference.segmenter import Segmentation, Segmenter, read_support

__all__ = ['Segmentation', 'Segmenter', 'read_support']
