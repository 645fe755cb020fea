"""Evaluates a trained method on the partitions of an H-PASCAL-5i file, easy to hard.

    python -m simpropnet_jax.analysis.hierarchy --workdir runs/fold2 --hpascal hpascal.json
    python -m simpropnet_jax.analysis.hierarchy --workdir runs/fold2 --hpascal hpascal.json --inputs zero_mask
    python -m simpropnet_jax.analysis.hierarchy_table runs/*/eval/hpascal_*.json      (four folds in one table)

mIoU of each of the eight partitions, and CMPS, its mean over them: Improved Similarity Propagation, Table 3; with empty
support masks, Table 7. Without --config, the config of the training is used. With it, it must be the training's; fields
of eval may differ.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from simpropnet_jax import commandline, experiment, parallel
from simpropnet_jax import config as config_rules
from simpropnet_jax.analysis import hierarchy_table
from simpropnet_jax.config import FREE
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.protocols import get_protocol, protocol_hash
from simpropnet_jax.evaluation import metrics, report, run
from simpropnet_jax.evaluation.episode_counts import EpisodeCounts

logger = logging.getLogger(__name__)

GIVEN = ('episodes', 'zero_mask')
PROTOCOL = 'hpascal'
KEPT = ('parameters', 'oracle', 'features', 'image_list', 'tiny_rule', 'sha256')  # of the file, in a result


def evaluate_hierarchy(
    config: ConfigDict | None, workdir: Path, path: Path, which: str = 'best', inputs: str = 'episodes', shot: int = 1
) -> dict[str, Any]:
    """Evaluates a work directory's fold on an H-PASCAL-5i file; the result goes to eval/ in it.

    Args:
      config: None: the work directory's own.
      path: of the file that `hierarchy_build` wrote.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: 'episodes', or 'zero_mask': with empty support masks.
      shot: supports of an episode, the first of those that the file lists.
    Returns:
      The record that was written: that of an evaluation, over the episodes of all partitions, with `partitions`, each
      with its score at each label size (None where it is empty), and `cmps` at each label size.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if inputs not in GIVEN:
        raise ValueError(f'inputs must be one of {", ".join(GIVEN)}, got {inputs!r}')
    file = hpascal_file.read(path)
    method = experiment.prepare_method(experiment.stored_config(workdir) if config is None else config, workdir)
    experiment.require_few_shot(method, workdir)
    method = replace(method, config=_as_evaluated(method.config, shot))
    config, source, mesh = method.config, experiment.open_data(method.config), parallel.make_mesh()
    partitions = hpascal_file.episodes(file, config.fold, source.ids, shot)
    episodes = [e for found in partitions.values() for e in found]
    variables, step = experiment.load_variables(method, workdir, which, mesh)
    protocol = replace(get_protocol('simpropnet'), name=PROTOCOL, resolution=config.eval.label_size,
                       void=config.data.void)  # fmt: skip
    classes, progress = sorted({e.class_id for e in episodes}), run.ProgressBar()
    evaluator = run.prepare_evaluator(
        method, source, protocol, {(shot, 0): episodes}, classes, mesh, inputs == 'zero_mask', progress)  # fmt: skip
    result = evaluator.run(variables, progress)
    counts = evaluator.episode_counts[shot]
    scores = partition_scores(counts, {name: len(one) for name, one in partitions.items()}, source.class_names)
    result |= _facts(config, inputs, file, scores, evaluator.label_sizes, source.class_names)
    path = workdir / 'eval' / run.result_name(config, run.weights_word(method, which, step), inputs)
    record = report.write_result(
        path, result, protocol=protocol.name, protocol_hash=protocol_hash(episodes, source.ids),
        episodes={shot: counts.named(source.ids)}, **run.provenance(method, workdir, step))  # fmt: skip
    print(hierarchy_table.table([record]), end='')
    logger.info('result: %s', path)
    return record


def _as_evaluated(config, shot):
    """The config, with `eval` as the file decides it; masks are compared on the square that 'simpropnet' has."""
    config = ConfigDict(config.to_dict())
    side = config.eval.label_size or get_protocol('simpropnet').resolution
    config.eval.update(protocol=PROTOCOL, episodes_file='', shots=(shot,), seeds=(0,), label_size=side)
    return config


def _facts(config, inputs, file, scores, sizes, class_names):
    """What the record says besides the evaluation's own numbers."""
    return {
        'inputs': inputs, 'eval': config_rules.plain(config.eval), 'resolution': config.eval.label_size,
        'hpascal': {name: file[name] for name in KEPT},
        'partitions': scores, 'fold_classes': [class_names[c] for c in novel_classes(config.fold)],
        'cmps': {size: cmps(one and one[size]['miou'] for one in scores.values()) for size in sizes},
    }  # fmt: skip


def partition_scores(
    counts: EpisodeCounts, lengths: Mapping[str, int], class_names: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    """mIoU of each partition, over the classes that it has; None where it is empty.

    Args:
      counts: of the episodes, partition after partition.
      lengths: how many episodes each has.
    Returns:
      name -> `episodes`, `queries`, `classes` by name, and for each label size `miou` and `per_class`.
    """
    scores, start = {}, 0
    for name, length in lengths.items():
        rows = slice(start, start + length)
        start += length
        class_ids = counts.class_id[rows]
        classes = [int(c) for c in np.unique(class_ids)]
        scores[name] = {
            'episodes': length, 'classes': [class_names[c] for c in classes],
            'queries': len(set(zip(counts.query[rows].tolist(), class_ids.tolist(), strict=True))),
            **{size: _score(one, rows, class_ids, classes, class_names) for size, one in counts.counts.items()},
        } if length else None  # fmt: skip
    return scores


def _score(counts, rows, class_ids, classes, class_names):
    totals = metrics.accumulate(metrics.Counts(*(x[rows] for x in counts)), class_ids, classes)
    iou = metrics.class_iou(totals).tolist()
    return {'miou': metrics.miou(totals), 'per_class': dict(zip([class_names[c] for c in classes], iou, strict=True))}


def cmps(scores: Iterable[float | None]) -> float:
    """Combined mean partition score: the unweighted mean over the partitions that are not empty (None)."""
    return float(np.mean([score for score in scores if score is not None]))


def main():
    parallel.start_hosts()
    workdir, path = Path(WORKDIR.value), Path(HPASCAL.value)
    evaluate_hierarchy(CONFIG.value, workdir, path, CHECKPOINT.value, INPUTS.value, SHOT.value)


if __name__ == '__main__':
    CONFIG = commandline.define_config(required=False, only=[name for name in FREE if not name.startswith('train.')])
    WORKDIR = flags.DEFINE_string('workdir', None, 'folder that train.py wrote; results go to eval/ in it')
    HPASCAL = flags.DEFINE_string('hpascal', None, 'file that simpropnet_jax.analysis.hierarchy_build wrote')
    CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', "which weights: 'best', 'latest' or a step")
    INPUTS = flags.DEFINE_enum('inputs', 'episodes', GIVEN, 'zero_mask: the episodes with empty support masks')
    SHOT = flags.DEFINE_integer('shot', 1, 'supports of an episode', lower_bound=1)
    flags.mark_flags_as_required(['workdir', 'hpascal'])
    commandline.run(main)
