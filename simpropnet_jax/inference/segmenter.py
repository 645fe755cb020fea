"""Masks in, masks out: a trained method on your own pictures.

    segmenter = Segmenter.from_checkpoint('runs/fold2')
    mask, probability = segmenter.segment('query.jpg', supports=[('cat.jpg', 'cat.png')])

and, for many queries, the supports looked at once:

    probe = segmenter.probe([('cat.jpg', 'cat.png'), ('other.jpg', 'other.png')])
    for query in queries:
        mask, probability = segmenter.segment_with(probe, query)
"""

import copy
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Float32
from PIL import Image

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.inference import presence, reading, tiles
from simpropnet_jax.inference.answers import Answer, Examples, Segmentation
from simpropnet_jax.inference.geometry import GRAY, Geometry, View, cut
from simpropnet_jax.inference.reading import (
    Picture,
    Square,
    as_image,
    read_support,
    stretched_support,
)
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import MaskOptions
from simpropnet_jax.models.self_support import decode
from simpropnet_jax.ops.grid import Grid
from simpropnet_jax.ops.resize import host_interpolation_matrix
from simpropnet_jax.published import header, locate
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.weights import restore_variables, warn_of_drawn_shapes

__all__ = [
    'Examples',
    'Answer',
    'Picture',
    'Segmentation',
    'Segmenter',
    'Square',
    'read_support',
    'resize_aligned',
    'stretched_support',
]


