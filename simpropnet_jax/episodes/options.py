"""Names of choices about drawing and loading episodes. This module is light: checking a config loads no NumPy."""

ORDERS = ('listed_pairs', 'classes')
"""In which order training sees the listed pairs: see `TrainSampler`."""

BACKENDS = ('auto', 'tfdata', 'threads')
"""What decodes and resizes images: see `loader`."""

RESIDENCY = ('auto', 'always', 'never')
"""Whether training images stay in device memory: see `resident`."""
