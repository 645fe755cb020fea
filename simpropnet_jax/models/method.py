"""The seam of every few-shot method: encode -> probe -> decode."""

import flax.linen as nn


class FewShotMethod(nn.Module):
    """What the methods share. Each defines

    encode(images, train):           [N, H, W, 3], normalised -> features [N, h, w, C] (or a pytree), of one image;
    probe(features, masks, valid):   [B, K, h, w, C], [B, K, H, W] in [0, 1], and 0 where void -> a small pytree;
    decode(features, probe, train):  [B, h, w, C] -> logits of background and foreground [B, h, w, 2];
    maps(features, probe):           what to show of an episode, name -> [B, h, w].

    Where `iterative`, decode also takes history, the softmax of an earlier prediction [B, h, w, 2] (None: zeros), and
    steps, how many refinements follow its first pass.
    """

    iterative = False

    def encode_support(self, images, masks, train: bool = False, features=None):
        """Features of support images. They do not depend on the masks, but for methods that override this.

        Args:
          features: what `encode` gave for the same images, where that is at hand.
        """
        del masks
        return self.encode(images, train) if features is None else features

    def __call__(self, images, masks):
        """One pass over everything, to create the parameters. images [B, H, W, 3], masks [B, H, W]."""
        features = self.encode_support(images, masks)
        return self.decode(features, self.probe(features[:, None], masks[:, None]))
