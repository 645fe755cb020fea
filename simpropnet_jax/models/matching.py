"""Matching: many prototypes a support, seeds in the query, and the pixels like them. Nothing is trained.

The steps are those of INSID3 (Cuttano et al., 2026, https://arxiv.org/abs/2603.28480), for any encoder: match across
the images, keep what matches back as seeds, and grow the seeds by similarity within the query.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.backbones import registry
from simpropnet_jax.models.layers import resize_mask
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method

CONFIDENT = 0.6  # share from which a pixel is a seed; if no pixel has it, the surest ones are


class Clustered(NamedTuple):
    """Unit vectors of the foreground and the background: [B, K, P, C], or [B, K * P, C] of all supports together."""

    foreground: Float[Array, '*b p c']
    background: Float[Array, '*b p c']


@register_method('matching', title='matching')
class Matching(EncodedMethod):
    """Compare each query pixel with its best prototypes, then with the query's own seeds. No parameters.

    Memory: beside its features a query needs its cosines with all prototypes, 8 K P h w bytes: 4.3 MB for 5 supports,
    64 prototypes and 41 x 41 features. Cosines of all pairs of pixels are never stored.
    """

    shallow: float = 0.5
    prototypes: int = 64
    steps: int = 5
    nearest: int = 5
    backward: float = 0.3
    margin: float = 0.05
    seeds: float = 0.5
    seed_margin: float = 0.01

    logit_scale = 100.0  # differences of cosines are a few hundredths

    def setup(self):
        self.backbone = self.make_backbone()

    def encode(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w c']:
        """Compute unit vectors from normalised images: levels of fixed lengths, joined."""
        del train
        deepest = (self.levels or registry.find(self.encoder).read)[-1]
        levels = {
            name: unit(level) * (1 if name == deepest else self.shallow)
            for name, level in self.backbone(images).items()
        }
        return unit(self.joined(levels)).astype(self.dtype)

    def probe_each(
        self, features: Float[Array, 'b k h w c'], masks: Float[Array, 'b k H W'], valid
    ) -> Clustered:
        """Cluster the pixels of each support's foreground and background."""
        x, size = flat(features), features.shape[-3:-1]

        def of(share):
            weights = resize_mask(share, size, self.grid.half_pixel)
            return clusters(x, weights.reshape(x.shape[:-1]), self.prototypes, self.steps)

        return Clustered(of(masks * valid), of((1 - masks) * valid))

    def combine(self, each: Clustered) -> Clustered:
        """Keep the prototypes of all supports."""
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, x.shape[-1]), each)

    def self_supported(self, features, probe, masks, valid):
        """Add the query's prototypes to those of the supports; see `self_support`."""
        own = self.own_probe(features, masks, valid)
        return jax.tree.map(lambda ours, other: jnp.concatenate([ours, other], 1), probe, own)

    def decode(
        self, features: Float[Array, 'b h w c'], probe: Clustered, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Return similarities to background and foreground as logits."""
        del train
        x = flat(features)
        scores = self.matched(x, probe)
        if self.seeds:
            logits = self.logit_scale * (difference(scores) + self.margin)
            scores = scores + self.seeds * like_seeds(x, logits)
        margin = self.seed_margin if self.seeds else self.margin
        return scores.at[..., 1].add(margin).reshape(*features.shape[:3], 2)

    def matched(self, x: Float[Array, 'b n c'], probe: Clustered) -> Float[Array, 'b n 2']:
        """Return each pixel's mean cosine to its `nearest` prototypes of background and foreground.

        A foreground prototype matches back to the one pixel that is most like it. For each other pixel it loses
        `backward` times the difference.
        """
        background = best(cosines(x, probe.background), self.nearest)
        foreground = cosines(x, probe.foreground)
        foreground -= self.backward * (foreground.max(1, keepdims=True) - foreground)
        return jnp.stack([background, best(foreground, self.nearest)], -1)

    def maps(
        self, features: Float[Array, 'b h w c'], probe: Clustered
    ) -> dict[str, Float[Array, 'b h w']]:
        """Return the maps to show for an episode: the probability after matching, and after the seeds."""
        matched = difference(self.matched(flat(features), probe)) + self.margin
        first = jax.nn.sigmoid(self.logit_scale * matched).reshape(features.shape[:3])
        last = jax.nn.sigmoid(self.logit_scale * difference(self.decode(features, probe)))
        return {'best match': first, 'with seeds': last}


def unit(x: Float[Array, '*b c']) -> Float[Array, '*b c']:
    """Scale vectors to length one, in float32; zero stays zero."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def flat(features: Float[Array, '*b h w c']) -> Float[Array, '*b n c']:
    """Put all pixels on one axis."""
    return features.reshape(*features.shape[:-3], -1, features.shape[-1])


def difference(scores: Float[Array, '*b 2']) -> Float[Array, '*b']:
    """Return foreground minus background."""
    return scores[..., 1] - scores[..., 0]


def cosines(x: Float[Array, '*b n c'], y: Float[Array, '*b p c']) -> Float[Array, '*b n p']:
    """Return the products of all pairs, in float32."""
    y = y.astype(x.dtype)
    return jnp.einsum('...nc,...pc->...np', x, y, preferred_element_type=jnp.float32)


def best(similar: Float[Array, '*b p'], count: int) -> Float[Array, '*b']:
    """Return the mean of the largest `count`, or of all if there are fewer."""
    return jax.lax.top_k(similar, min(count, similar.shape[-1]))[0].mean(-1)


def clusters(
    x: Float[Array, '*b n c'], weights: Float[Array, '*b n'], count: int, steps: int
) -> Float[Array, '*b p c']:
    """Cluster weighted unit vectors by their cosines (spherical k-means) with a fixed number of steps.

    It starts at pixels at equal shares of the weights, in reading order. A cluster that loses its pixels stays where
    it was. Without any weight all centres are zero.
    """
    x, weights = x.astype(jnp.float32), weights.astype(jnp.float32)
    sums = jnp.cumsum(weights, -1)
    at = (jnp.arange(count) + 0.5) / count * sums[..., -1:]
    first = (sums[..., None, :] <= at[..., None]).sum(-1).clip(max=x.shape[-2] - 1)
    centres = jnp.take_along_axis(x, first[..., None], -2) * (sums[..., -1:, None] > 0)

    def step(_, centres):
        nearest = cosines(x, centres).argmax(-1)
        members = jax.nn.one_hot(nearest, count) * weights[..., None]
        moved = unit(jnp.einsum('...np,...nc->...pc', members, x))
        return jnp.where((members.sum(-2) > 0)[..., None], moved, centres)

    return jax.lax.fori_loop(0, steps, step, centres)


def like_seeds(x: Float[Array, 'b n c'], logits: Float[Array, 'b n']) -> Float[Array, 'b n 2']:
    """Return each pixel's mean cosine to the confident pixels of the background and of the foreground.

    A mean of cosines is the cosine to the mean of unit vectors, so pairs of pixels are not needed.
    """
    foreground = jax.nn.sigmoid(logits)
    shares = jnp.stack([1 - foreground, foreground], 1)  # [b, 2, n]
    least = jnp.minimum(CONFIDENT, shares.max(-1, keepdims=True))
    seeds = jnp.where(shares >= least, shares, 0)
    seeds = seeds / jnp.maximum(seeds.sum(-1, keepdims=True), 1e-6)
    return cosines(x, jnp.einsum('bsn,bnc->bsc', seeds, x.astype(jnp.float32)))