class Segmenter:
    """A trained method. Compiles once for each number of supports and once for queries, of whatever size.

    Args:
      module: with `encode`, `probe`, `decode`; `variables` its {'params': ...}.
      size: side in pixels of the network's square, 8n + 1, or 14n for a ViT with patches of 14.
      convention: of the backbone's weights, see `backbones.normalise`.
      step: of the checkpoint that they are from.
      self_support: rounds in which a query's confident pixels are its own support, see `models.self_support`.
      fit: 'stretch' distorts pictures to a square, 'pad' keeps their shape.
      tiles: tiles along a query's longer side that are seen apart; 1: none.
      absent_below: a class with a lower presence score gets an empty mask; None: no score.
    Raises:
      ValueError: size, fit, tiles or absent_below is not allowed.
    """

    fit, tiles, absent_below = 'stretch', 1, None
    grid = Grid()
    _warned = False

    def __init__(
        self,
        module,
        variables: dict,
        *,
        size: int,
        convention: str,
        step: int | None = None,
        self_support: int = 0,
        fit: str = 'stretch',
        tiles: int = 1,
        absent_below: float | None = None,
    ):
        self.size, self.fit, self.tiles, self.step = size, fit, tiles, step
        self.absent_below, self.grid = presence.check(absent_below), module.grid
        self.geometry.check()
        self._variables = variables

        def probe(variables, encoded, labels):
            masks = (labels == FOREGROUND).astype(jnp.float32)
            valid = (labels != VOID).astype(jnp.float32)
            features = jax.tree.map(lambda *x: jnp.concatenate(x), *encoded)
            each = jax.tree.map(lambda x: x[None], features)
            found = module.apply(variables, each, masks[None], valid[None], method='probe')
            return found, features, masks, valid

        def encode(variables, query):
            return module.apply(variables, normalise(query[None], convention), method='encode')

        def difference(variables, features, probe):
            logits = decode(module, variables, features, probe, self_support)[0].astype(jnp.float32)
            return logits[..., 1] - logits[..., 0]

        def scores(variables, *given):
            return presence.scores(module, variables, *given)

        def score(variables, *given):
            return scores(variables, *given)[presence.SCORE]

        self._probe, self._encode, self._difference, self._scores, self._score = map(
            jax.jit, (probe, encode, difference, scores, score)
        )

    @property
    def geometry(self) -> Geometry:
        """How pictures are given to the network."""
        return Geometry(self.size, self.fit, self.tiles, self.grid)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike | None = None, **options) -> 'Segmenter':
        """Load a published model, which needs no training.

        Args:
          name: None: the model that comes with the package; or a name of `simpropnet_jax.published.table`, a folder or
            file of `simpropnet publish`, hf://owner/name@revision, https://HOST/FILE#sha256=HASH, or RUN[@WHICH].
          options: self_support, size, fit, tiles, absent_below; see `from_checkpoint`.
        Raises:
          ValueError, OSError, ImportError: in one sentence, what is wrong.

        Examples:
          >>> from simpropnet_jax import Segmenter
          >>> segmenter = Segmenter.from_pretrained()
          >>> mask, probability = segmenter.segment('query.jpg', supports=[('cat.jpg', 'cat.png')])
          >>> bool(((probability > 0.5) == mask).all())
          True
        """
        if name is None:
            return cls.from_checkpoint(locate.find(None), **options)
        path, which = locate.split(os.fspath(name))
        return cls.from_checkpoint(path, which, **options)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike,
        which: str = 'best',
        self_support: int = 0,
        *,
        size: int | None = None,
        **view,
    ) -> 'Segmenter':
        """The method of a run folder or a published model, on the first device.

        Args:
          path: the run folder (config.json, checkpoints/), or a published model; see `from_pretrained`.
          which: checkpoint, 'best', 'latest' or a step.
          self_support: see the class.
          size: see the class; None: `config.eval.size`.
          view: fit, tiles and absent_below of the class.
        Raises:
          ValueError: it is not such a folder, holds a supervised network, or no such checkpoint or no readable one; or
            an argument is not allowed.
        """
        workdir = locate.find(path)
        if not header.config_file(workdir).is_file():
            raise ValueError(
                f'{workdir} is not a checkpoint: it has no config.json; give a folder that `simpropnet train` wrote'
            )
        config = config_rules.stored_config(workdir)
        config_rules.validate(config, devices=1)
        warn_of_drawn_shapes(config, workdir)
        method = Method.from_config(config)
        if method.supervised and not method.imprinting:
            raise ValueError(
                f'{workdir} holds {config.model.name}, which was trained to name classes and not to follow examples: '
                'give the work directory of a few-shot method'
            )
        device = SingleDeviceSharding(jax.local_devices()[0])
        variables, step = restore_variables(method, workdir, which, device)
        return cls(
            method.module,
            variables,
            size=size or config.eval.size,
            convention=config.model.convention,
            step=step,
            self_support=self_support,
            **view,
        )

    def with_view(self, *, size: int, fit: str, tiles: int) -> 'Segmenter':
        """Return the same network, which looks at pictures in another way; the weights are shared.

        Raises:
          ValueError: size, fit or tiles is not allowed.

        Examples:
          >>> from simpropnet_jax import Segmenter
          >>> closer = Segmenter.from_pretrained().with_view(size=225, fit='pad', tiles=2)
          >>> closer.tiles
          2
        """
        other = copy.copy(self)
        other.size, other.fit, other.tiles = size, fit, tiles
        other.geometry.check()
        return other

    def weights_hash(self) -> str:
        """SHA-256 of the weights, in hexadecimal: two checkpoints of one hash segment alike."""
        result = hashlib.sha256()
        for value in jax.tree.leaves(self._variables):
            result.update(np.asarray(value).tobytes())
        return result.hexdigest()

    def probe(
        self,
        supports: Sequence[tuple[Picture, Picture] | Square],
        *,
        mask_value: float | int | None = None,
        mask_threshold: float | int | None = None,
        invert: bool = False,
        crowds: str = 'void',
    ) -> Examples:
        """What the method keeps of the supports, on the device; for `segment_with`.

        Logs how it understood each mask, as `cat1.jpg: object 14.7 %, void 0.8 %`, and warns of what is odd.

        Args:
          supports: (image, mask), one or more, each pair of one size.
          mask_value: pixels of this value are the object, in every mask.
          mask_threshold: pixels of this value and above are the object.
          invert: object and background of every mask change places.
          crowds: what annotations with iscrowd 1 are, 'void' or 'object'.
        Raises:
          FileNotFoundError, ValueError: no support, one that cannot be read, a mask of another size than its image, a
            mask without foreground, or one that can be read in several ways.

        Examples:
          >>> from simpropnet_jax import Segmenter
          >>> segmenter = Segmenter.from_checkpoint('runs/fold2')
          >>> probe = segmenter.probe([('cat.jpg', 'cat.png')])  # looks at the examples once
          >>> for query in ['query.jpg', 'cat.jpg']:
          ...     mask, probability = segmenter.segment_with(probe, query)
        """
        if not supports:
            raise ValueError('there is no support: give at least one image with its mask')
        options = MaskOptions(mask_value, mask_threshold, invert, crowds).check()
        squares = [
            pair
            if isinstance(pair, Square)
            else stretched_support(*pair, self.geometry, options, f'support {number}')
            for number, pair in enumerate(supports, 1)
        ]
        found, *seen = self._probed([(one.image, one.label) for one in squares])
        close = None
        if self.tiles > 1:
            close = self._probed([one.close or (one.image, one.label) for one in squares])[0]
        given = zip(squares, supports, strict=True)  # of a Square, the command says it with names
        labels = reading.hashes(one for one, pair in given if not isinstance(pair, Square))
        if self.absent_below is None:
            return Examples(found, close, labels=labels)
        return Examples(found, close, *seen, labels=labels)

    def _probed(self, pairs):
        # One by one, by the program that encodes queries: compiling another takes longer than it saves.
        encoded = [self._encode(self._variables, picture) for picture, _ in pairs]
        return self._probe(self._variables, encoded, np.stack([label for _, label in pairs]))

    def segment_with(self, probe: Examples, query: Picture) -> Segmentation:
        """The mask of one query, from a probe made before.

        Raises:
          FileNotFoundError, ValueError: the query cannot be read.
        """
        image = as_image(query)
        found = self.look([probe], image)
        difference = resize_aligned(found.log_odds[0], image.shape[:2])
        result = Segmentation(difference > 0, 0.5 + 0.5 * np.tanh(0.5 * difference))
        if found.presence is not None:
            result.presence = found.presence[0]
        return result

    def log_odds(self, probes: Sequence[Examples], query: Picture) -> Float32[np.ndarray, 'N h w']:
        """Logarithm of foreground over background for each of several probes, at the resolution of the network.

        See `look`. To the query's own size: `resize_aligned`, or `combine.winners`, which also decides.
        """
        return self.look(probes, query).log_odds

    def look(self, probes: Sequence[Examples], query: Picture) -> Answer:
        """Return what the network says of a query for each of several probes, at its own resolution.

        Each view of the query is encoded once.

        Raises:
          FileNotFoundError, ValueError: the query cannot be read.
        """
        if not self._warned and reading.warn_of_twins([one.labels for one in probes]):
            self._warned = True
        # The host resizes, here and to the query's size: the device would compile anew for every size.
        image, shape = as_image(query), self.geometry
        whole = shape.whole(*image.shape[:2])
        features = self._encode(self._variables, self._cut(image, whole))
        found = self._differences(features, [one.probe for one in probes])
        present = None
        if self.absent_below is not None:
            present = [
                float(self._score(self._variables, *_with_supports(features, one, values)))
                for one, values in zip(probes, found, strict=True)
            ]
        log_odds = np.stack(jax.device_get(found))
        if shape.fit != 'stretch' or shape.tiles > 1 or shape.grid.half_pixel:
            log_odds = self._merged(image, (log_odds, whole), [one.close for one in probes])
        for values, score in zip(log_odds, present or [], strict=False):
            if score < (self.absent_below or 0):
                values[:] = presence.ABSENT
        return Answer(log_odds, present)

    def candidates(self, probe: Examples, query: Picture) -> dict[str, Array]:
        """Return the presence scores of a class in a query by name; see `presence.scores`."""
        image = as_image(query)
        whole = self._cut(image, self.geometry.whole(*image.shape[:2]))
        features = self._encode(self._variables, whole)
        log_odds = self._differences(features, [probe.probe])[0]
        return self._scores(self._variables, *_with_supports(features, probe, log_odds))

    def _merged(self, image, whole: tuple[Any, View], probes):
        """Return the answer of the whole picture and its tiles, with aligned corners."""
        answers, (height, width) = [], image.shape[:2]
        for view in tiles.tile_views(height, width, self.geometry):
            features = self._encode(self._variables, self._cut(image, view))
            answers.append((self._differences(features, probes), view))
        answers = [(np.stack(jax.device_get(values)), view) for values, view in answers]
        return tiles.merge(whole, answers, self.geometry, image.shape[:2])

    def _differences(self, features, probes):
        return [self._difference(self._variables, features, probe) for probe in probes]

    def _cut(self, image, view: View):
        return cut(image, view, self.size, Image.Resampling.BILINEAR, GRAY)

    def segment(
        self,
        query: Picture,
        supports: Sequence[tuple[Picture, Picture]],
        *,
        mask_value: float | int | None = None,
        mask_threshold: float | int | None = None,
        invert: bool = False,
        crowds: str = 'void',
    ) -> Segmentation:
        """Segment one query; see `probe` for the arguments, and `segment_with` for what is returned.

        Examples:
          >>> from simpropnet_jax import Segmenter
          >>> from simpropnet_jax.samples import samples
          >>> first, second, *_ = samples()
          >>> segmenter = Segmenter.from_checkpoint('runs/fold2')
          >>> mask, probability = segmenter.segment(second.image, supports=[(first.image, first.mask)])
          >>> mask.dtype, mask.shape == probability.shape
          (dtype('bool'), True)
        """
        probe = self.probe(
            supports,
            mask_value=mask_value,
            mask_threshold=mask_threshold,
            invert=invert,
            crowds=crowds,
        )
        return self.segment_with(probe, query)


def _with_supports(features, examples: Examples, log_odds):
    """Return the arguments of `presence.scores` after the network's own."""
    seen = examples.features, examples.masks, examples.valid
    return features, examples.probe, log_odds, *seen


def resize_aligned(
    values: Float32[np.ndarray, 'h w'], size: tuple[int, int]
) -> Float32[np.ndarray, 'H W']:
    """`resize_bilinear` (aligned corners) on the host, for sizes that are not known beforehand."""
    rows, columns = (
        host_interpolation_matrix(n_in, n_out)
        for n_in, n_out in zip(values.shape, size, strict=True)
    )
    return rows @ values @ columns.T
