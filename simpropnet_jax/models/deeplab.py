"""DeepLab v3+, the supervised oracle: Chen et al. 2018, https://arxiv.org/abs/1802.02611.

It is trained on the novel classes, which few-shot methods never see. Its lead over them is what supports cannot tell.
"""

import math

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.resnet import BackboneConv, ResNet
from simpropnet_jax.models.layers import tile
from simpropnet_jax.models.method import SupervisedNetwork
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.ops.resize import resize_bilinear

# Output stride 16: layer4 keeps the resolution and dilates.
STRIDES = (1, 2, 2, 1)
DILATIONS = (1, 1, 1, 2)
RATES = (6, 12, 18)  # dilations of the pyramid, at output stride 16
LOW_LEVEL = 48  # channels of the features at stride 4
GROUP = 16  # channels of a group of a norm


class Block(nn.Module):
    """Convolution, group norm (Wu and He 2018), ReLU.

    The paper has batch norm here, fine-tuned with 16 images per device. Group norm does not need large batches and is
    the same in training and evaluation. The backbone's batch norm is folded into its convolutions, as for all methods.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w d']:
        x = BackboneConv(
            self.features, self.kernel, dilation=self.dilation, dtype=self.dtype, name='conv'
        )(x)
        group = math.gcd(GROUP, self.features)
        return nn.relu(
            nn.GroupNorm(None, epsilon=1e-5, group_size=group, dtype=self.dtype, name='norm')(x)
        )


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1, a 3x3 at each rate, and the mean of the image; then 1x1."""

    features: int = 256
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h w d']:
        def block(name, *args):
            return Block(self.features, *args, dtype=self.dtype, name=name)

        branches = [block('conv1x1', 1)(x)] + [block(f'rate{rate}', 3, rate)(x) for rate in RATES]
        pooled = block('image_pooling', 1)(x.mean((1, 2), keepdims=True))
        branches.append(tile(pooled[:, 0, 0], x))
        return block('fuse', 1)(jnp.concatenate(branches, -1))


@register_method('deeplab', title='DeepLab v3+', recipe='deeplabv3plus')
class DeepLab(SupervisedNetwork):
    """DeepLab v3+ on a ResNet. With three `depths` the pyramid reads layer3, also at output stride 16."""

    stride_on: str  # '1x1' for Keras' weights, '3x3' for torchvision's
    width: int = 64  # filters of the ResNet's stem
    depths: tuple[int, ...] = (3, 4, 6, 3)
    deep_stem: bool = False
    features: int = 256  # filters of the pyramid and of the decoder
    classes: int = 21
    dtype: DTypeLike = jnp.float32
    encoder: str = 'resnet50'  # a ResNet of the registry; `depths` has its stages

    def setup(self):
        found = registry.find(self.encoder)
        if found.network != registry.RESNET:
            raise ValueError(
                f'config.model.encoder is {self.encoder!r}, but deeplab reads the stages of a ResNet at strides 4 and '
                '16, which other encoders lack. Choose a ResNet'
            )
        self.backbone = ResNet(
            self.stride_on,
            self.width,
            tuple(self.depths),
            STRIDES,
            DILATIONS,
            self.dtype,
            self.deep_stem or found.fields.get('deep_stem', False),
        )
        self.pyramid = Pyramid(self.features, self.dtype)
        self.low_level = Block(LOW_LEVEL, 1, dtype=self.dtype)
        self.decoder1 = Block(self.features, dtype=self.dtype)
        self.decoder2 = Block(self.features, dtype=self.dtype)
        self.classify = BackboneConv(self.classes, 1, dtype=self.dtype)

    def __call__(self, images, masks):
        """Run one pass to create the parameters; the masks are not used, as there are no supports."""
        del masks
        return self.logits(images)

    def logits(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w k']:
        """Compute logits of every class at 1/4 of the images' size; images follow the backbone's convention."""
        del train  # training and evaluation are the same
        found = self.backbone(images)
        low, deep = found['layer1'], found[f'layer{len(self.depths)}']
        deep = resize_bilinear(self.pyramid(deep), low.shape[1:3])
        x = jnp.concatenate([deep, self.low_level(low)], -1)
        return self.classify(self.decoder2(self.decoder1(x))).astype(jnp.float32)
