"""Refuse configs that cannot be trained or evaluated as a whole, before anything is compiled or written.

`config.rules` checks the range of single fields; `setup.data` checks what a data set lacks.
"""

import jax
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes import resident
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import TrainSampler
from simpropnet_jax.published import header
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup.data import image_sizes
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.parameters import split

OWN_DATA = 'folder'
INPUTS = ('episodes', 'identical', 'zero_mask', 'other_class')
"""Inputs that an evaluation gives a method; see `evaluation.run`."""


def check_config(config: ConfigDict, workdir: AnyPath, evaluates: bool = False) -> ConfigDict:
    """Check every field, and that a run in `workdir` was started with the same config.

    Args:
      evaluates: nothing is trained, so model.dtype may differ.
    Returns:
      A copy; model.convention, and model.dtype where it is 'auto', are the stored run's, if there is one.
    Raises:
      ValueError: names the field, the value and what is allowed.
    """
    config_rules.validate(config, jax.device_count(), jax.process_count())
    config = ConfigDict(config.to_dict())
    stored = header.config_file(workdir)
    if not evaluates and header.of(workdir):
        raise ValueError(
            f'{workdir} is a published model, which is not trained further. Use another --workdir, and start from it '
            f'with --config.train.start={workdir}'
        )
    if stored.exists():
        before = config_rules.load(stored)
        config_rules.check_same_run(config, before, workdir, evaluates)
        config.model.convention = before.model.convention
        if config.model.dtype == 'auto':
            config.model.dtype = before.model.dtype
    return config


def check_training(config: ConfigDict) -> None:
    """Refuse a training that its method does not support.

    Raises:
      ValueError: an imprinting method is trained on all classes; a benchmark's few-shot method is trained on all
        classes and selected on novel ones; a supervised network, which has the benchmarks' classes, is trained on
        other data; the selection rule is for another kind of method; or history
        masks are used with episodes that are not drawn from the list of pairs.
    """
    method = models.find(config.model.name).module
    if method.supervised and config.data.name == OWN_DATA:
        raise ValueError(
            f'config.model.name is {config.model.name!r}, a supervised network for the classes of PASCAL-5i. Train a '
            'few-shot method on your own data'
        )
    if method.supervised and config.data.name.startswith('fss1000/'):
        raise ValueError(
            f'config.model.name is {config.model.name!r}, which needs labels of all classes, but an image of FSS-1000 '
            'shows one class. Train a few-shot method'
        )
    if config.train.classes == 'all' and method.imprinting:
        raise ValueError(
            f"config.train.classes must be 'base' for {config.model.name}, got 'all': it imprints the novel classes, "
            'and none would be novel'
        )
    benchmark = method.few_shot and config.data.name != OWN_DATA
    if config.train.classes == 'all' and benchmark and config.select.on == 'novel_val':
        raise ValueError(
            "config.train.classes is 'all', so no class is novel, but config.select.on is 'novel_val'. Set "
            "config.select.on to 'base_val', which then draws from all classes, or train on 'base'"
        )
    _check_selection(config, method.few_shot)
    if keeps_history(method, config.train) and config.train.sampling != 'listed_pairs':
        raise ValueError(
            f"config.train.sampling must be 'listed_pairs' with history masks, got {config.train.sampling!r}: other "
            'orders may have a pair twice in a batch. Or set config.train.history_drop to 1, to train without them'
        )


def keeps_history(method, train: ConfigDict) -> bool:
    """Whether a training keeps an iterative method's earlier predictions (history masks, CANet)."""
    return method.few_shot and method.iterative and train.history_drop != 1


def _check_selection(config, few_shot):
    rule, name = config.select.on, config.model.name
    if few_shot and rule == 'val':
        raise ValueError(
            f"config.select.on must be 'novel_val', 'base_val' or 'last' for {name}, a few-shot method, got 'val', "
            'which is for supervised networks'
        )
    if not few_shot and rule not in ('val', 'last'):
        raise ValueError(
            f"config.select.on must be 'val' or 'last' for {name}, a supervised network, got {rule!r}"
        )


def check_dispatch(config: ConfigDict, episodic: bool, sampler: TrainSampler) -> None:
    """Refuse several steps per dispatch if the training images are streamed.

    Raises:
      ValueError: says how many bytes resident images would take.
    """
    needed = resident.bytes_of(
        len(np.unique(sampler.pairs.image)), tuple(image_sizes(config.train, episodic).values())
    )
    steps = config.train.steps_per_dispatch
    if steps > 1 and not resident.is_wanted(config.data.resident, needed):
        raise ValueError(
            f'config.train.steps_per_dispatch must be 1 if images are streamed, got {steps}. Keep them on the '
            f"device by config.data.resident 'always', which takes {needed:,} bytes of its memory"
        )


def check_frozen(method: Method) -> None:
    """Refuse to freeze missing parameters, or all parameters.

    Raises:
      ValueError: names config.train.frozen.
    """
    frozen = method.config.train.frozen
    if not split(method.abstract()['params'], frozen)[0]:
        raise ValueError(
            f'config.train.frozen is {frozen}, which is every parameter: nothing would be trained'
        )


def check_ways(protocol: Protocol, several: bool) -> None:
    """Refuse episodes of several classes where one class is expected.

    Raises:
      ValueError: names the protocol.
    """
    if protocol.ways > 1 and not several:
        raise ValueError(
            f'protocol {protocol.name!r} has {protocol.ways} classes in an episode, which only `simpropnet eval` with '
            '--inputs episodes takes. Choose another config.eval.protocol'
        )


def check_inputs(inputs: str) -> None:
    """Refuse an unknown kind of input to an evaluation.

    Raises:
      ValueError: names the kinds.
    """
    if inputs not in INPUTS:
        raise ValueError(f'inputs must be one of {", ".join(INPUTS)}, got {inputs!r}')
