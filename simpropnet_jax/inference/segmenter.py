"""Masks in, masks out: a trained method on anybody's pictures.

    segmenter = Segmenter.from_checkpoint('runs/fold2')
    mask, probability = segmenter.segment('query.jpg', supports=[('cat.jpg', 'cat.png')])

and, for many queries, the supports looked at once:

    probe = segmenter.probe([('cat.jpg', 'cat.png'), ('other.jpg', 'other.png')])
    for query in queries:
        mask, probability = segmenter.segment_with(probe, query)
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageOps

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.inference.annotations import Annotations
from simpropnet_jax.io import images, masks
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.io.masks import MaskOptions
from simpropnet_jax.models.self_support import decode
from simpropnet_jax.ops.resize import host_interpolation_matrix
from simpropnet_jax.runtime import paths
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.weights import restore_variables

logger = logging.getLogger(__name__)

Picture = str | os.PathLike | np.ndarray | jax.Array | Image.Image
"""A file, a Pillow image, or an array: an image u8 RGB [H, W, 3], or a mask [H, W] or [H, W, 1]; see `images`.

A mask may also be FILE#8 (the pixels of value 8), and COCO's JSON, as FILE.json or FILE.json#CATEGORY."""


class Segmentation(NamedTuple):
    """What `Segmenter` says of a query, at the query's own size."""

    mask: Bool[np.ndarray, 'H W']  # where foreground is the more probable
    probability: Float32[np.ndarray, 'H W']  # of the foreground


class Square(NamedTuple):
    """A support at the size that the network sees; its mask is described already."""

    image: UInt8[np.ndarray, 'S S 3']
    label: UInt8[np.ndarray, 'S S']  # 0, 1, 255


