"""The interface of every few-shot method: encode -> probe -> decode."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from simpropnet_jax.backbones import registry
from simpropnet_jax.backbones.encoder import joined, make_backbone
from simpropnet_jax.models.self_support import mixed
from simpropnet_jax.ops.grid import Grid


class FewShotMethod(nn.Module):
    """Base class of few-shot methods.

    Each method defines:

    encode(images, train):               [N, H, W, 3], normalised -> features [N, h, w, C] (or a pytree), of one image;
    probe_each(features, masks, valid):  [B, K, h, w, C], [B, K, H, W] in [0, 1], and 0 for void -> the part of the
                                         probe from each single support, a small pytree of [B, K, ...];
    combine(each):                       results of K supports -> the probe, [B, ...]; by default the mean;
    decode(features, probe, train):      [B, h, w, C] -> logits of background and foreground [B, h, w, 2];
    maps(features, probe):               maps to show for an episode, name -> [B, h, w].

    If `iterative`, decode also takes history, the softmax of an earlier prediction [B, h, w, 2] (None: zeros), and
    steps, the number of refinements after the first pass.

    A method that needs a support's image and mask together keeps the image in its features.
    """

    supervised = False
    """Whether the method is trained on full labels rather than episodes."""

    few_shot = True
    """Whether the method segments the queries of episodes."""

    imprinting = False
    """Whether the method learns base classes from full labels and imprints novel ones from supports (AMP). It is told
    which classes are novel."""

    iterative = False
    """Whether decode refines an earlier prediction."""

    backbones = {'backbone': 0}
    """Parts that start from ImageNet's weights, with the number of a VGG-16's fully connected layers in each."""

    encodes_alike = True
    """Whether queries and supports use the same features: training then encodes both in one batch."""

    logit_scale = 1.0
    """Factor that turns its logits into logits of probabilities."""

    grid = Grid()
    """Where its features and logits lie in an image."""

    def probe(self, features, masks, valid=None):
        """Compute the probe of K supports [B, K, h, w, C] and masks [B, K, H, W] in [0, 1]: a small pytree [B, ...].

        Args:
          valid: [B, K, H, W], 0 for void pixels, which are neither foreground nor background; None if there are no
            void pixels.
        """
        return self.combine(
            self.probe_each(features, masks, jnp.ones_like(masks) if valid is None else valid)
        )

    def combine(self, each):
        """Return the mean over K supports: SimPropNet, Eq. 4, and most other methods."""
        return jax.tree.map(lambda x: x.mean(1), each)

    def as_novel(self, probe, class_id):
        """Return the probe of training episodes with these classes [B], treated as if they were novel.

        The probe changes only for methods that have weights for their training classes.
        """
        del class_id
        return probe

    def own_probe(self, features, masks, valid):
        """Compute the probe of single images [B, h, w, C] with their masks and valid [B, H, W]."""
        return self.probe(
            jax.tree.map(lambda x: x[:, None], features), masks[:, None], valid[:, None]
        )

    def self_supported(self, features, probe, masks, valid):
        """Return the probe with the queries as extra supports, by masks and valid; see `self_support`."""
        return mixed(probe, self.own_probe(features, masks, valid))

    def __call__(self, images, masks):
        """Run one pass over everything to create the parameters. images [B, H, W, 3], masks [B, H, W]."""
        features = self.encode(images)
        each = jax.tree.map(lambda x: x[:, None], features)
        return self.decode(features, self.probe(each, masks[:, None]))


class EncodedMethod(FewShotMethod):
    """A few-shot method on any encoder of the registry; `setup` of each method builds `backbone`."""

    encoder: str = 'resnet50'
    levels: tuple[str, ...] = ()  # that `read` concatenates; (): the encoder's
    width: int = 64
    depths: tuple[int, ...] = ()  # blocks of a ResNet's stages; (): the encoder's
    deep_stem: bool = False  # of a ResNet
    stride_on: str = '3x3'
    dtype: DTypeLike = jnp.float32

    @property
    def grid(self) -> Grid:
        """Where its features and logits lie in an image."""
        return registry.find(self.encoder).grid

    def make_backbone(self, **vgg) -> nn.Module:
        """Build the encoder; `vgg` are fields of a VGG-16."""
        fields = (self.encoder, self.width, self.stride_on, self.dtype, self.depths, self.deep_stem)
        return make_backbone(*fields, **vgg)

    def joined(self, features):
        """Concatenate the levels that the method reads."""
        return joined(features, self.encoder, self.levels)

    def three(self, features):
        """Return a shallow, a middle and a deep level."""
        return [features[name] for name in registry.find(self.encoder).three]


class SupervisedNetwork(nn.Module):
    """A network that names the class of every pixel: logits(images, train), [N, H, W, 3] -> [N, h, w, classes]."""

    supervised = True
    few_shot = False
    imprinting = False
    iterative = False
    backbones = {'backbone': 0}
    grid = Grid()
