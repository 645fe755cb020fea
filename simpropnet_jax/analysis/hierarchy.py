"""The partitions of an H-PASCAL-5i file, easy to hard: a method's mIoU on each, and CMPS, its mean over them.

Improved Similarity Propagation, Tables 3 and 7.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.analysis import hierarchy_table
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.protocols import Protocol, protocol_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation import run
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.external import predictions
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.naming import result_name, weights_word
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.data import open_data
from simpropnet_jax.setup.method import require_few_shot
from simpropnet_jax.setup.run import EvaluationRun, prepare_method
from simpropnet_jax.setup.weights import load

logger = logging.getLogger(__name__)

GIVEN = ('episodes', 'zero_mask')
KEPT = (
    'parameters',
    'oracle',
    'features',
    'image_list',
    'tiny_rule',
    'sha256',
)  # from the file, in a result


class Asked(NamedTuple):
    """An H-PASCAL-5i file applied to a config's fold.

    Attributes:
      config: the config, with `eval` set by the file.
      file: the result of `hpascal_file.read`.
      source: source of images and labels.
      protocol: protocol for comparing masks.
      partitions: name -> episodes.
    """

    config: ConfigDict
    file: dict[str, Any]
    source: Any
    protocol: Protocol
    partitions: dict[str, list[Episode]]

    @property
    def episodes(self) -> list[Episode]:
        """Return the episodes of all partitions in order."""
        return [e for found in self.partitions.values() for e in found]

    @property
    def classes(self) -> list[int]:
        """Return their class ids."""
        return sorted({e.class_id for e in self.episodes})


def evaluate_hierarchy(
    config: ConfigDict | None,
    workdir: Path,
    path: Path,
    which: str = 'best',
    inputs: str = 'episodes',
    shot: int = 1,
) -> dict[str, Any]:
    """Evaluate a work directory's fold on an H-PASCAL-5i file; the result goes to its eval/ folder.

    Args:
      config: the config; None takes the stored config.
      path: path of the file written by `hierarchy_build`.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: 'episodes', or 'zero_mask': with empty support masks.
      shot: supports of an episode, the first in the file's list.
    Returns:
      The written record: an evaluation over the episodes of all partitions, with `partitions`, each with its score at
      each label size (None if it is empty), and `cmps` at each label size.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if inputs not in GIVEN:
        raise ValueError(f'inputs must be one of {", ".join(GIVEN)}, got {inputs!r}')
    method = prepare_method(config, workdir)
    require_few_shot(method, workdir)
    asked, mesh, progress = _asked(method.config, path, shot), sharding.make_mesh(), ProgressBar()
    method = replace(method, config=asked.config)
    variables, step, replaced = load(method, workdir, which, mesh)
    evaluator = run.prepare_evaluator(
        EvaluationRun(
            method,
            asked.source,
            workdir,
            inputs,
            asked.protocol,
            {(shot, 0): asked.episodes},
            tuple(asked.classes),
            None,
        ),
        mesh,
        progress,
    )
    result = evaluator.run(variables, progress)
    out = (
        workdir
        / 'eval'
        / result_name(asked.config, weights_word(method.pretrained, which, step), inputs)
    )
    counts = evaluator.episode_counts[shot].named(asked.source.ids)
    origin = run.provenance(method, workdir, step, replaced)
    return _write(out, asked, result | {'inputs': inputs}, counts, origin)


