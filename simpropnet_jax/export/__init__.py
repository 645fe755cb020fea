"""A trained method for other programs: JAX's own export, and ONNX. `load` reads the first with JAX and NumPy alone."""

from simpropnet_jax.export.artifact import Exported, load

__all__ = ['Exported', 'load']