class Segmenter:
    """A trained method. Compiles once for each number of supports and once for queries, of whatever size.

    Args:
      module: with `encode`, `probe`, `decode`; `variables` its {'params': ...}.
      size: side in pixels of the square that pictures are stretched to for the network.
      convention: of the backbone's weights, see `backbones.normalise`.
      step: of the checkpoint that they are from.
      self_support: rounds in which a query's confident pixels are its own support, see `models.self_support`.
    """

    def __init__(
        self,
        module,
        variables: dict,
        *,
        size: int,
        convention: str,
        step: int | None = None,
        self_support: int = 0,
    ):
        self.size, self.step = size, step
        self._variables = variables

        def probe(variables, supports, labels):
            def run(method, *args):
                return module.apply(variables, *args, method=method)

            masks = (labels == FOREGROUND).astype(jnp.float32)
            valid = (labels != VOID).astype(jnp.float32)
            features = run('encode', normalise(supports, convention))
            return run('probe', jax.tree.map(lambda x: x[None], features), masks[None], valid[None])

        def encode(variables, query):
            return module.apply(variables, normalise(query[None], convention), method='encode')

        def difference(variables, features, probe):
            logits = decode(module, variables, features, probe, self_support)[0].astype(jnp.float32)
            return logits[..., 1] - logits[..., 0]

        self._probe, self._encode, self._difference = (
            jax.jit(probe),
            jax.jit(encode),
            jax.jit(difference),
        )

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike, which: str = 'best', self_support: int = 0
    ) -> 'Segmenter':
        """The method of a work directory, with pictures at `config.eval.size`, on the first device.

        Args:
          path: the run folder (config.json, checkpoints/).
          which: checkpoint, 'best', 'latest' or a step.
          self_support: see the class.
        Raises:
          ValueError: it is not such a folder, holds a supervised network, or no such checkpoint or no readable one.
        """
        workdir = paths.parse(path)
        if not (workdir / 'config.json').is_file():
            raise ValueError(
                f'{workdir} is not a checkpoint: it has no config.json; give a folder that `simpropnet train` wrote'
            )
        config = config_rules.load(workdir / 'config.json')
        config_rules.validate(config, devices=1)
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
            size=config.eval.size,
            convention=config.model.convention,
            step=step,
            self_support=self_support,
        )

    def weights_hash(self) -> str:
        """SHA-256 of the weights, in hexadecimal: two checkpoints of one hash segment alike."""
        result = hashlib.sha256()
        for value in jax.tree.leaves(self._variables):
            result.update(np.asarray(value).tobytes())
        return result.hexdigest()

    def probe(
        self,
        supports: Sequence[tuple[Picture, Picture]],
        *,
        mask_value: float | int | None = None,
        mask_threshold: float | int | None = None,
        invert: bool = False,
    ) -> Any:
        """What the method keeps of the supports, a small pytree on the device; for `segment_with`.

        Logs how it understood each mask, as `cat1.jpg: object 14.7 %, void 0.8 %`, and warns of what is odd.

        Args:
          supports: (image, mask), one or more, each pair of one size.
          mask_value: pixels of this value are the object, in every mask.
          mask_threshold: pixels of this value and above are the object.
          invert: object and background of every mask change places.
        Raises:
          FileNotFoundError, ValueError: no support, one that cannot be read, a mask of another size than its image, a
            mask without foreground, or one whose meaning is not clear.
        """
        if not supports:
            raise ValueError('there is no support: give at least one image with its mask')
        options = MaskOptions(mask_value, mask_threshold, invert).check()
        pictures, labels = zip(
            *(
                stretched_support(pair[0], pair[1], self.size, options, f'support {number}')
                if not isinstance(pair, Square)
                else pair
                for number, pair in enumerate(supports, 1)
            ),
            strict=True,
        )
        return self._probe(self._variables, np.stack(pictures), np.stack(labels))

    def segment_with(self, probe: Any, query: Picture) -> Segmentation:
        """The mask of one query, from a probe made before.

        Raises:
          FileNotFoundError, ValueError: the query cannot be read.
        """
        image = _image(query)
        difference = resize_aligned(self.log_odds([probe], image)[0], image.shape[:2])
        return Segmentation(difference > 0, 0.5 + 0.5 * np.tanh(0.5 * difference))

    def log_odds(self, probes: Sequence[Any], query: Picture) -> Float32[np.ndarray, 'N h w']:
        """Logarithm of foreground over background for each of several probes, at the resolution of the network.

        The query is encoded once. To its own size: `resize_aligned`, or `combine.winners`, which also decides.

        Raises:
          FileNotFoundError, ValueError: the query cannot be read.
        """
        # The host resizes, here and to the query's size: the device would compile anew for every size.
        features = self._encode(self._variables, _stretched(_image(query), self.size))
        return np.stack(
            jax.device_get([self._difference(self._variables, features, probe) for probe in probes])
        )

    def segment(
        self,
        query: Picture,
        supports: Sequence[tuple[Picture, Picture]],
        *,
        mask_value: float | int | None = None,
        mask_threshold: float | int | None = None,
        invert: bool = False,
    ) -> Segmentation:
        """The mask of one query; see `probe` and `segment_with`."""
        probe = self.probe(
            supports, mask_value=mask_value, mask_threshold=mask_threshold, invert=invert
        )
        return self.segment_with(probe, query)


def read_support(
    image: Picture,
    mask: Picture,
    *,
    mask_value: float | int | None = None,
    mask_threshold: float | int | None = None,
    invert: bool = False,
) -> tuple[UInt8[np.ndarray, 'H W 3'], UInt8[np.ndarray, 'H W']]:
    """An image and its label: 1 foreground, 0 background, 255 void.

    Args:
      image: the picture.
      mask: of the same size.
      mask_value: pixels of this value are the object.
      mask_threshold: pixels of this value and above are the object.
      invert: object and background change places.
    Raises:
      FileNotFoundError, ValueError: one cannot be read, they differ in size, nothing is foreground, or the meaning of
        the mask is not clear.
    """
    return _read_support(image, mask, MaskOptions(mask_value, mask_threshold, invert).check())


