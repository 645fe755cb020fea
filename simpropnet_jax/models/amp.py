"""AMP: adaptive masked proxies for few-shot segmentation (Siam et al., 2019)."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from simpropnet_jax.backbones import registry
from simpropnet_jax.models.layers import Conv, largest, upsampled_average
from simpropnet_jax.models.method import EncodedMethod
from simpropnet_jax.models.registry import register_method
from simpropnet_jax.ops.resize import resize_bilinear

SCALE = 20.0  # initial scale of the cosines, which is learned: CosineSimLayer in the released code
EXCLUDED = -1e4  # score that removes a class from softmax and maximum
NONE = -1  # no class


class Levels(NamedTuple):
    """Features after a ReLU, each [N, h, w, C], at 1/8 of the images' size; ResNet's layer1 at 1/4."""

    deep: Float[Array, 'n h w c']
    middle: Float[Array, 'n h w c']
    shallow: Float[Array, 'n h w c']


class Proxies(NamedTuple):
    """Weights that classify a query's pixels: a unit vector for each level, concatenated."""

    novel: Float[Array, 'b c']
    background: Float[Array, 'b c']
    hidden: Int[Array, ' b']  # a training class to treat as novel; NONE if there is none


@register_method('amp', title='AMP')
class AMP(EncodedMethod):
    """A network that classifies the base classes; a novel class's weights are imprinted from its supports.

    As released, https://github.com/MSiam/AdaptiveMaskedProxies, reduced_fcn.py, dilated_fcn.py, fcn.py and
    cosine_sim.py: the scores of three bias-free cosine classifiers are added. On VGG-16 they read conv5 after a 1x1
    layer, conv4, and pool3, all at 1/8 of the images' size: 14,867,523 parameters. On ResNet-50 they read layer2 and
    layer3 after CANet's 3x3 layer, and layer2 and layer1 after a 1x1 layer each, because the backbone is not trained:
    3,889,155 parameters on top of it. They include unused rows for the fold's novel classes, 5 of 21.
    """

    supervised = True
    imprinting = True

    features: int = 256  # filters of the layer after the backbone
    alpha: float = (
        0.25821  # share of the supports' background in the adapted weight of the background
    )
    dropout: float = 0.5
    novel: tuple[int, ...] = ()  # class ids that the fold holds out
    classes: int = 21

    def setup(self):
        self.backbone = self.make_backbone(
            ceil=True,
            strides=(2, 2, 2, None),
            dilations=(1, 1, 1, (1, 1, 2), (2, 4, 4)),
        )
        channels = (4, 8)  # of pool3 and conv4, in widths
        if self.encoder != 'vgg16':
            found = registry.find(self.encoder)
            channels = [found.levels[name] for name in found.three[:2]]
            self.project = Conv(self.features, dilation=2, dtype=self.dtype)
            self.project_middle = Conv(kernel=1, dtype=self.dtype)
            self.project_shallow = Conv(kernel=1, dtype=self.dtype)
        else:
            self.project = Conv(self.features, kernel=1, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout, broadcast_dims=(1, 2))

        # Vectors of length about one, as in the released code: a direction's gradient shrinks with its length.
        def row(name, size):
            return self.param(name, nn.initializers.normal(size**-0.5), (self.classes, size))

        self.rows = (
            row('deep', self.features),
            row('middle', channels[1] * self.width),
            row('shallow', channels[0] * self.width),
        )
        self.scales = self.param('scales', nn.initializers.constant(SCALE), (3,))

    def encode(self, images: Float[Array, 'n H W 3'], train: bool = False) -> Levels:
        """Compute features of normalised images at three levels."""
        del train  # dropout belongs to the classifier
        found = self.backbone(images)
        if self.encoder == 'vgg16':
            return Levels(nn.relu(self.project(found['conv5'])), found['conv4'], found['pool3'])
        shallow, middle, _ = self.three(found)
        middle, shallow = self.project_middle(middle), self.project_shallow(shallow)
        return Levels(*map(nn.relu, (self.project(self.joined(found)), middle, shallow)))

    def logits(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w k']:
        """Compute logits of every class at the shallow level's size, without novel classes: a softmax of 16."""
        features = self.encode(images, train)
        rows = [jnp.broadcast_to(one, (len(images), *one.shape)) for one in self._trained()]
        scores = self._scores(features, rows, train)
        excluded = jnp.full((*scores.shape[:-1], self.classes), EXCLUDED, jnp.float32)
        return excluded.at[..., self._known()].set(scores)

    def probe_each(
        self, features: Levels, masks: Float[Array, 'b k H W'], valid
    ) -> tuple[list[Float[Array, 'b k _']], list[Float[Array, 'b k _']]]:
        """Compute masked averages of foreground and background at each level.

        Args:
          features: each [B, K, h, w, C].
        """

        def average(weights):
            return [upsampled_average(level, weights, self.grid.half_pixel) for level in features]

        return average(masks * valid), average((1 - masks) * valid)

    def combine(self, each) -> Proxies:
        """Imprint the novel class and adapt the background, from the means over K supports.

        As released, the background's average is not normalised before it is mixed with the much shorter weight:
        compute_weight in utils.py. The paper (Eq. 1 and 2) normalises it to length one; see docs/explanation.
        """
        foreground, behind = super().combine(each)
        novel = [unit(proxy) for proxy in foreground]
        background = [
            unit((1 - self.alpha) * rows[0] + self.alpha * proxy)
            for rows, proxy in zip(self._trained(), behind, strict=True)
        ]

        def join(parts):
            return jnp.concatenate(parts, -1)

        return Proxies(join(novel), join(background), jnp.full(len(novel[0]), NONE, jnp.int32))

    def as_novel(self, probe: Proxies, class_id: Int[Array, ' b']) -> Proxies:
        """Return the same proxies, with the trained weights of these classes hidden from `decode`."""
        return probe._replace(hidden=class_id)

    def decode(
        self, features: Levels, probe: Proxies, train: bool = False
    ) -> Float[Array, 'b h w 2']:
        """Return two logits: the best score of background and base classes, and the novel class's score."""
        scores = self._all_scores(features, probe, train)
        return jnp.stack([largest(scores[..., :-1]), scores[..., -1]], -1)

    def maps(self, features: Levels, probe: Proxies) -> dict[str, Float[Array, 'b h w']]:
        """Return the maps to show for an episode: pixels assigned to the novel class, and to a training class."""
        shares = jax.nn.softmax(self._all_scores(features, probe))
        return {'novel class': shares[..., -1], 'base classes': shares[..., 1:-1].sum(-1)}

    def _all_scores(self, features, probe, train=False) -> Float[Array, 'b h w k']:
        """Compute the scores of the adapted background, the base classes and, last, the novel class."""
        ends = np.cumsum([level.shape[-1] for level in features])[:-1]

        def of_levels(joint):  # mixed proxies are shorter
            return [unit(part) for part in jnp.split(joint, ends, -1)]

        given = zip(of_levels(probe.background), of_levels(probe.novel), strict=True)
        rows = []
        for trained, (background, novel) in zip(self._trained(), given, strict=True):
            base = jnp.broadcast_to(trained[1:], (len(novel), *trained[1:].shape))
            rows.append(jnp.concatenate([background[:, None], base, novel[:, None]], 1))
        ids = jnp.array([*self._known(), NONE - 1])
        hidden = ids == probe.hidden[:, None]
        return jnp.where(hidden[:, None, None], EXCLUDED, self._scores(features, rows, train))

    def _scores(self, features, rows, train) -> Float[Array, 'b h w k']:
        """Add the scaled cosines to the rows [B, k, C] of each level, resized, starting with the deep level."""
        dropped = features._replace(deep=self.drop(features.deep, deterministic=not train))
        total = None
        for level, weights, scale in zip(dropped, rows, self.scales, strict=True):
            found = scale * cosines(level, weights)
            total = found if total is None else found + resize_bilinear(total, found.shape[1:3])
        return total

    def _known(self):
        """Return the class ids of the background (0) and the base classes."""
        return np.setdiff1d(np.arange(self.classes), self.novel)

    def _trained(self):
        """Return the rows of `_known` at each level, with length one."""
        return [unit(rows[self._known()]) for rows in self.rows]


def unit(x: Float[Array, '*b c']) -> Float[Array, '*b c']:
    """Scale vectors to length one; vectors shorter than 1e-6 become zero, without their huge gradient."""
    square = jnp.square(x).sum(-1, keepdims=True)
    long = square > 1e-12
    return jnp.where(long, x * jax.lax.rsqrt(jnp.where(long, square, 1)), 0)


def cosines(
    features: Float[Array, 'b h w c'], rows: Float[Array, 'b k c']
) -> Float[Array, 'b h w k']:
    """Compute the cosine of every position with each of k unit vectors, in float32."""
    features = features.astype(jnp.float32)
    products = jnp.einsum('bhwc,bkc->bhwk', features, rows, precision='highest')
    return products * jax.lax.rsqrt(jnp.square(features).sum(-1, keepdims=True) + 1e-12)
