"""co-FCN: conditional networks for few-shot semantic segmentation (Rakelly et al., 2018), with late fusion."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.fusion import Probe
from simpropnet_jax.models.layers import Conv, ConvReluDropout, upsampled_average
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method


@register_method('cofcn', title='co-FCN')
class CoFCN(EncodedMethod):
    """A fully convolutional network; its last layers also see the support's positive and negative annotations.

    As released by its authors in https://github.com/shelhamer/revolver, revolver/model/cofeat_late_lite_unshared.py:
    VGG-16 to 1/32, a 7x7 layer (fc6) of 256 channels, and two 1x1 layers; 7,014,914 parameters after the backbone.
    On ResNet-50 CANet's 3x3 layer takes the place of fc6: 4,131,330 parameters.
    """

    features: int = 256
    dropout: float = 0.5

    def setup(self):
        self.backbone = self.make_backbone(pool=3, strides=(2, 2, 2, 2, 2))
        fc6 = {'kernel': 7} if self.encoder == 'vgg16' else {'dilation': 2}
        self.project = ConvReluDropout(self.features, dropout=self.dropout, dtype=self.dtype, **fc6)
        self.head = CoFCNHead(self.dropout, self.dtype)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images, at 1/8 of their size on ResNet-50 and at 1/32 on VGG-16."""
        levels = self.backbone(images)
        return self.project(
            levels['pool5'] if self.encoder == 'vgg16' else self.joined(levels), train
        )

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Probe:
        """Average over the positive and over the negative annotation, each divided by its mass."""

        def average(annotation):
            return upsampled_average(features, annotation, self.grid.half_pixel)

        return Probe(average(masks * valid), average((1 - masks) * valid))

    def decode(
        self, features: Float[Array, 'b h w c'], probe: Probe, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Compute logits of background and foreground."""
        return self.head(features, probe, train)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Probe
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the map to show for an episode: the foreground's probability."""
        return {'foreground': nn.softmax(self.decode(features, probe))[..., 1]}


class CoFCNHead(nn.Module):
    """Two 1x1 layers, fc7 and the scores, over [features, negative average, positive average].

    Args: features [B, h, w, C]; probe: averages, [B, C] each.
    Returns: logits [B, h, w, 2], float32.
    """

    dropout: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, features: Float[Array, 'b h w c'], probe: Probe, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        support = jnp.concatenate([probe.background, probe.foreground], -1)
        block = ConvReluDropout(
            3 * features.shape[-1], kernel=1, dropout=self.dropout, dtype=self.dtype, name='fc7'
        )
        x = block(features, train, constant=support)
        return Conv(2, kernel=1, dtype=self.dtype, name='logits')(x).astype(jnp.float32)
