"""The training-free prototype: segmentation with frozen features only."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.models.fusion import Probe, attention_maps, dual_probe
from simpropnet_jax.models.layers import cosine_similarity
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.models.self_support import cosine_probe


@register_method('prototype', title='prototype')
class Prototype(EncodedMethod):
    """Compare cosines to the foreground and background masked averages of joined levels. No parameters."""

    logit_scale = 10.0  # as in SSP: unscaled cosines differ too little

    def setup(self):
        self.backbone = self.make_backbone()

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images: the encoder's levels, joined."""
        del train
        return self.joined(self.backbone(images))

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Probe:
        """Compute foreground and background masked averages."""
        return dual_probe(features, masks, valid, self.grid.half_pixel)

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
