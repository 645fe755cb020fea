"""One image with its masks, read, checked and made ready: the bytes that are stored, and one label of all classes."""

import hashlib
import io
import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folder.inputs import Entry, Regions, WrongSizeError
from simpropnet_jax.io import encoding, formats, images, masks
from simpropnet_jax.io.labels import FOREGROUND, VOID

TINY = (
    8 / 321
) ** 2  # share of the image: a cell of the networks' features, 8 x 8 of 321 x 321 pixels
TURNED = 274  # EXIF's number of the orientation; 1: upright


class Drawn(NamedTuple):
    """An image as it is stored.

    Attributes:
      image: bytes of a JPEG or a PNG, as `ending` says.
      label: class ids and 255 (void), at the image's size.
      content: hash of the pixels.
    """

    image: bytes
    ending: str
    label: UInt8[np.ndarray, 'H W']
    content: str


def draw(entry: Entry, names: tuple[str, ...], longest: int) -> tuple[Drawn | None, Findings]:
    """The image of an entry and its label, or None with a mistake among the findings.

    A JPEG in RGB or gray, upright and not too large, keeps its bytes. Every other picture becomes a PNG, without loss
    but for its size: loaders decode these two alike.

    Args:
      names: of the classes, by id.
      longest: side in pixels to which larger images are reduced, their labels by nearest neighbour; 0: none.
    """
    findings = Findings()
    try:
        pixels = images.read_image(entry.image)
    except (ValueError, OSError) as error:
        findings.mistake('image that cannot be read', str(error))
        return None, findings
    stored = entry.image.read_bytes()
    with Image.open(io.BytesIO(stored), formats=formats.pictures()) as file:
        form, mode, turned, own_size = (
            file.format,
            file.mode,
            file.getexif().get(TURNED, 1) != 1,
            file.size,
        )
    regions = _regions(entry, pixels.shape[:2], own_size, findings)
    if findings.mistakes:
        return None, findings
    if turned:
        findings.odd(
            'image that its EXIF data turn (masks were taken to be turned, too)', entry.image.name
        )
    label = _label(entry, regions, names, findings)
    height, width = label.shape
    scale = longest / max(height, width) if longest else 1
    keep = form == 'JPEG' and mode in ('RGB', 'L') and not turned and scale >= 1
    if scale < 1:
        kind = f'image with a side over {longest} pixels, reduced to that'
        findings.odd(kind, f'{entry.image.name} ({width} x {height})')
        size = max(round(scale * width), 1), max(round(scale * height), 1)
        pixels = np.asarray(
            Image.fromarray(pixels).resize(size, Image.BILINEAR)
        )  # Pillow's averages when it shrinks
        label = np.asarray(Image.fromarray(label).resize(size, Image.NEAREST))
    content = hashlib.sha256(f'{pixels.shape}'.encode() + pixels.tobytes()).hexdigest()
    return Drawn(
        stored if keep else encoding.png(pixels), '.jpg' if keep else '.png', label, content
    ), findings


def _regions(entry, shape, own_size, findings) -> Regions:
    """Return where each class is, and void under None; masks are drawn one after the other, into one for each class."""
    regions = Regions(shape)
    for mask in entry.masks:
        try:
            mask.draw(regions, findings)
        except WrongSizeError as error:
            as_stored = error.size == own_size[::-1]
            why = (
                ', as it is before its EXIF data turn it: save the image turned'
                if as_stored
                else ''
            )
            sizes = f'{mask.name} is {error}, {entry.image.name} {WrongSizeError(shape)}'
            findings.mistake('mask of another size than its image', sizes + why)
        except (ValueError, OSError) as error:
            findings.mistake('mask that cannot be read', str(error))
    return regions


def _label(entry: Entry, regions: Regions, names, findings: Findings) -> np.ndarray:
    """Draw all classes into one label. In overlaps the class with the smaller area is on top, void below all."""
    of_class = {name: found for name, found in regions.items() if name is not None}
    void = regions[None]
    label = np.where(void, np.uint8(VOID), np.uint8(0))
    for name in sorted(of_class, key=lambda name: (-of_class[name].sum(), name)):
        label[of_class[name]] = names.index(name)
    seen, overlap = np.zeros(void.shape, bool), np.zeros(void.shape, bool)
    for found in of_class.values():
        overlap |= seen & found
        seen |= found
    if overlap.any():
        findings.odd(
            'image where masks of several classes overlap (the one of the smaller area is on top)',
            f'{entry.id} ({", ".join(sorted(of_class))}: {overlap.mean():.1%} of the image)',
        )
    for name, found in of_class.items():
        what = f'{name} in {entry.image.name}'
        _oddities_of_mask(what, np.where(found, FOREGROUND, np.where(void, VOID, 0)), findings)
    for name, other in _same(of_class):
        findings.odd('image where two classes have the same mask', f'{entry.id} ({name}, {other})')
    return label


def _same(of_class) -> list[tuple[str, str]]:
    """Pairs of classes with one mask."""
    return [
        (name, other)
        for name, other in itertools.combinations(sorted(of_class), 2)
        if of_class[name].any() and np.array_equal(of_class[name], of_class[other])
    ]


def _oddities_of_mask(what, label, findings):
    share = (label == FOREGROUND).mean()
    if 0 < share < TINY:
        findings.odd(
            'object smaller than the networks can see (8 x 8 of 321 x 321 pixels)',
            f'{what} ({share:.3%})',
        )
    if share > masks.MUCH:
        findings.odd(
            'mask that covers nearly the whole image: is it the wrong way round? (--invert)',
            f'{what} ({share:.0%})',
        )
    elif masks.share_of_border(label) > masks.MUCH:
        findings.odd(
            'mask that covers nearly the whole border: is it the wrong way round? (--invert)',
            f'{what} ({share:.0%})',
        )
    void = (label == VOID).mean()
    if void > share > 0:
        findings.odd('void larger than the object', f'{what} ({void:.1%} and {share:.1%})')
