"""CANet: class-agnostic segmentation with iterative refinement and attentive few-shot learning (Zhang et al., 2019)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.models.fusion import DenseComparison
from simpropnet_jax.models.layers import Conv, ConvReluDropout, Decoder, masked_average, resize_mask
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method


@register_method('canet', title='CANet')
class CANet(EncodedMethod):
    """Shared encoder, dense comparison with the foreground's average, and a decoder that sees its earlier answer.

    As released, https://github.com/icoz69/CaNet, one_shot_network.py; the attention over supports was never released.
    """

    features: int = 256
    dropout: float = 0.5
    shots: str = 'average'  # K supports are fused by the mean of their averages, or by 'attention' as in the paper
    refinements: int = 4  # passes after the first one, when not training

    iterative = True

    def setup(self):
        self.backbone = self.make_backbone()
        self.project = ConvReluDropout(
            self.features, dilation=2, dropout=self.dropout, dtype=self.dtype
        )
        self.fusion = DenseComparison(self.dropout, self.dtype)
        self.decoder = Decoder(features=self.features, dropout=self.dropout, dtype=self.dtype)
        if self.shots == 'attention':
            self.attention = ShotAttention(self.dtype)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute features of normalised images: the encoder's levels, joined, and a 3x3 layer."""
        return self.project(self.joined(self.backbone(images)), train)

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Float[Array, 'b k c']:
        """Compute the foreground masked average of each support."""
        return masked_average(features, self._resized(masks * valid, features))

    def _resized(self, masks, features):
        return resize_mask(masks, features.shape[2:4], self.grid.half_pixel)

    def combine(self, each: Float[Array, 'b k c']) -> Float[Array, 'b *k c']:
        """Return all averages [B, K, C] for the attention, which needs the query first; else their mean [B, C]."""
        return each if self.shots == 'attention' else super().combine(each)

    def decode(
        self,
        features: Float[Array, 'b h w c'],
        probe: Float[Array, 'b *k c'],
        train: bool = False,
        history: Float[Array, 'b h w 2'] | None = None,
        steps: int | None = None,
    ) -> Float[Array, 'b h w 2']:
        """Compute logits of background and foreground: one pass, then refinements, each given the previous softmax.

        Args:
          history: softmax of an earlier prediction, for the first pass; None means zeros.
          steps: number of refinements; None means 0 in training and `refinements` otherwise.
        """
        x = self.compare(features, probe, train)
        begun = self.fusion.begin(x)

        def predict(module, history):
            return module.decoder(module.fusion.refine(x, begun, history), train)

        def refine(module, logits, _):
            return predict(module, nn.softmax(logits)), None

        logits = predict(self, history)
        steps = (0 if train else self.refinements) if steps is None else steps
        if steps:
            rngs = {'params': False, 'dropout': True}
            loop = nn.scan(refine, variable_broadcast='params', split_rngs=rngs, length=steps)
            logits, _ = loop(self, logits, None)
        return logits

    def compare(
        self, features: Float[Array, 'b h w c'], probe: Float[Array, 'b *k c'], train: bool = False
    ) -> Float[Array, 'b h w c']:
        """Compute the dense comparison; for several supports, the sum weighted by the attention."""
        if self.shots != 'attention':
            return self.fusion.compare(features, probe, train)
        batch, shots = probe.shape[:2]
        repeated = jnp.repeat(features, shots, axis=0)
        each = self.fusion.compare(repeated, probe.reshape(batch * shots, -1), train)
        weights = jax.nn.softmax(self.attention(each).reshape(batch, shots))
        each = each.reshape(batch, shots, *each.shape[1:])
        return jnp.einsum('bkhwc,bk->bhwc', each.astype(jnp.float32), weights).astype(each.dtype)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Float[Array, 'b *k c']
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the map to show for an episode: the foreground's probability after the first pass."""
        return {'before refinement': nn.softmax(self.decode(features, probe, steps=0))[..., 1]}


class ShotAttention(nn.Module):
    """Weight of a support before the softmax over supports: the attention branch of CANet's paper.

    The paper gives two 3x3 convolutions, max pooling between them and an average over the image. ReLUs, the pooling's
    stride of 2 (as in ResNet) and the linear layer after the average are choices made here. There is no dropout.

    Args: x [N, h, w, C], a dense comparison for each support.
    Returns: [N], float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, ' n']:
        x = nn.relu(Conv(dtype=self.dtype, name='conv1')(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x = nn.relu(Conv(dtype=self.dtype, name='conv2')(x)).astype(jnp.float32)
        return Conv(1, kernel=1, name='weight')(x.mean((1, 2), keepdims=True))[:, 0, 0, 0]
