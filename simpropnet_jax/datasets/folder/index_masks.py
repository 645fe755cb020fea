"""Masks that show all classes of an image by their numbers, as VOC, CVAT, Cityscapes and mmsegmentation write them."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from simpropnet_jax.datasets.folder import inputs
from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folder.inputs import Entry, Mask, WrongSizeError
from simpropnet_jax.io import images
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime import paths

MOST = 65535  # a mask has 16 bits at most


def parse(text: str) -> dict[int, str]:
    """Return the names of classes by their value in a mask.

    Args:
      text: names of 1, 2, ... with commas between (background, first, is 0); or 8=cat,15=person; or a file of such
        lines.
    Raises:
      ValueError: a name is missing, or a value is no whole number, or is there twice.
    """
    path = paths.expanded(text)
    lines = path.read_text(encoding='utf-8-sig').splitlines() if path.is_file() else text.split(',')
    lines = [line.strip() for line in lines if line.strip()]
    named = [re.fullmatch(r'(\d+)\s*[=:]\s*(.+)', line) for line in lines]
    if all(named):
        pairs = [(int(match[1]), match[2]) for match in named]
    elif any(named):
        raise ValueError(f'--classes must have a value for each class or for none, got {text}')
    else:
        first = int(not (lines and lines[0].casefold() in ('background', '_background_')))
        pairs = list(enumerate(lines, first))
    classes = {value: name for value, name in pairs if value}
    if not classes or len(dict(pairs)) < len(pairs) or max(classes) > MOST:
        raise ValueError(
            f'--classes must be names with commas between, 8=cat,15=person, or a file of such lines, got {text}'
        )
    return classes


def find(folder: Path, classes: Mapping[int, str], findings: Findings) -> list[Entry]:
    """Return the entries of a folder with images/NAME.* and masks/NAME.*, by id.

    Args:
      folder: with both folders.
      classes: names by value.
      findings: what is odd is added.
    Raises:
      ValueError: a folder is missing, or has no pictures.
    """
    pictures = inputs.by_stem(inputs.pictures_in(folder / inputs.IMAGES, findings), findings)
    masks = inputs.by_stem(inputs.pictures_in(folder / inputs.MASKS, findings), findings)
    findings.odd(
        'mask without an image (not used)',
        *(path.name for name, path in masks.items() if name not in pictures),
    )
    names = tuple(classes.values())
    found = {
        name: [Mask(path.name, names, functools.partial(_draw, path, classes))]
        for name, path in masks.items()
        if name in pictures
    }
    return inputs.entries(pictures, found, findings)


def _draw(path, classes, regions, findings) -> None:
    values = images.read_index(path)
    if values.shape != regions.size:
        raise WrongSizeError(values.shape)
    for value in np.unique(values).tolist():
        if value in classes:
            regions[classes[value]] |= values == value
        elif value == VOID:
            regions[None] |= values == VOID
        elif value:
            findings.odd(
                f'value {value}, which --classes does not name (read as background)', path.name
            )
