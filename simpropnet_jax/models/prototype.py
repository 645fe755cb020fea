"""The training-free prototype: segmentation with frozen features only."""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones.resnet import ResNet
from simpropnet_jax.models.fusion import Probe, attention_maps, dual_probe
from simpropnet_jax.models.layers import cosine_similarity
from simpropnet_jax.models.method import FewShotMethod
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.models.self_support import cosine_probe


@register_method('prototype', title='prototype')
class Prototype(FewShotMethod):
    """Compare cosines to the foreground and background masked averages of layer2 + layer3. No parameters."""

    width: int = 64
    stride_on: str = '3x3'
    dtype: DTypeLike = jnp.float32

    logit_scale = 10.0  # as in SSP: unscaled cosines differ too little

    def setup(self):
        self.backbone = ResNet(width=self.width, stride_on=self.stride_on, dtype=self.dtype)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images at 1/8 of their size."""
        del train
        levels = self.backbone(images)
        return jnp.concatenate([levels['layer2'], levels['layer3']], -1)

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Probe:
        """Compute foreground and background masked averages."""
        return dual_probe(features, masks, valid)

    def self_supported(self, features, probe, masks, valid):
        """Mix the probe as published; see `self_support`."""
        return cosine_probe(
            features, probe, self.own_probe(features, masks, valid), (1 - masks) * valid
        )

    def decode(
        self, features: Float[Array, 'b h w c'], probe: Probe, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Return the two cosines as logits of background and foreground."""
        del train
        cosines = (
            cosine_similarity(features, probe.background),
            cosine_similarity(features, probe.foreground),
        )
        return jnp.stack(cosines, -1)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Probe
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the maps to show for an episode: the attention maps of SimPropNet's Eq. 2."""
        attention = attention_maps(features, probe)
        return {
            'foreground attention': attention[..., 0],
            'background attention': attention[..., 1],
        }
