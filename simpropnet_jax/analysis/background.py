"""Measure how similar the backgrounds and the objects of a class's images are: SimPropNet, Figure 3."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.analysis.similarity import (
    Regions,
    Vectors,
    cosine,
    region_vectors,
    same_class_pairs,
)
from simpropnet_jax.backbones.extractor import Extractor, load_extractor
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.index import TINY_RULES, Pairs, listed_pairs
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.episodes.loader import BACKENDS, own_labels
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime import paths, records
from simpropnet_jax.setup.weights import backbone_weights

logger = logging.getLogger(__name__)

REGIONS = ('object', 'background')
PAPER_ALIKE = '20 of 20'  # classes with more similar backgrounds, in the paper's figure
IMAGES_AT_A_TIME = 64  # images with regions in memory
RULES = {
    'pairs': config_rules.number(1),
    'seed': config_rules.number(0),
    'data.tiny_rule': config_rules.one_of(*TINY_RULES),
    'data.loader': config_rules.one_of(*BACKENDS),
    'features.size': config_rules.number(32, 4097),
    'features.batch': config_rules.number(1),
}


def class_similarity(
    pairs: Sequence[tuple[int, int, int]], vectors: Vectors
) -> dict[int, dict[str, float | int]]:
    """Average the cosines of objects and of backgrounds by class, over the pairs in which both are defined.

    Args:
      pairs: (class id, image, image).
      vectors: vectors of the regions 'object' and 'background'.
    Returns:
      class id -> `object`, `background`, and `pairs`; no class without a pair.
    """
    found: dict[int, list[tuple[float, ...]]] = {}
    for class_id, a, b in pairs:
        both = tuple(
            cosine(vectors[class_id, a][name], vectors[class_id, b][name]) for name in REGIONS
        )
        if not np.isnan(both).any():
            found.setdefault(class_id, []).append(both)

    def mean(values):
        return dict(zip(REGIONS, np.mean(values, 0).tolist(), strict=True))

    return {class_id: mean(values) | {'pairs': len(values)} for class_id, values in found.items()}


def measure(config: ConfigDict, extractor: Extractor, source) -> dict[str, Any]:
    """Measure the similarities on a data set.

    Args:
      config: a config of configs/background.py.
      source: source of images and labels.
    Returns:
      A record: `per_class`, class name -> `object`, `background` and `pairs`; `mean` over the classes; `more_alike`,
      the number of classes with more similar backgrounds; `drawn` pairs, and the settings.
    Raises:
      ValueError: no class has two images.
    """
    index = source.index
    classes = range(1, len(index.class_names))
    listed = listed_pairs(index, config.data.image_list, classes, config.data.tiny_rule)
    images = {c: listed.image[listed.class_id == c].tolist() for c in classes}
    drawn = same_class_pairs(
        {c: found for c, found in images.items() if len(found) > 1}, config.pairs, config.seed
    )
    used = sorted({(c, n) for c, *both in drawn for n in both}, key=lambda key: key[1])
    listed = Pairs(np.array([n for _, n in used]), np.array([c for c, _ in used]))
    found = class_similarity(drawn, _vectors(source, listed, extractor, config))
    if not found:
        raise ValueError(
            f'no class has two images on the list {config.data.image_list!r} of {source.name}'
        )
    named = {index.class_names[c]: one for c, one in sorted(found.items())}
    return {
        'data': source.name,
        'image_list': config.data.image_list,
        'tiny_rule': config.data.tiny_rule,
        'per_class': named,
        'mean': {name: float(np.mean([one[name] for one in named.values()])) for name in REGIONS},
        'more_alike': sum(one['background'] > one['object'] for one in named.values()),
        'drawn': len(drawn),
        'seed': config.seed,
        'features': f'{extractor.source}, {config.features.size} x {config.features.size} pixels',
        'versions': result_file.versions(),
        'device': result_file.device(),
    }


def _vectors(source, pairs: Pairs, extractor, config) -> Vectors:
    """Compute masked averages of object and background of each pair, with few regions in memory at a time."""
    vectors: Vectors = {}
    numbers = np.unique(pairs.image)
    for start in range(0, len(numbers), IMAGES_AT_A_TIME):
        part = numbers[start : start + IMAGES_AT_A_TIME]
        regions = _regions(source, part, pairs)
        how = config.features
        vectors |= region_vectors(
            source, regions, extractor, how.size, how.batch, config.data.loader
        )
        logger.info('%d of %d images', min(start + IMAGES_AT_A_TIME, len(numbers)), len(numbers))
    return vectors


def _regions(source, numbers, pairs: Pairs) -> Regions:
    regions = {}
    for number, label in zip(numbers.tolist(), own_labels(source, numbers), strict=True):
        for class_id in pairs.class_id[pairs.image == number].tolist():
            regions[class_id, number] = {
                'object': label == class_id,
                'background': (label != class_id) & (label != VOID),
            }
    return regions


def table(record: dict[str, Any]) -> str:
    """Format a row per class, and the mean over the classes."""
    rows = [
        [
            name,
            *(f'{one[region]:.3f}' for region in REGIONS),
            f'{one["background"] - one["object"]:+.3f}',
            str(one['pairs']),
        ]
        for name, one in record['per_class'].items()
    ]
    mean = record['mean']
    counted = sum(one['pairs'] for one in record['per_class'].values())
    rows.append(
        [
            'mean',
            *(f'{mean[region]:.3f}' for region in REGIONS),
            f'{mean["background"] - mean["object"]:+.3f}',
            str(counted),
        ]
    )
    text = f'Similarity within classes, {record["data"]}, list {record["image_list"]}; {record["features"]}\n'
    text += aligned(['cosine', 'objects', 'backgrounds', 'difference', 'pairs'], rows)
    alike = f'{record["more_alike"]} of {len(record["per_class"])}'
    return (
        text
        + f'Backgrounds are more alike than objects in {alike} classes (SimPropNet, Figure 3: {PAPER_ALIKE}).\n'
    )


def draw(record: dict[str, Any], path: Path) -> None:
    """Draw two bars per class; the suffix of the path sets the file format.

    Raises:
      ValueError: no image format has this suffix.
      OSError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # used directly, it needs no screen

    figure = Figure(figsize=(11, 4.5), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(record['per_class']))
    for shift, name in zip((-0.2, 0.2), REGIONS, strict=True):
        values = [one[name] for one in record['per_class'].values()]
        axes.bar(places + shift, values, 0.4, label=f'{name}s, mean {record["mean"][name]:.2f}')
    axes.set_xticks(places, record['per_class'], rotation=45, ha='right')
    axes.set(
        ylabel='cosine similarity of masked averages',
        title=f'pairs of images of one class, {record["data"]}',
    )
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='lower right')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def check(config: ConfigDict, out: Path) -> None:
    """Raise ValueError for a field out of range, or an unsupported image format."""
    known = dict(config_rules.fields(config))
    for name, rule in RULES.items():
        if not rule.holds(known[name]):
            raise ValueError(f'config.{name} must be {rule.allowed}, got {known[name]!r}')
    if out.suffix not in ('.png', '.pdf', '.svg'):
        raise ValueError(f'--out must end in .png, .pdf or .svg, got {out}')


def measure_and_draw(config: ConfigDict, out: Path) -> dict[str, Any]:
    """Measure the similarities, draw them, and write the numbers next to the picture.

    Args:
      config: a config of configs/background.py.
      out: picture to write.
    Returns:
      The record of `measure`.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    check(config, out)
    source = open_source(config.data.name, paths.parse(config.data.dir))
    how = config.features
    extractor = load_extractor(how.network, backbone_weights(how.weights), levels=tuple(how.levels))
    record = measure(config, extractor, source)
    draw(record, out)
    records.write(out.with_suffix('.json'), record)
    return record
