"""The demo: train on base classes, evaluate on held-out classes, compare with simple baselines."""

import logging
import time
from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.evaluation import trivial
from simpropnet_jax.evaluation.engine.evaluator import evaluate
from simpropnet_jax.evaluation.run import evaluate_run, label_sizes
from simpropnet_jax.models.prototype import Prototype
from simpropnet_jax.runtime import sharding
from simpropnet_jax.setup.data import evaluation_episodes, open_data
from simpropnet_jax.setup.run import prepare_method
from simpropnet_jax.setup.weights import restore_variables
from simpropnet_jax.training.loop import train_and_evaluate

logger = logging.getLogger(__name__)

NEXT = """
Next:
  simpropnet eval --checkpoint {workdir}@latest        the evaluation alone, with the IoU of each class
  simpropnet demo --config shapes:fold=1 --workdir runs/demo1      five other classes held out
  tensorboard --logdir {workdir}                                the losses
  docs/tutorial/train_a_fold.md                                 the same on photographs
"""


def run_demo(
    backbone: ConfigDict, config: ConfigDict, workdir: Path
) -> dict[str, dict[str, float]]:
    """Train, evaluate and print the comparison; a second call resumes what was interrupted.

    Args:
      backbone: config of the backbone's training, in workdir/backbone; config: config of the method that uses it.
    Returns:
      Method or baseline name -> {shot: mIoU, as a fraction of one}.
    Raises:
      ValueError, OSError: errors that a user can fix.
    """
    started = time.monotonic()
    logger.info(
        '1 of 3: a narrow ResNet, end to end on the base classes (no ImageNet weights without a download)'
    )
    train_and_evaluate(backbone, workdir / 'backbone')
    config.model.weights = str(workdir / 'backbone')
    logger.info('2 of 3: SimPropNet on the frozen ResNet, by episodes of the base classes')
    train_and_evaluate(config, workdir)
    logger.info('3 of 3: classes that were held out')
    record = evaluate_run(None, workdir, 'latest')
    name = record['method']
    scores = {name: {shot: one['square']['miou'] for shot, one in record['shots'].items()}}
    scores |= _simpler_answers(config, workdir)
    shots = [str(shot) for shot in config.eval.shots]
    print(f'\nmIoU in percent, on the held-out classes: {", ".join(record["classes"])}\n')
    print(f'{"":38}' + ''.join(f'{f"{shot}-shot":>9}' for shot in shots))
    for answer, miou in scores.items():
        print(f'{answer:38}' + ''.join(f'{100 * miou[shot]:9.1f}' for shot in shots))
    if name == 'DPr + FBAF':
        print(f'\n{name}: SimPropNet without ICA, as colours are random here')
    print(f'\nPictures (support, truth, attention, answer): {workdir / "figures" / "latest"}')
    print(NEXT.format(workdir=workdir))
    logger.info('the demo took %.1f minutes', (time.monotonic() - started) / 60)
    return scores


def _simpler_answers(config, workdir):
    """Score the training-free prototype on the same encoder, and the trivial baselines, on the same episodes."""
    method = prepare_method(config, workdir)
    source, mesh = open_data(config), sharding.make_mesh()
    protocol, episodes = evaluation_episodes(config, source)
    classes, (_, side) = source.index.novel_classes(config.fold), label_sizes(config.eval, protocol)
    variables, _ = restore_variables(method, workdir, 'latest', sharding.replicated(mesh))
    encoder = {'params': {'backbone': variables['params']['backbone']}}
    same = ('encoder', 'levels', 'width', 'depths', 'deep_stem', 'stride_on')
    prototype = Prototype(**{name: getattr(method.module, name) for name in same})
    found = evaluate(
        prototype,
        encoder,
        source,
        episodes,
        classes=classes,
        convention=method.config.model.convention,
        size=config.eval.size,
        label_size=side,
        mesh=mesh,
        label_sizes=('square',),
        batch=config.eval.batch,
        void=protocol.void,
        backend=config.data.loader,
        class_names=source.class_names,
    )
    scores = {
        'prototype on the same encoder': {
            s: one['square']['miou'] for s, one in found['shots'].items()
        }
    }
    for shot in config.eval.shots:
        chosen = [e for (k, _), one in episodes.items() if k == shot for e in one]
        for name, miou in trivial.score(source, chosen, classes, side).items():
            scores.setdefault(name, {})[str(shot)] = miou
    return scores
