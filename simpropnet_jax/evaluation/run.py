"""The evaluation of one work directory: weights, episodes, result file, table, pictures."""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.episode_files import Sets
from simpropnet_jax.episodes.protocols import Protocol, get_protocol, protocol_hash
from simpropnet_jax.evaluation import oracle
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import Progress, load_bank
from simpropnet_jax.evaluation.panels import PanelMaker, cases
from simpropnet_jax.evaluation.results import bootstrap, result_file, tables
from simpropnet_jax.evaluation.results.naming import (
    INPUTS,
    evaluation_words,
    method_name,
    result_name,
    training_words,
    weights_word,
)
from simpropnet_jax.io import overlay
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup import experiment

logger = logging.getLogger(__name__)


def evaluate_run(
    config: ConfigDict | None,
    workdir: AnyPath,
    which: str = 'best',
    inputs: str = 'episodes',
    pictures: bool = True,
) -> dict:
    """Evaluates a trained method, or one without parameters, as `config.eval` says.

    A supervised network is evaluated on whole images, by `supervised.evaluate_run`.

    Args:
      config: None: the work directory's own.
      workdir: of the training; the result goes to eval/ in it, and the config, where no training left one.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: what the method is given: 'episodes'; 'identical': every image-class pair once, the query being its own
        support (SimPropNet, Tables 2 and 5; Improved Similarity Propagation, Tables 2 and 6); 'zero_mask': the
        episodes with empty support masks (Improved Similarity Propagation, Table 7); 'other_class': the episodes with
        supports of the fold's next class, so that a method that uses its support scores low.
      pictures: draw the best, median and worst episode of each class; of an ordinary evaluation only.
    Returns:
      The record that was written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if inputs not in INPUTS:
        raise ValueError(f'inputs must be one of {", ".join(INPUTS)}, got {inputs!r}')
    method = experiment.prepare_method(
        experiment.stored_config(workdir) if config is None else config, workdir
    )
    config = method.config
    if not method.few_shot and inputs == 'episodes':
        return oracle.evaluate_run(config, workdir, which)
    experiment.require_few_shot(method, workdir)
    source = experiment.open_data(config)
    protocol, episodes = experiment.prepare_evaluation(config, source, inputs == 'identical')
    if inputs == 'other_class':
        change = lambda one: protocols.other_class_episodes(
            one, protocol, source.index, config.fold
        )
        episodes = {key: change(drawn) for key, drawn in episodes.items()}
    mesh, progress = sharding.make_mesh(), ProgressBar()
    variables, step = experiment.load_variables(method, workdir, which, mesh)
    classes = source.index.novel_classes(config.fold)
    evaluator = prepare_evaluator(
        method,
        source,
        protocol,
        episodes,
        classes,
        mesh,
        inputs == 'zero_mask',
        progress,
        protocols.next_class(classes) if inputs == 'other_class' else None,
    )
    result = evaluator.run(variables, progress)
    weights = weights_word(method, which, step)
    name = result_name(config, weights, inputs)
    counts = {shot: one.named(source.ids) for shot, one in evaluator.episode_counts.items()}
    result |= {
        'inputs': inputs,
        'eval': config_rules.plain(config.eval),
        'resolution': protocol.resolution,
    }
    result |= {
        'folds': len(source.index.held_out),
        'trained': training_words(config, step),
    }
    result['shots'] = bootstrap.with_intervals(result['shots'], counts)
    experiment.store_config(config, workdir)
    record = result_file.write_result(
        workdir / 'eval' / name,
        result,
        episodes=counts,
        protocol=protocol.name,
        protocol_hash=protocol_hash((e for one in episodes.values() for e in one), source.ids),
        **provenance(method, workdir, step),
    )
    print(tables.class_table(record))
    # PanelMaker segments as a plain evaluation does.
    if pictures and not evaluation_words(config.eval, inputs):
        _draw_cases(evaluator, variables, method, workdir / 'figures' / weights, protocol.void)
    logger.info('result: %s', workdir / 'eval' / name)
    return record


def evaluate_protocols(
    config: ConfigDict | None,
    workdir: AnyPath,
    names: Sequence[str],
    which: str = 'best',
    inputs: str = 'episodes',
) -> list[dict]:
    """Evaluates the same weights under several protocols, one after another, and prints the table of all.

    Args:
      config: None: the work directory's own, but without what its `eval` changes in a protocol: each is as its preset
        says. A config that is given changes each of them by its `eval.episodes`, `seeds` and `label_size`.
      names: of the presets.
      workdir, which, inputs: see `evaluate_run`.
    Returns:
      The records that were written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, with any of them, before the first is evaluated.
    """
    as_they_are = {'episodes': 0, 'seeds': (), 'label_size': 0} if config is None else {}
    config = experiment.stored_config(workdir) if config is None else config
    if config.eval.episodes_file:
        raise ValueError(
            "config.eval.episodes_file must be '' for several protocols, as a file has one of its own"
        )
    experiment.require_few_shot(experiment.prepare_method(config, workdir), workdir)
    configs, source = [], experiment.open_data(config)
    for name in names:
        get_protocol(name)
        one = ConfigDict(config.to_dict())
        one.eval.update({'protocol': name, **as_they_are})
        experiment.prepare_evaluation(one, source, inputs == 'identical')
        configs.append(one)
    records = [evaluate_run(one, workdir, which, inputs, pictures=False) for one in configs]
    print('\n' + tables.protocol_table(records), end='')
    return records


def provenance(method: experiment.Method, workdir: AnyPath, step: int | None) -> dict[str, Any]:
    """What a result file says of method, data and weights: arguments of `report.write_result`."""
    config, trained, start = method.config, step is not None, method.config.train.start
    return {
        'method': method_name(config, trained),
        'fold': config.fold,
        'data': experiment.data_word(config),
        'selection': config.select.on if trained else 'none',
        'checkpoint_step': step,
        'checkpoint': str(workdir) if trained else None,
        'weights': method.weights or start or config.model.weights,
    }


def prepare_evaluator(
    method: experiment.Method,
    source,
    protocol: Protocol,
    episodes: Sets,
    classes: Sequence[int],
    mesh: jax.sharding.Mesh,
    zero_mask: bool = False,
    progress: Progress | None = None,
    support_class: Mapping[int, int] | None = None,
) -> Evaluator:
    """The evaluator of the episodes, by the protocol and `config.eval`, with all images read.

    Args:
      episodes: {(shot, seed): episodes}.
      classes: class ids that the mIoU averages over; each needs an episode in every set.
      zero_mask: the supports' masks are emptied.
      support_class: class of the supports of each class's episodes, where it is not the same.
    """
    config, (sizes, side) = method.config, label_sizes(method.config.eval, protocol)
    bank = load_bank(
        source,
        episodes,
        size=config.eval.size,
        label_size=side,
        label_sizes=sizes,
        backend=config.data.loader,
        progress=progress,
        scales=config.eval.scales,
        random_supports=config.eval.random_support,
    )
    return Evaluator(
        method.module,
        bank,
        episodes,
        classes=classes,
        convention=config.model.convention,
        mesh=mesh,
        label_sizes=sizes,
        batch=config.eval.batch,
        void=protocol.void,
        class_names=source.class_names,
        zero_mask=zero_mask,
        refinement=config.eval.refinement,
        self_support=config.eval.self_support,
        memory=config.eval.memory,
        support_class=support_class,
    )


def label_sizes(evaluation: ConfigDict, protocol: Protocol) -> tuple[tuple[str, ...], int]:
    """The sizes at which masks are compared, the protocol's first, and the side of the square.

    The square is always among them, so that every result has it: that of the input where the protocol names none.
    """
    if protocol.resolution == 'own':
        return ('own', 'square'), evaluation.size
    return ('square', 'own') if evaluation.own_size else ('square',), protocol.resolution


def _draw_cases(evaluator, variables, method, folder, void):
    """Pictures of the best, median and worst episode of each class, at the fewest shots evaluated."""
    shot = min(evaluator.episode_iou)
    make = PanelMaker(method.module, evaluator.bank, method.config.model.convention, void)
    for name, chosen in cases(evaluator.episode_iou[shot], evaluator.classes).items():
        picture = make(variables, chosen)
        if jax.process_index() == 0:
            overlay.save(picture, folder / f'{shot}shot_{name}.jpg')
    logger.info('pictures of the best, median and worst episode of each class: %s', folder)


class ProgressBar:
    """A bar with the time left, one for each stage."""

    def __init__(self):
        self.stage = self.bar = None

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if what != self.stage:
            pause = (
                0.1 if sys.stderr.isatty() else 30
            )  # seconds between two updates; a log file needs few
            self.stage, self.bar = (
                what,
                tqdm(
                    total=total,
                    desc=what,
                    leave=False,
                    mininterval=pause,
                    disable=jax.process_index() != 0,
                ),
            )
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()
            self.stage = None  # a stage may come again: images are read and encoded at each size
