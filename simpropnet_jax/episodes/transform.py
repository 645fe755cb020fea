"""Transformed pairs: a support and a transformed copy as its query (CRC + TPC, 3.2 and Figure 3).

The paper names the transforms; their strengths were in a supplement that is not available. Ours are `config.tpc`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num, UInt8
from ml_collections import ConfigDict

from simpropnet_jax.io.labels import FOREGROUND, VOID

OFF = {'distortion': 0.0, 'rotation': 0.0, 'zoom': 1.0, 'flip': 0.0, 'noise': 0.0, 'pepper': 0.0}
"""The transforms, with the strength at which each does nothing."""

WAVES = 6  # points per side at which a distortion is drawn: fewer bend, more crumple
KEPT = 0.1  # a mask that would lose more than nine tenths of its pixels is not moved


def transform_pairs(
    key: Key[Array, ''],
    images: Num[Array, 'B H W 3'],
    labels: UInt8[Array, 'B H W'],
    strengths: ConfigDict,
) -> tuple[Float[Array, 'B H W 3'], UInt8[Array, 'B H W']]:
    """Apply `transform` to every image with its label, each with its own randomness."""
    keys = jax.random.split(key, images.shape[0])
    return jax.vmap(lambda key, image, label: transform(key, image, label, strengths))(
        keys, images, labels
    )


def transform(
    key: Key[Array, ''],
    image: Num[Array, 'H W 3'],
    label: UInt8[Array, 'H W'],
    strengths: ConfigDict,
) -> tuple[Float[Array, 'H W 3'], UInt8[Array, 'H W']]:
    """Apply the paper's T to one image: distortion, rotation, zoom and flip, then Gaussian and pepper noise.

    The geometry is one resampling (linear; the label nearest, at the same places). Pixels from outside the image
    are void, in the image's mean colour: repeated edges could draw the object without a label. The geometry is left
    out if it would move nearly all of the object out of the image.

    Args:
      key: randomness for this image only.
      image: 0 to 255.
      label: 0, 1 or 255 (void).
      strengths: `config.tpc`; the fields of `OFF` and `probability` are used.
    """
    key, noise_key, pepper_key = jax.random.split(key, 3)
    names = [name for name in OFF if name != 'flip']  # it has its own probability
    # One flat draw: each draw, and each of its axes, takes long to compile.
    drawn = jax.random.uniform(key, (len(names) + 5 + 2 * WAVES**2,))
    chosen, placed, points = jnp.split(drawn, (len(names), len(names) + 5))
    strength = {'flip': strengths.flip}
    for name, number in zip(names, chosen, strict=True):
        strength[name] = jnp.where(number < strengths.probability, strengths[name], OFF[name])
    image = image.astype(jnp.float32)
    places = _places(placed, strength, strength['distortion'] * _waves(points, label.shape))
    moved = _nearest(label, places)
    enough = (moved == FOREGROUND).sum() >= KEPT * (label == FOREGROUND).sum()
    image, label = (
        jnp.where(enough, _bilinear(image, places), image),
        jnp.where(enough, moved, label),
    )
    image += strength['noise'] * 255 * jax.random.normal(noise_key, image.shape)
    black = jax.random.bernoulli(pepper_key, strength['pepper'], label.shape)
    return jnp.where(black[..., None], 0, jnp.clip(image, 0, 255)), label


def _places(drawn: Float[Array, '5'], strength, shift) -> Float[Array, '2 H W']:
    """Return the source row and column, in pixels, of each pixel; `shift` is in shares of the side."""
    turn, magnify, down, right, mirror = drawn
    shape = shift.shape[1:]
    sides = jnp.array(shape, jnp.float32)[:, None, None]
    # From the centre, in multiples of half a pixel: exact, so that nothing blurs without a change.
    rows, columns = jnp.meshgrid(
        *(jnp.arange(side) - (side - 1) / 2 for side in shape), indexing='ij'
    )
    rows, columns = jnp.stack([rows, columns]) + sides * shift
    angle = jnp.deg2rad(strength['rotation']) * (2 * turn - 1)
    rows, columns = (
        jnp.cos(angle) * rows - jnp.sin(angle) * columns,
        jnp.sin(angle) * rows + jnp.cos(angle) * columns,
    )
    columns = jnp.where(mirror < strength['flip'], -columns, columns)
    zoom = 1 + (strength['zoom'] - 1) * magnify
    window = jnp.stack([down, right])[:, None, None] - 0.5  # its centre; the room is 1
    return jnp.stack([rows, columns]) / zoom + window * sides * (1 - 1 / zoom) + (sides - 1) / 2


def _waves(drawn: Float[Array, ' N'], shape) -> Float[Array, '2 H W']:
    """Make a smooth field of displacements, about -1 to 1: drawn at few points, with cubic interpolation.

    Elastic distortion is usually smoothed noise at every pixel. This looks the same, costs a fraction, and does not
    depend on the resolution.
    """
    return jax.image.resize(2 * drawn.reshape(2, WAVES, WAVES) - 1, (2, *shape), 'cubic')


def _inside(places, shape) -> Bool[Array, 'H W']:
    rows, columns = places
    return (rows >= -0.5) & (rows < shape[0] - 0.5) & (columns >= -0.5) & (columns < shape[1] - 0.5)


def _nearest(label, places):
    rows, columns = jnp.floor(places + 0.5).astype(jnp.int32)  # outside, the nearest at the edge
    rows, columns = (
        jnp.clip(at, 0, side - 1) for at, side in zip((rows, columns), label.shape, strict=True)
    )
    return jnp.where(_inside(places, label.shape), label[rows, columns], VOID).astype(jnp.uint8)


def _bilinear(image, places):
    last = jnp.array(image.shape[:2])[:, None, None] - 1
    clipped = jnp.clip(places, 0, last)
    first = jnp.floor(clipped).astype(jnp.int32)
    down, right = (clipped - first)[..., None]
    (top, left), (bottom, beside) = first, jnp.minimum(first + 1, last)
    upper = image[top, left] * (1 - right) + image[top, beside] * right
    lower = image[bottom, left] * (1 - right) + image[bottom, beside] * right
    mean = image.mean((0, 1))
    return jnp.where(
        _inside(places, image.shape[:2])[..., None], upper * (1 - down) + lower * down, mean
    )
