"""PANet: few-shot image semantic segmentation with prototype alignment (Wang et al., 2019)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.models.fusion import Probe, attention_maps
from simpropnet_jax.models.layers import Conv, cosine_similarity, upsampled_average
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.models.self_support import cosine_probe

SCALE = 20.0  # of the cosines, before the softmax: calDist in the released code


@register_method('panet', title='PANet')
class PANet(EncodedMethod):
    """Assign pixels to the nearest of two prototypes, by cosine; only the encoder is learned.

    Its second loss, prototype alignment, is `train.alignment`. As released, https://github.com/kaixin96/PANet,
    models/fewshot.py and vgg.py: VGG-16 without its last ReLU, pool4 at stride 1, conv5 dilated, all of it trained.
    On ResNet-50 a linear 3x3 layer follows layer2 and layer3, as in CANet, so that the backbone may stay frozen. It has
    no ReLU either, so that cosines may be negative.
    """

    features: int = 256

    def setup(self):
        self.backbone = self.make_backbone(
            pool=3,
            strides=(2, 2, 2, 1),
            dilations=(1, 1, 1, 1, 2),
            last_relu=False,
        )
        if self.encoder != 'vgg16':
            self.project = Conv(self.features, dilation=2, dtype=self.dtype)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images, positive and negative; at 1/8 of their size on ResNet and VGG-16."""
        del train
        levels = self.backbone(images)
        return levels['conv5'] if self.encoder == 'vgg16' else self.project(self.joined(levels))

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Probe:
        """Compute the prototypes of each support: averages at the masks' size (PANet, Eq. 1 and 2)."""

        def average(weights):
            return upsampled_average(features, weights, self.grid.half_pixel)

        return Probe(average(masks * valid), average((1 - masks) * valid))

    def self_supported(self, features, probe, masks, valid):
        """Mix the probe as published; see `self_support`."""
        return cosine_probe(
            features, probe, self.own_probe(features, masks, valid), (1 - masks) * valid
        )

    def decode(
        self, features: Float[Array, 'b h w c'], probe: Probe, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Return scaled cosines to the two prototypes as logits of background and foreground (PANet, Eq. 3)."""
        del train
        cosines = (
            cosine_similarity(features, probe.background),
            cosine_similarity(features, probe.foreground),
        )
        return SCALE * jnp.stack(cosines, -1)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Probe
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the maps to show for an episode: the shares of the two cosines, like SimPropNet's attention maps."""
        attention = attention_maps(features, probe)
        return {'foreground cosine': attention[..., 0], 'background cosine': attention[..., 1]}
