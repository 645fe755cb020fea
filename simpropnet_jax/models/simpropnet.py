"""SimPropNet: improved similarity propagation for few-shot image segmentation (Gairola et al., 2020)."""

from jaxtyping import Array, Float

from simpropnet_jax.models.fusion import (
    AttentiveFusion,
    DenseComparison,
    Probe,
    attention_maps,
    dual_probe,
)
from simpropnet_jax.models.layers import ConvReluDropout, Decoder
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method


@register_method('simpropnet', title='SimPropNet')
class SimPropNet(EncodedMethod):
    """Shared encoder, dual probe, attentive fusion, shared decoder: Figure 2 of the paper.

    Without `fbaf` the fusion is CANet's dense comparison: the baseline and the "DPr" row of the paper's Table 4.
    """

    fbaf: bool = True
    fbaf_activation: str = 'none'
    attention_gain: float = 1.0
    features: int = 256
    dropout: float = 0.5

    def setup(self):
        self.backbone = self.make_backbone()
        self.project = ConvReluDropout(
            self.features, dilation=2, dropout=self.dropout, dtype=self.dtype
        )
        if self.fbaf:
            self.fusion = AttentiveFusion(self.fbaf_activation, self.attention_gain, self.dtype)
        else:
            self.fusion = DenseComparison(self.dropout, self.dtype)
        self.decoder = Decoder(features=self.features, dropout=self.dropout, dtype=self.dtype)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images: the encoder's levels, joined, and a 3x3 layer."""
        return self.project(self.joined(self.backbone(images)), train)

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Probe:
        """Compute the dual probe of each support (Eq. 1); `combine` is Eq. 4."""
        return dual_probe(features, masks, valid, self.grid.half_pixel)

    def decode(
        self, features: Float[Array, 'b h w c'], probe: Probe, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Compute logits of background and foreground: Eq. 2, Eq. 3 and the decoder."""
        return self.decoder(self.fusion(features, probe, train), train)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Probe
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the maps to show for an episode: the attention maps of Eq. 2."""
        attention = attention_maps(features, probe)
        return {
            'foreground attention': attention[..., 0],
            'background attention': attention[..., 1],
        }
