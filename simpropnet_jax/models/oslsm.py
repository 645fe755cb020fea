"""OSLSM: one-shot learning for semantic segmentation (Shaban et al., 2017)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.encoder import make_backbone
from simpropnet_jax.models.layers import Conv, ConvReluDropout, largest, resize_mask
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.ops.resize import resize_bilinear

CODE = 1000  # length of a support's code: fc8, which has one output per ImageNet class
SIDE_OF_SUPPORTS = (
    224  # as the conditioning branch sees them: as published, or the next that fits the features
)
# Padding around the image, in pixels: fc6, which has no padding, then has its positions at pixels 0, 32, 64, ...
MARGINS = (112, 111)


class Regression(NamedTuple):
    """A logistic regression for each of K supports: its weights [B, K, C] and bias [B, K], float32."""

    weights: Float[Array, 'b k c']
    bias: Float[Array, 'b k']


@register_method('oslsm', title='OSLSM')
class OSLSM(EncodedMethod):
    """Turn a support, with everything but its object painted over, into a logistic regression of pixels.

    As released, https://github.com/lzzcd001/OSLSM, train_ss_os_fc.prototxt, on VGG-16: both branches start from
    ImageNet, the conditioning branch up to fc8, the segmentation branch with fc6 and fc7 as convolutions (FCN-32s).
    There are 272,618,088 parameters, and 4,097,000 fixed ones in the hashing. On ResNet-50 both backbones may stay
    frozen: after layer2 and layer3, two layers replace fc6 and fc7; after the average of layer3, as in ResNet's
    classifier, two more replace fc7 and fc8.
    """

    features: int = 256
    dropout: float = 0.5

    backbones = {'backbone': 2, 'conditioning': 3}
    encodes_alike = False

    def setup(self):
        def branch(layers):
            return make_backbone(
                self.encoder,
                self.width,
                self.stride_on,
                self.dtype,
                self.depths,
                self.deep_stem,
                strides=(2, 2, 2, 2, 2),
                fully_connected=layers,
                dropout=self.dropout,
            )

        self.backbone, self.conditioning = (branch(layers) for layers in self.backbones.values())
        if self.encoder != 'vgg16':

            def layer(kernel, dilation):
                return ConvReluDropout(self.features, kernel, dilation, self.dropout, self.dtype)

            self.fc6, self.fc7 = layer(3, 2), layer(1, 1)
            self.condition_fc7, self.condition_fc8 = (
                layer(1, 1),
                Conv(CODE, kernel=1, dtype=self.dtype),
            )
            channels, scale = self.features, self.features**-0.5
        else:
            channels, scale = 64 * self.width, 1.0
        self.hashing = self.param('hashing', hashing, (CODE, channels + 1), scale)

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> dict[str, Float[Array, 'n _ _ _']]:
        """Compute features of normalised images (at 1/8 of their size, VGG-16: 1/32), and keep the images for `probe`.

        The images are in the dtype of the computation; the conditioning branch would cast them anyway.
        """
        side = SIDE_OF_SUPPORTS
        if self.encoder == 'vgg16':
            padded = jnp.pad(images, ((0, 0), MARGINS, MARGINS, (0, 0)))
            features = self.backbone(padded, train)['fc7']
        else:
            side = self.grid.nearest(side)
            features = self.fc7(self.fc6(self.joined(self.backbone(images)), train), train)
        return {
            'features': features,
            'image': resize_bilinear(images, (side, side)).astype(self.dtype),
        }

    def probe_each(
        self, features: dict[str, Float[Array, 'b k _ _ _']], masks: Float[Array, 'b k H W'], valid
    ) -> Regression:
        """Compute the regression of each support from its image times its mask (section 4.1 of the paper).

        Outside the mask is ImageNet's mean colour, which is zero. Void pixels are outside.
        """
        images = features['image']
        batch, shots, *shape = images.shape
        masks = resize_mask(masks * valid, tuple(shape[:2]))
        masked = (images.astype(jnp.float32) * masks[..., None]).astype(images.dtype)
        code = self._code(masked.reshape(batch * shots, *shape)).astype(jnp.float32)
        hashed = jnp.einsum(
            'bko,oc->bkc', code.reshape(batch, shots, CODE), self.hashing, precision='highest'
        )
        return Regression(hashed[..., :-1], hashed[..., -1])

    def combine(self, each: Regression) -> Regression:
        """Keep all regressions: `decode` unites their masks."""
        return each

    def _code(self, images):
        """[N, side, side, 3] -> [N, CODE]."""
        train = self.has_rng('dropout')  # `probe` has no `train`; only training has this key
        if self.encoder == 'vgg16':
            return self.conditioning(images, train)['fc8'][:, 0, 0]
        deep = self.conditioning(images)[registry.find(self.encoder).three[-1]]
        average = deep.astype(jnp.float32).mean((1, 2), keepdims=True)
        return self.condition_fc8(self.condition_fc7(average, train))[:, 0, 0]

    def decode(
        self, features: dict[str, Float[Array, 'b _ _ _']], probe: Regression, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Compute logits of background (zero) and foreground; several supports give the largest, a union of masks."""
        del train
        given = features['features'].astype(jnp.float32)
        logits = (
            jnp.einsum('bhwc,bkc->bhwk', given, probe.weights, precision='highest')
            + probe.bias[:, None, None]
        )
        logits = largest(logits)
        return jnp.stack([jnp.zeros_like(logits), logits], -1)

    def maps(
        self, features: dict[str, Float[Array, 'b _ _ _']], probe: Regression
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the map to show for an episode: the foreground's probability."""
        return {'probability': nn.sigmoid(self.decode(features, probe)[..., 1])}


def hashing(key, shape: tuple[int, int], scale: float) -> Float[Array, 'code c']:
    """Return a matrix that maps every output to one random input or its negative (section 4.1).

    Args:
      scale: factor of the outputs, 1 as published. With fewer than 4,096 channels C, all newly initialised, a scale of
        1/sqrt(C) makes logits start near one.
    """
    which, sign = jax.random.split(key)
    one = jax.nn.one_hot(jax.random.randint(which, shape[1:], 0, shape[0]), shape[0], axis=0)
    return scale * one * jax.random.rademacher(sign, shape[1:], jnp.float32)
