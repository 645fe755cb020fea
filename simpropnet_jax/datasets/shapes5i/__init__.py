"""shapes5i, the embedded data set: drawn scenes with the features and the folds of PASCAL-5i.

Twenty classes, each a silhouette with a texture; colour says nothing. It needs no download and no TensorFlow.
"""

from simpropnet_jax.datasets.shapes5i.scene import draw
from simpropnet_jax.datasets.shapes5i.shapes import CLASS_NAMES
from simpropnet_jax.datasets.shapes5i.store import IMAGES, VERSION, load

__all__ = ['CLASS_NAMES', 'IMAGES', 'VERSION', 'draw', 'load']
