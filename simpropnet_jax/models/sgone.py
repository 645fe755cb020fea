"""SG-One: similarity guidance network for one-shot semantic segmentation (Zhang et al., 2018)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.layers import Conv, cosine_similarity, upsampled_average
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method

SIDE = 128  # channels of every layer of the segmentation branch, as released


class Features(NamedTuple):
    """Features of an image in both branches: guidance (positive and negative) and segmentation."""

    guidance: Float[Array, '*n h w c']
    side: Float[Array, '*n h w d']


@register_method('sgone', title='SG-One')
class SGOne(EncodedMethod):
    """Weight a query's segmentation features by their similarity to the support's object.

    As released, https://github.com/xiaomengyc/SG-One, oneshot/onemodel_sg-one.py and models/vgg/vgg_sg.py: VGG-16 to
    1/8, read after its poolings 3, 4 and 5, with 4,277,506 parameters on top. On ResNet-50 layer1 is pooled like conv3,
    which has the same channels and size; layer2 and layer3 replace the other two, with 4,867,074 parameters on top. It
    reads three blocks of a ViT.
    """

    features: int = 256
    shots: str = (
        'average'  # K supports: the mean of their vectors, or the 'union' of what each finds
    )

    encodes_alike = False

    def setup(self):
        self.backbone = self.make_backbone(pool=3, strides=(2, 2, 2, 1, 1))
        self.guidance = Conv(self.features, dtype=self.dtype)
        self.side3, self.side4, self.side5 = (Conv(SIDE, dtype=self.dtype) for _ in range(3))
        self.head = SGOneHead(self.dtype)

    def encode(self, images: Float[Array, 'n H W 3'], train: bool = False) -> Features:
        """Compute features of normalised images at 1/8 of their size; each branch's last layer has no ReLU."""
        del train  # there is no dropout
        levels = self.backbone(images)
        if self.encoder == 'vgg16':
            first, second, third = levels['pool3'], levels['pool4'], levels['pool5']
        else:
            first, second, third = self.three(levels)
            if first.shape[1] > second.shape[1]:  # layer1; like the pooling of that VGG-16
                first = nn.max_pool(first, (3, 3), (2, 2), ((1, 1), (1, 1)))
        side = nn.relu(self.side3(first))
        side = nn.relu(self.side4(jnp.concatenate([side, second], -1)))
        return Features(self.guidance(third), self.side5(jnp.concatenate([side, third], -1)))

    def probe_each(
        self, features: Features, masks: Float[Array, 'b k H W'], valid
    ) -> Float[Array, 'b k c']:
        """Average the guidance features over the object."""
        return upsampled_average(features.guidance, masks * valid, self.grid.half_pixel)

    def combine(self, each: Float[Array, 'b k c']) -> Float[Array, 'b *k c']:
        """Return the mean of the vectors [B, C], or all of them for the union."""
        return each if self.shots == 'union' else super().combine(each)

    def decode(
        self, features: Features, probe: Float[Array, 'b *k c'], train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Compute logits of background and foreground; the union takes the most confident support at each position."""
        del train
        if self.shots == 'average':
            return self.head(features, probe)
        batch, shots = probe.shape[:2]
        repeated = jax.tree.map(lambda x: jnp.repeat(x, shots, axis=0), features)
        each = self.head(repeated, probe.reshape(batch * shots, -1))
        each = each.reshape(batch, shots, *each.shape[1:])
        surest = (each[..., 1] - each[..., 0]).argmax(1)
        return jnp.take_along_axis(each, surest[:, None, ..., None], 1)[:, 0]

    def maps(
        self, features: Features, probe: Float[Array, 'b *k c']
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the map to show for an episode: the cosines that guide the segmentation (union: the largest of K)."""
        vectors = jnp.moveaxis(probe[:, None] if self.shots == 'average' else probe, 1, 0)
        cosines = jnp.stack([cosine_similarity(features.guidance, vector) for vector in vectors])
        return {'similarity': cosines.max(0)}


class SGOneHead(nn.Module):
    """Side features times the cosines of the guidance features to the vector, a 3x3 layer, and a linear 1x1.

    Args: features; vector [B, C].
    Returns: logits [B, h, w, 2], float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Features, vector: Float[Array, 'b c']) -> Float[Array, 'b h w 2']:
        similarity = cosine_similarity(features.guidance, vector)[..., None]
        guided = (features.side.astype(jnp.float32) * similarity).astype(features.side.dtype)
        x = nn.relu(Conv(SIDE, dtype=self.dtype, name='fuse')(guided))
        return Conv(2, kernel=1, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