def _read_support(image, mask, options):
    name = _name(mask, 'the mask')
    pixels = _image(image)
    label = _mask(mask, image, pixels.shape[:2], name, options)
    if label.shape != pixels.shape[:2]:
        raise ValueError(
            f'{name} is {_size(label)} pixels, but {_name(image, "its image")} is {_size(pixels)}; '
            'a mask must have the size of its image as it is shown'
        )
    if not (label == FOREGROUND).any():
        found = '0 or void (255 in a palette)' if (label == VOID).any() else '0'
        raise ValueError(
            f'{name} has no foreground: every pixel is {found}; mark the object with another value'
        )
    return pixels, label


def stretched_support(
    image: Picture,
    mask: Picture,
    size: int,
    options: MaskOptions = masks.DEFAULT,
    name: str = 'the support',
) -> Square:
    """An image and its label as the network sees them, stretched to a square; stretched again they stay what they are.

    Logs how the mask was understood, and warns of what is odd.

    Args:
      image: the picture.
      mask: of the same size.
      size: side of the square in pixels.
      options: how to read the mask.
      name: in the log, where the image has none of its own.
    Raises:
      FileNotFoundError, ValueError: as `read_support`, or no foreground is left.
    """
    pixels, label = _read_support(image, mask, options)
    square = _stretched(label, size, Image.NEAREST)
    if not (square == FOREGROUND).any():
        raise ValueError(
            f'the foreground of {_name(mask, "the mask")} is too small: the network sees '
            f'{_size(square)} of its {_size(label)} pixels, none of them foreground; crop around the object'
        )
    name = Path(image).name if isinstance(image, str | os.PathLike) else name
    logger.info('%s', masks.describe_mask(label, name))
    for phrase in masks.oddities(label):
        logger.warning('%s: %s', name, phrase)
    return Square(_stretched(pixels, size), square)


def resize_aligned(
    values: Float32[np.ndarray, 'h w'], size: tuple[int, int]
) -> Float32[np.ndarray, 'H W']:
    """`resize_bilinear` (aligned corners) on the host, for sizes that are not known beforehand."""
    rows, columns = (
        host_interpolation_matrix(n_in, n_out)
        for n_in, n_out in zip(values.shape, size, strict=True)
    )
    return rows @ values @ columns.T


def _image(picture):
    if isinstance(picture, str | os.PathLike):
        return images.read_image(picture)
    if isinstance(picture, Image.Image):
        return images.image_pixels(picture)
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(
            f'an image must be uint8 RGB, [H, W, 3], got {picture.dtype} {list(picture.shape)}'
        )
    return picture


def _mask(mask, image, size, name, options):
    """The label of a mask, which may be a file, a Pillow image, an array, or COCO's JSON beside a file."""
    if isinstance(mask, Image.Image):
        return images.image_label(ImageOps.exif_transpose(mask), name, options)
    if not isinstance(mask, str | os.PathLike):
        return images.mask_label(np.asarray(mask), name, options)
    file, _, category = os.fspath(mask).partition('.json#')
    if not file.lower().endswith('.json') and not category:
        return images.read_mask(mask, options)
    if not isinstance(image, str | os.PathLike):
        raise ValueError(f'{mask} finds its annotations by the name of the image: give its file')
    if options != masks.DEFAULT:
        raise ValueError(
            f'{mask} holds annotations: --mask_value, --mask_threshold and --invert are for masks of pixels'
        )
    path = Path(f'{file}.json') if category else Path(mask)
    return Annotations(path).label(Path(image), category or None, size)


def _name(picture, otherwise):
    return str(picture) if isinstance(picture, str | os.PathLike) else otherwise


def _size(array):
    return f'{array.shape[1]} x {array.shape[0]}'


def _stretched(array, size, method=Image.BILINEAR):
    """To a square, as in training and evaluation."""
    return np.asarray(Image.fromarray(array).resize((size, size), method))
