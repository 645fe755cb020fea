"""The seam of every few-shot method: encode -> probe -> decode."""

import flax.linen as nn
import jax

from simpropnet_jax.models.self_support import mixed


class FewShotMethod(nn.Module):
    """What the methods share. Each defines

    encode(images, train):           [N, H, W, 3], normalised -> features [N, h, w, C] (or a pytree), of one image;
    probe(features, masks, valid):   [B, K, h, w, C], [B, K, H, W] in [0, 1], and 0 where void -> a small pytree;
    decode(features, probe, train):  [B, h, w, C] -> logits of background and foreground [B, h, w, 2];
    maps(features, probe):           what to show of an episode, name -> [B, h, w].

    Where `iterative`, decode also takes history, the softmax of an earlier prediction [B, h, w, 2] (None: zeros), and
    steps, how many refinements follow its first pass.

    A method whose supports need image and mask together has the image among its features.
    """

    iterative = False
    backbones = {'backbone': 0}
    """Its parts that begin with ImageNet's weights; how many of a VGG-16's fully connected layers each of them has."""

    logit_scale = 1.0
    """The factor at which its logits are those of probabilities."""

    def as_novel(self, probe, class_id):
        """The probe of a training episode of these classes [B], which are to be met as though they were novel.

        The same probe, but for methods that have weights of the classes they were trained on.
        """
        del class_id
        return probe

    def own_probe(self, features, masks, valid):
        """The probe of single images [B, h, w, C] with their masks and valid [B, H, W]."""
        return self.probe(jax.tree.map(lambda x: x[:, None], features), masks[:, None], valid[:, None])

    def self_supported(self, features, probe, masks, valid):
        """The probe, once the queries have become their own supports by masks and valid; see `self_support`."""
        return mixed(probe, self.own_probe(features, masks, valid))

    def __call__(self, images, masks):
        """One pass over everything, to create the parameters. images [B, H, W, 3], masks [B, H, W]."""
        features = self.encode(images)
        each = jax.tree.map(lambda x: x[:, None], features)
        return self.decode(features, self.probe(each, masks[:, None]))
