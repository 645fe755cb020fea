"""The seam of every few-shot method: encode -> probe -> decode."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from simpropnet_jax.models.self_support import mixed


class FewShotMethod(nn.Module):
    """What the methods share.

    Each defines:

    encode(images, train):               [N, H, W, 3], normalised -> features [N, h, w, C] (or a pytree), of one image;
    probe_each(features, masks, valid):  [B, K, h, w, C], [B, K, H, W] in [0, 1], and 0 where void -> what is kept of
                                         each support by itself, a small pytree of [B, K, ...];
    combine(each):                       that of K supports -> the probe, [B, ...]; here their mean;
    decode(features, probe, train):      [B, h, w, C] -> logits of background and foreground [B, h, w, 2];
    maps(features, probe):               what to show of an episode, name -> [B, h, w].

    Where `iterative`, decode also takes history, the softmax of an earlier prediction [B, h, w, 2] (None: zeros), and
    steps, how many refinements follow its first pass.

    A method whose supports need image and mask together has the image among its features.
    """

    supervised = False
    """Whether it is trained on whole labels, not on episodes."""

    few_shot = True
    """Whether it segments the queries of episodes."""

    imprinting = False
    """Whether it learns the base classes from whole labels and imprints novel ones from supports: it is told which
    classes are novel."""

    iterative = False
    """Whether decode refines an earlier prediction."""

    backbones = {'backbone': 0}
    """Its parts that begin with ImageNet's weights; how many of a VGG-16's fully connected layers each of them has."""

    encodes_alike = True
    """Whether all features of an image are used, be it query or support: a training then encodes both in one batch."""

    logit_scale = 1.0
    """The factor at which its logits are those of probabilities."""

    def probe(self, features, masks, valid=None):
        """What is kept of K supports [B, K, h, w, C] and masks [B, K, H, W] in [0, 1]: a small pytree of [B, ...].

        Args:
          valid: [B, K, H, W], 0 where a pixel belongs neither to the foreground nor to the background (void); None: all
            belong to one.
        """
        return self.combine(
            self.probe_each(features, masks, jnp.ones_like(masks) if valid is None else valid)
        )

    def combine(self, each):
        """The mean over K supports: SimPropNet, Eq. 4, and most others."""
        return jax.tree.map(lambda x: x.mean(1), each)

    def as_novel(self, probe, class_id):
        """The probe of a training episode of these classes [B], which are to be met as though they were novel.

        The same probe, but for methods that have weights of the classes they were trained on.
        """
        del class_id
        return probe

    def own_probe(self, features, masks, valid):
        """The probe of single images [B, h, w, C] with their masks and valid [B, H, W]."""
        return self.probe(
            jax.tree.map(lambda x: x[:, None], features), masks[:, None], valid[:, None]
        )

    def self_supported(self, features, probe, masks, valid):
        """The probe, once the queries have become their own supports by masks and valid; see `self_support`."""
        return mixed(probe, self.own_probe(features, masks, valid))

    def __call__(self, images, masks):
        """One pass over everything, to create the parameters. images [B, H, W, 3], masks [B, H, W]."""
        features = self.encode(images)
        each = jax.tree.map(lambda x: x[:, None], features)
        return self.decode(features, self.probe(each, masks[:, None]))


class SupervisedNetwork(nn.Module):
    """A network that names the class of every pixel: logits(images, train), [N, H, W, 3] -> [N, h, w, classes]."""

    supervised = True
    few_shot = False
    imprinting = False
    iterative = False
    backbones = {'backbone': 0}
