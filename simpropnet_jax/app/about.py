"""One line on what the loaded network was trained on."""

from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.config import rules
from simpropnet_jax.datasets import declared, shapes5i
from simpropnet_jax.datasets.folds import base_classes
from simpropnet_jax.published import header
from simpropnet_jax.runtime.paths import AnyPath

DATA = {
    'pascal5i': 'photographs of PASCAL VOC',
    'coco20i': 'photographs of COCO',
    'fss1000': 'photographs of FSS-1000',
    'shapes5i': 'drawn shapes: expect little of it on photographs',
    'folder': 'your own data set',
}
"""What the page calls a data set, by the first part of its name."""


def trained_on(run: AnyPath) -> str:
    """Return a sentence on the network of a run folder or a published model.

    Raises:
      ValueError: the model's file or config is damaged.
    """
    file = header.of(run)
    if file is not None:
        about = header.read_about(file)
        return f'Network: {about["summary"]}.{_listed(about["classes"])}'
    config = rules.load(header.config_file(run))
    kind = config.data.name.partition('/')[0]
    title = models.title(config.model.name)
    return f'Network: {title}, trained on {DATA.get(kind, config.data.name)}.{_listed(_classes(config, kind))}'


def _classes(config: ConfigDict, kind: str) -> list[str]:
    held_out = declared.held_out(config.data.name, config.data.folds)
    if held_out is None:
        return []  # its index may not be here
    names = shapes5i.CLASS_NAMES if kind == 'shapes5i' else declared.find(kind).classes
    everything = config.train.classes == 'all'
    base = range(1, len(names)) if everything else base_classes(config.fold, held_out, names)
    return [names[number] for number in base]


def _listed(classes: list[str]) -> str:
    if not classes:
        return ''
    return f' Its {len(classes)} classes: {", ".join(classes)}. It also follows examples of others, less surely.'
