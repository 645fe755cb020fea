"""Names of choices about drawing and loading episodes. This module is light: checking a config loads no NumPy."""

ORDERS = ('listed_pairs', 'classes')
"""The order in which training sees the listed pairs: see `TrainSampler`."""

BACKENDS = ('auto', 'tfdata', 'threads')
"""Backends that decode and resize images: see `loader`."""

RESIDENCY = ('auto', 'always', 'never')
"""Whether training images stay in device memory: see `resident`."""

DECODED = ('auto', 'always', 'never')
"""Whether training images are streamed from files of decoded images: see `decoded`."""
