"""Random changes of an episode on the device: pure functions of a key, the same on CPU, GPU and TPU."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num, UInt8

from simpropnet_jax.io.labels import VOID

LABELLED_SCALES = (0.5, 2.0)  # of images in supervised training, as in DeepLab
LONGEST_SIDE = 500  # of PASCAL VOC's images: a larger square adds no detail


def support_size(size: int, max_scale: float = 1.5) -> int:
    """Return the side in pixels at which to load a support, so that no scale up to `max_scale` enlarges it."""
    return math.ceil(size * max_scale)


def scale_crop_flip(
    key: Key[Array, ''],
    image: Num[Array, 'Hs Ws 3'],
    label: UInt8[Array, 'Hs Ws'],
    size: int,
    max_scale: float = 1.5,
    flip: bool = True,
    min_scale: float = 1.0,
) -> tuple[Float[Array, 'size size 3'], UInt8[Array, 'size size']]:
    """Augment a support as in CANet: stretch to U(1, max_scale) * size, random crop, mirror half.

    With min_scale below 1 this is the augmentation of supervised segmentation: an image smaller than `size` is placed
    anywhere, and around it the result is black and its label void.

    Stretch and crop are one resampling (linear, antialiased; the label nearest, at the same geometry). The
    image is expected at support_size(size, max_scale), so that it only ever shrinks.

    Args:
      key: randomness for this image only.
      image, label: the support, stretched to a square by the loader; the image may still be uint8.
      size: side of the result in pixels.
      max_scale: 1, with min_scale 1, turns off scale and crop.
      flip: mirror left to right with probability 0.5.
    """
    scale_key, crop_key, flip_key = jax.random.split(key, 3)
    image = image.astype(jnp.float32)
    if max_scale > 1 or min_scale < 1 or image.shape[:2] != (size, size):
        side = size * jax.random.uniform(scale_key, minval=min_scale, maxval=max_scale)
        corner = jax.random.uniform(crop_key, (2,)) * (side - size)
        scale = side / jnp.array(image.shape[:2], jnp.float32)
        shape = (size, size, 3)
        image = jax.image.scale_and_translate(
            image, shape, (0, 1), scale, -corner, 'linear', antialias=True
        )
        label = _nearest(label, size, scale, corner)
    if flip:
        mirrored = jax.random.bernoulli(flip_key)
        image = jnp.where(mirrored, image[:, ::-1], image)
        label = jnp.where(mirrored, label[:, ::-1], label)
    return image, label


def _nearest(label, size, scale, corner):
    """Take the label under each pixel's centre, void outside; centres lie at halves, as in scale_and_translate."""
    centres = jnp.arange(size) + 0.5
    rows, columns = (
        jnp.floor((centres + corner[axis]) / scale[axis]).astype(jnp.int32) for axis in (0, 1)
    )

    def inside(places, length):
        return (places >= 0) & (places < length)

    found = inside(rows, label.shape[0])[:, None] & inside(columns, label.shape[1])

    def limited(places, length):
        return jnp.clip(places, 0, length - 1)

    label = label[limited(rows, label.shape[0])][:, limited(columns, label.shape[1])]
    return jnp.where(found, label, jnp.uint8(VOID))


def augment_supports(
    key: Key[Array, ''],
    images: Num[Array, 'B K Hs Ws 3'],
    labels: UInt8[Array, 'B K Hs Ws'],
    size: int,
    max_scale: float = 1.5,
    flip: bool = True,
) -> tuple[Float[Array, 'B K size size 3'], UInt8[Array, 'B K size size']]:
    """Apply scale_crop_flip to every support, each with its own randomness."""
    keys = jax.random.split(key, images.shape[:2])

    def one(key, image, label):
        return scale_crop_flip(key, image, label, size, max_scale, flip)

    return jax.vmap(jax.vmap(one))(keys, images, labels)


def labelled_size(size: int) -> int:
    """Return the side in pixels at which to load an image for `scale_crop_flip_labelled`."""
    return min(support_size(size, LABELLED_SCALES[1]), max(size, LONGEST_SIDE))


def scale_crop_flip_labelled(
    key: Key[Array, ''], images: Num[Array, 'B S S 3'], labels: UInt8[Array, 'B S S'], size: int
) -> tuple[Float[Array, 'B size size 3'], UInt8[Array, 'B size size']]:
    """Augment for supervised training: scale_crop_flip by 0.5 to 2, each image with its own randomness."""
    low, high = LABELLED_SCALES

    def one(key, image, label):
        return scale_crop_flip(key, image, label, size, high, min_scale=low)

    return jax.vmap(one)(jax.random.split(key, len(images)), images, labels)


def turn_and_flip(
    key: Key[Array, ''], images: Num[Array, 'B S S 3'], labels: UInt8[Array, 'B S S']
) -> tuple[Num[Array, 'B S S 3'], UInt8[Array, 'B S S']]:
    """Turn each image and its label to one of the eight positions of a square, all equally likely."""
    choices = jax.random.bernoulli(key, shape=(3, images.shape[0]))
    changes = lambda x: x.swapaxes(1, 2), lambda x: x[:, ::-1], lambda x: x[:, :, ::-1]
    for chosen, change in zip(choices, changes, strict=True):
        images = jnp.where(chosen[:, None, None, None], change(images), images)
        labels = jnp.where(chosen[:, None, None], change(labels), labels)
    return images, labels


def turn_episodes(
    key: Key[Array, ''],
    queries: UInt8[Array, 'B S S 3'],
    query_labels: UInt8[Array, 'B S S'],
    supports: Num[Array, 'B K S S 3'],
    support_labels: UInt8[Array, 'B K S S'],
):
    """Apply turn_and_flip to queries and supports independently; return what was passed, augmented."""
    query_key, support_key = jax.random.split(key)
    keys = jax.random.split(support_key, supports.shape[0])
    return (
        *turn_and_flip(query_key, queries, query_labels),
        *jax.vmap(turn_and_flip)(keys, supports, support_labels),
    )


def ica(
    key: Key[Array, ''], query: Float[Array, 'B H W 3'], probability
) -> Float[Array, 'B H W 3']:
    """Average the input channels (ICA): SimPropNet, section 3.6.

    With the given probability, independently for each sample, the mean replaces the three channels.

    Args:
      query: normalised images; the mean is over the backbone's input channels, as over RGB in the paper.
      probability: in [0, 1], may be traced (see ica_probability).
    """
    averaged = jax.random.bernoulli(key, probability, (query.shape[0], 1, 1, 1))
    return jnp.where(averaged, query.mean(-1, keepdims=True), query)


def ica_probability(step, steps: int, start: float = 0.25, decay: float = 0.01) -> Float[Array, '']:
    """Return the probability of ICA at a step, 0.25 at first and decaying exponentially (SimPropNet, section 3.6).

    The paper does not state the rate. Here it follows the length of the training, so that short and long recipes end
    at the same probability.

    Args:
      steps: length of the training; at its end the probability is `decay` times the start.
    """
    return start * jnp.power(decay, step / steps)
