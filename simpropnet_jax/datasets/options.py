"""Names of choices about the data. This module is light: checking a config loads no NumPy."""

TRAINING_LISTS = ('trainaug', 'noval')
"""Image lists to train on: see `Index.lists`."""

FOLDS = ('own', 'blocks', 'coco')
"""Folds of a data set's classes: see `declared`."""

TINY_RULES = ('oslsm', 'px2048', 'none')
"""Rules for (image, class) pairs that are too small to list: see `listed_pairs`."""
