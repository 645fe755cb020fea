"""PASCAL-5i as a TFDS data set: VOC 2012 images with the labels of VOC 2012 and of SBD."""

from simpropnet_jax.datasets.pascal5i.builder import (
    INDEX_FILE,
    Pascal5i,
    check_counts,
    prepare_command,
    reference_counts,
)
from simpropnet_jax.datasets.pascal5i.inputs import Inputs, find_inputs

__all__ = [
    'INDEX_FILE',
    'Inputs',
    'Pascal5i',
    'check_counts',
    'find_inputs',
    'prepare_command',
    'reference_counts',
]
