"""Images as a backbone expects them; `conventions` says what each source of weights expects."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from simpropnet_jax.backbones.conventions import CONVENTIONS, Convention, get_convention

__all__ = ['CONVENTIONS', 'Convention', 'get_convention', 'normalise']


def normalise(
    images: Num[Array | np.ndarray, '*b h w 3'], convention: str
) -> Float[Array, '*b h w 3']:
    """Convert RGB images to the input that the backbone was trained on.

    Args:
      images: RGB, 0..255, uint8 or floating point.
      convention: 'keras' or 'torchvision', as it came with the weights.

    Returns: float32, channels in the convention's own order.
    Raises: ValueError for an unknown convention.
    """
    how = get_convention(convention)
    images = jnp.asarray(images, jnp.float32)
    if how.channels == 'BGR':
        images = images[..., ::-1]
    return (images * how.scale - jnp.asarray(how.mean)) / jnp.asarray(how.std)
