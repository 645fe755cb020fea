"""Build H-PASCAL-5i: test episodes by difficulty, object size and similarity, in a file for all methods.

Improved Similarity Propagation, section 4.1. Next to the file a picture of each fold shows a pair of every class and
partition (the paper's Figure 4).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.analysis.hierarchy_figure import draw
from simpropnet_jax.backbones.extractor import NETWORKS, Extractor, load_extractor, pool
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.folds import FOLDS
from simpropnet_jax.datasets.index import Pairs, listed_pairs
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.episodes import hpascal, hpascal_file
from simpropnet_jax.episodes.loader import BACKENDS, image_batches, own_labels
from simpropnet_jax.evaluation.oracle import oracle_iou, oracle_quality
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.io import overlay
from simpropnet_jax.runtime import paths
from simpropnet_jax.setup.weights import backbone_weights

logger = logging.getLogger(__name__)

RULES = {
    'folds': config_rules.each(config_rules.one_of(*FOLDS)),
    'data.loader': config_rules.one_of(*BACKENDS),
    'features.size': config_rules.number(32, 4097),
    'features.batch': config_rules.number(1),
}


def build(config: ConfigDict, out: Path) -> dict[str, Any]:
    """Write the file `out` and, next to it, NAME_foldN.jpg.

    Args:
      config: a config of configs/hpascal.py.
    Returns:
      The written record, see `hpascal_file`.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    known = dict(config_rules.fields(config))
    for name, rule in RULES.items():
        if not rule.holds(known[name]):
            raise ValueError(f'config.{name} must be {rule.allowed}, got {known[name]!r}')
    parameters = hpascal.Parameters(**config.partitions.to_dict())
    source = open_source(config.data.name, paths.parse(config.data.dir))

    def list_pairs(fold):
        return listed_pairs(
            source.index,
            config.data.image_list,
            source.index.novel_classes(fold),
            config.data.tiny_rule,
        )

    pairs = {fold: list_pairs(fold) for fold in config.folds}
    oracle = paths.expanded(config.oracle)
    scores = {fold: oracle_iou(oracle, source, one) for fold, one in pairs.items()}
    quality = oracle_quality(oracle, source)
    extractor = load_extractor(config.features.network, backbone_weights(config.features.weights))
    folds, found = {}, {}
    for fold, one in pairs.items():
        sizes = bounding_boxes(source, one)
        distances = image_distances(source, one, extractor, config.features, config.data.loader)
        splits, found[fold] = hpascal.partitions(
            one, scores[fold], sizes, distances, parameters, fold
        )
        folds[fold] = hpascal_file.fold_record(
            one,
            source.index.novel_classes(fold),
            scores[fold],
            sizes,
            splits,
            found[fold],
            source.ids,
        )
    features = {
        'network': extractor.name,
        'layer': NETWORKS[extractor.name],
        'source': extractor.source,
        'size': config.features.size,
    }
    record = hpascal_file.write(
        out,
        parameters,
        folds,
        data=source.name,
        image_list=config.data.image_list,
        tiny_rule=config.data.tiny_rule,
        oracle=quality,
        features=features,
    )
    for fold, partitions in found.items():
        episodes = {name: partition.episodes for name, partition in partitions.items()}
        overlay.save(
            draw(source, episodes, backend=config.data.loader),
            out.with_name(f'{out.stem}_fold{fold}.jpg'),
        )
    logger.info('H-PASCAL-5i: %s', out)
    return record


def bounding_boxes(source, pairs: Pairs) -> np.ndarray:
    """Return the share of the image in the box around each pair's class, float [P]."""
    sizes = np.empty(len(pairs))
    for number in np.unique(pairs.image).tolist():
        label = own_labels(source, [number])[0]
        for i in np.flatnonzero(pairs.image == number):
            sizes[i] = hpascal.bounding_box_share(label, int(pairs.class_id[i]))
    return sizes


def image_distances(
    source, pairs: Pairs, extractor: Extractor, features: ConfigDict, backend: str
) -> np.ndarray:
    """Compute L2 distances between the pooled features of the pairs' images, float [P, P]."""
    images, rows = np.unique(pairs.image, return_inverse=True)
    batches = image_batches(
        source,
        images,
        size=features.size,
        label_size=1,
        batch=min(features.batch, len(images) or 1),
        backend=backend,
    )
    pooled = [
        np.asarray(pool(extractor(one['image'])), np.float64)[one['valid']] for one in batches
    ]
    if not pooled:
        return np.zeros((0, 0))
    vectors = np.concatenate(pooled)
    distances = np.stack([np.sqrt(np.square(vectors - vector).sum(-1)) for vector in vectors])
    return distances[rows.reshape(-1)][:, rows.reshape(-1)]


def table(record: dict[str, Any]) -> str:
    """Format the queries of each partition and fold, and their basis; the file has the rules for each class."""
    header = ['queries', *(f'split-{int(fold) + 1}' for fold in record['folds'])]
    rows = []
    for name in hpascal.PARTITIONS:
        found = [fold['partitions'][name] for fold in record['folds'].values()]
        counts = [
            f'{sum(one["queries"].values())}{"" if one["episodes"] else " (empty)"}'
            for one in found
        ]
        rows.append([f'{name} {hpascal.describe(name)}', *counts])
    return aligned(header, rows) + hpascal_file.basis(record)