def evaluate_hierarchy_predictions(
    config: ConfigDict | None, workdir: Path, folder: Path, path: Path, shot: int = 1
) -> dict[str, Any]:
    """Score a folder of masks on an H-PASCAL-5i file; the result goes to eval/ in a work directory.

    Args:
      config: sets fold and data; None takes the stored config.
      folder: folder of PNG files, see `predictions`, named by episode or by image.
      path: path of the file written by `hierarchy_build`.
      shot: supports of the episodes.
    Returns:
      The written record, as from `evaluate_hierarchy`, for masks on the square.
    Raises:
      ValueError, OSError: in one sentence, what is wrong, before anything is written.
    """
    config = stored_config(workdir) if config is None else config
    config_rules.validate(config, devices=1)
    asked = _asked(config, path, shot)
    result, counts = predictions.score_predictions(
        folder,
        asked.source,
        {(shot, 0): asked.episodes},
        asked.protocol,
        config.fold,
        ProgressBar(),
        asked.classes,
    )
    out = predictions.result_path(asked.config, workdir, folder)
    result |= {'inputs': 'predictions', 'size': None}
    return _write(out, asked, result, counts[shot], predictions.provenance(asked.config, folder))


def _asked(config, path, shot) -> Asked:
    """Open file and data. Raises ValueError, OSError if one is missing or the file does not fit the config."""
    file, source, config = (
        hpascal_file.read(path),
        open_data(config),
        ConfigDict(config.to_dict()),
    )
    partitions = hpascal_file.episodes(file, config.fold, source.ids, shot)
    protocol = hpascal_file.protocol(file, partitions, config.eval.label_size, config.data.void)
    config.eval.update(
        protocol=protocol.name,
        episodes_file='',
        shots=(shot,),
        seeds=protocol.seeds,
        label_size=protocol.resolution,
    )
    return Asked(config, file, source, protocol, partitions)


def _write(path, asked, result, counts, provenance):
    """Add the partitions to an evaluation's result, write it and print its table."""
    config, names = asked.config, asked.source.class_names
    lengths = {name: len(one) for name, one in asked.partitions.items()}
    scores = partition_scores(counts, lengths, names)
    result = result | {
        'eval': config_rules.plain(config.eval),
        'resolution': asked.protocol.resolution,
        'hpascal': {name: asked.file[name] for name in KEPT},
        'partitions': scores,
        'fold_classes': [names[c] for c in asked.source.index.novel_classes(config.fold)],
        'cmps': {
            size: cmps(one and one[size]['miou'] for one in scores.values())
            for size in counts.counts
        },
    }
    record = result_file.write_result(
        path,
        result,
        protocol=asked.protocol.name,
        protocol_hash=protocol_hash(asked.episodes, asked.source.ids),
        episodes={len(counts.supports[0]): counts},
        **provenance,
    )
    print(hierarchy_table.table([record]), end='')
    logger.info('result: %s', path)
    return record


def partition_scores(
    counts: EpisodeCounts, lengths: Mapping[str, int], class_names: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    """Compute the mIoU of each partition over its classes; None for an empty partition.

    Args:
      counts: counts of the episodes, partition by partition.
      lengths: number of episodes in each partition.
    Returns:
      name -> `episodes`, `queries`, `classes` by name, and for each label size `miou` and `per_class`.
    """
    scores, start = {}, 0
    for name, length in lengths.items():
        rows = slice(start, start + length)
        start += length
        class_ids = counts.class_id[rows]
        classes = [int(c) for c in np.unique(class_ids)]
        scores[name] = (
            {
                'episodes': length,
                'classes': [class_names[c] for c in classes],
                'queries': len(
                    set(zip(counts.query[rows].tolist(), class_ids.tolist(), strict=True))
                ),
                **{
                    size: _score(one, rows, class_ids, classes, class_names)
                    for size, one in counts.counts.items()
                },
            }
            if length
            else None
        )
    return scores


def _score(counts, rows, class_ids, classes, class_names):
    totals = metrics.accumulate(metrics.Counts(*(x[rows] for x in counts)), class_ids, classes)
    iou = metrics.class_iou(totals).tolist()
    return {
        'miou': metrics.miou(totals),
        'per_class': dict(zip([class_names[c] for c in classes], iou, strict=True)),
    }


def cmps(scores: Iterable[float | None]) -> float:
    """Compute the combined mean partition score: the unweighted mean over non-empty partitions (empty: None)."""
    return float(np.mean([score for score in scores if score is not None]))
