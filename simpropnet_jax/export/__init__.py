"""A trained method for other programs: JAX's export format, and ONNX. `load` reads the first with JAX and NumPy."""

from simpropnet_jax.export.artifact import Exported, load

__all__ = ['Exported', 'load']
