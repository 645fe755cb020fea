"""Trainings of a network so small that a run takes seconds, compilation and all.

    python -m tests.training.tiny CONFIG.json WORKDIR [--evaluate] [--end_at=STEP --by=SIGKILL]

is one process of such a training, and of an evaluation after it; at a step it may send itself a signal.
`run` is the same process with the imports already done.
"""

import argparse
import atexit
import logging
import multiprocessing
import os
import signal
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

from simpropnet_jax import models
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.models.prototype import Prototype
from simpropnet_jax.runtime import errors, hosts
from tests.compiling import QUICKLY

IMPORTED_LATER = (
    'simpropnet_jax.evaluation.run',
    'tensorflow',
    'tensorflow_datasets',
    'clu.metric_writers',
    'simpropnet_jax.datasets.pascal5i.builder',
)


class Tiny(Prototype):
    """The prototype on two convolutions; training changes the second, which has 300 kB."""

    def setup(self):
        self.backbone = nn.Conv(64, (3, 3), strides=8)
        self.project = nn.Conv(128, (3, 3))
        self.dropout = nn.Dropout(0.5)

    def encode(self, images, train=False):
        return self.dropout(self.project(self.backbone(images)), deterministic=not train)


class Backbone(nn.Module):
    """In place of a method's ResNet: one convolution."""

    @nn.compact
    def __call__(self, images):
        features = nn.Conv(8, (8, 8), strides=8)(images)
        return {'layer2': features, 'layer3': features}


def make_backbone(*given, **of_vgg):
    """In place of `method.make_backbone`."""
    return Backbone()


def build(model, stride_on, novel):
    """In place of `models.build`."""
    return Tiny()


def processes():
    """Return what starts real processes; each is forked from a server that did the imports once."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(
        ['tests.training.tiny', 'simpropnet_jax.training.loop', *IMPORTED_LATER]
    )
    return context


def train(config: Path, workdir: Path) -> None:
    """The process of one training, on one device; `processes` starts it, and a test may kill it.

    At its end, all parameters and momenta go to final.npz in the work directory.
    """
    os.environ['XLA_FLAGS'] = QUICKLY
    jax.config.update(
        'jax_persistent_cache_min_compile_time_secs', 0.0
    )  # so that a life begins in two seconds
    models.build = build
    from simpropnet_jax.training import loop

    state = loop.train_and_evaluate(config_rules.load(config), workdir)
    np.savez(workdir / 'final.npz', *jax.tree.leaves((state.variables, state.opt_state)))


def run(words: list[str], environment: dict[str, str], output: Path) -> None:
    """The process of a command line and these environment variables; `processes` starts it.

    Args:
      output: folder of the files stdout and stderr.
    """
    for number, name in enumerate(('stdout', 'stderr'), 1):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    jax.config.update('jax_platforms', environment['JAX_PLATFORMS'])
    try:
        main(words)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves without them, and JAX without its goodbye


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('config', type=Path)
    parser.add_argument('workdir', type=Path)
    parser.add_argument('--evaluate', action='store_true')
    parser.add_argument('--end_at', type=int)
    parser.add_argument('--by', default='SIGKILL')
    given = parser.parse_args(words)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    models.build = build
    logging.basicConfig(level=logging.WARNING, force=True)
    logging.getLogger('simpropnet_jax').setLevel(logging.INFO)
    with hosts.ending_together(), errors.plain_errors():
        hosts.start()
        from simpropnet_jax.evaluation import run
        from simpropnet_jax.training import loop

        if given.end_at is not None:
            add = loop._Log.add

            def add_and_end(log, step, *metrics):
                add(log, step, *metrics)
                if step == given.end_at:
                    os.kill(os.getpid(), signal.Signals[given.by])

            loop._Log.add = add_and_end
        config = config_rules.load(given.config)
        loop.train_and_evaluate(config, given.workdir)
        if given.evaluate:
            run.evaluate_run(config, given.workdir, 'latest')


if __name__ == '__main__':
    main()
