"""Trains and evaluates SimPropNet on shapes5i, an embedded data set: no download, minutes on two CPU cores.

    python demo.py --workdir runs/demo          (or: make demo)

It trains on 15 classes of drawn shapes, segments five others from one and from five examples, and compares. The same
command goes on with a demo that was stopped.
"""

from pathlib import Path

from absl import flags

from simpropnet_jax.config import command_line

CONFIG = command_line.define_config(required=False, default='configs/shapes.py')
WORKDIR = flags.DEFINE_string(
    'workdir', 'runs/demo', 'folder for checkpoints, results and pictures'
)


def main():
    from configs import shapes
    from simpropnet_jax.sweeps.demo import run_demo

    backbone = CONFIG.value.copy_and_resolve_references()
    shapes.backbone(backbone)
    run_demo(backbone, CONFIG.value, Path(WORKDIR.value))


if __name__ == '__main__':
    command_line.run(main)
