"""Evaluate one work directory: weights, episodes, result file, table, pictures."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes.protocols import Protocol, get_protocol, protocol_hash
from simpropnet_jax.evaluation import oracle, shared_pictures
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.evaluation.panels import PanelMaker, cases
from simpropnet_jax.evaluation.results import bootstrap, result_file, tables
from simpropnet_jax.evaluation.results.naming import (
    evaluation_words,
    method_name,
    result_name,
    training_words,
    weights_word,
)
from simpropnet_jax.io import overlay
from simpropnet_jax.published.header import config_file
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import Progress, ProgressBar
from simpropnet_jax.setup.data import data_word
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.refusals import check_inputs
from simpropnet_jax.setup.run import EvaluationRun, prepare, store_config, with_episodes
from simpropnet_jax.setup.weights import load

logger = logging.getLogger(__name__)


def evaluate_run(
    config: ConfigDict | None,
    workdir: AnyPath,
    which: str = 'best',
    inputs: str = 'episodes',
    pictures: bool = True,
) -> dict:
    """Evaluate a trained method, or one without parameters, as `config.eval` says.

    A supervised network is evaluated on whole images, by `oracle.evaluate`.

    Args:
      config: None: the run folder's own.
      workdir: the run folder. The result goes to eval/ in it; the config is stored too, if no training stored one.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: inputs of the method: 'episodes'; 'identical': every image-class pair once, with the query as its own
        support (SimPropNet, Tables 2 and 5; Improved Similarity Propagation, Tables 2 and 6); 'zero_mask': the
        episodes with empty support masks (Improved Similarity Propagation, Table 7); 'other_class': the episodes with
        supports of the fold's next class, so that a method that uses its support scores low.
      pictures: whether to draw the best, median and worst episode of each class, in ordinary evaluations only.
    Returns:
      The written record.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    check_inputs(inputs)
    run = prepare(config, workdir)
    if inputs == 'episodes' and not run.method.few_shot:
        return oracle.evaluate(run, which)
    return evaluate(with_episodes(run, inputs, several=True), which, pictures)


def evaluate(run: EvaluationRun, which: str = 'best', pictures: bool = True) -> dict:
    """Evaluate a prepared run. See `evaluate_run`."""
    config, source, workdir, inputs = run.config, run.source, run.workdir, run.inputs
    mesh, progress = sharding.make_mesh(), ProgressBar()
    variables, step, replaced = load(run.method, workdir, which, mesh)
    evaluator = prepare_evaluator(run, mesh, progress)
    result = evaluator.run(variables, progress)
    weights = weights_word(run.method.pretrained, which, step)
    name = result_name(config, weights, inputs, _trained_dtype(workdir))
    counts = {shot: one.named(source.ids) for shot, one in evaluator.episode_counts.items()}
    result |= {
        'inputs': inputs,
        'eval': config_rules.plain(config.eval),
        'resolution': run.protocol.resolution,
        'folds': len(source.index.held_out),
        'trained': training_words(config, step),
    }
    result['shots'] = bootstrap.with_intervals(result['shots'], counts)
    store_config(config, workdir)
    drawn = (episode for episodes in run.episodes.values() for episode in episodes)
    record = result_file.write_result(
        workdir / 'eval' / name,
        result,
        episodes=counts,
        protocol=run.protocol.name,
        protocol_hash=protocol_hash(drawn, source.ids),
        **provenance(run.method, workdir, step, replaced),
    )
    print(tables.class_table(record))
    # PanelMaker segments like an ordinary evaluation.
    if pictures and not evaluation_words(config.eval, inputs) and run.protocol.ways == 1:
        shared = shared_pictures.folder_beside(workdir / 'eval' / name)
        _draw_cases(evaluator, variables, run, workdir / 'figures' / weights, shared)
    logger.info('result: %s', workdir / 'eval' / name)
    return record


def evaluate_protocols(
    config: ConfigDict | None,
    workdir: AnyPath,
    names: Sequence[str],
    which: str = 'best',
    inputs: str = 'episodes',
) -> list[dict]:
    """Evaluate the same weights under several protocols in turn, and print one table.

    Args:
      config: None takes the stored config without its changes to protocols, so each follows its preset. A config given
        here changes every protocol by its `eval.episodes`, `seeds` and `label_size`.
      names: names of the presets.
      workdir, which, inputs: see `evaluate_run`.
    Returns:
      The written records.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, with any of them, before the first is evaluated.
    """
    as_they_are = {'episodes': 0, 'seeds': (), 'label_size': 0} if config is None else {}
    config = stored_config(workdir) if config is None else config
    if config.eval.episodes_file:
        raise ValueError(
            "config.eval.episodes_file must be '' for several protocols, because the file contains its protocol"
        )
    run, configs = prepare(config, workdir), []
    for name in names:
        get_protocol(name)
        one = ConfigDict(config.to_dict())
        one.eval.update({'protocol': name, **as_they_are})
        with_episodes(replace(run, method=replace(run.method, config=one)), inputs, several=True)
        configs.append(one)
    records = [evaluate_run(one, workdir, which, inputs, pictures=False) for one in configs]
    print('\n' + tables.protocol_table(records), end='')
    return records


def provenance(
    method: Method, workdir: AnyPath, step: int | None, replaced: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a result file's entries on method, data and weights: arguments of `report.write_result`."""
    config, trained, start = method.config, step is not None, method.config.train.start
    return {
        'method': method_name(config, trained),
        'fold': config.fold,
        'data': data_word(config),
        'selection': config.select.on if trained else 'none',
        'checkpoint_step': step,
        'checkpoint': str(workdir) if trained else None,
        'weights': method.weights or start or config.model.weights,
        'replaced': replaced,
    }


def prepare_evaluator(
    run: EvaluationRun, mesh: jax.sharding.Mesh, progress: Progress | None = None
) -> Evaluator:
    """Return the evaluator of a run's episodes, with all images read."""
    config, protocol, source, episodes = run.config, run.protocol, run.source, run.episodes
    sizes, side = label_sizes(config.eval, protocol)
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
        grid=run.method.module.grid,
    )
    return Evaluator(
        run.method.module,
        bank,
        episodes,
        classes=run.classes,
        convention=config.model.convention,
        mesh=mesh,
        label_sizes=sizes,
        batch=config.eval.batch,
        void=protocol.void,
        class_names=source.class_names,
        zero_mask=run.inputs == 'zero_mask',
        refinement=config.eval.refinement,
        self_support=config.eval.self_support,
        memory=config.eval.memory,
        support_class=run.support_class,
        ways=run.protocol.ways,
    )


def _trained_dtype(workdir: AnyPath) -> str | None:
    return stored_config(workdir).model.dtype if config_file(workdir).exists() else None


def label_sizes(evaluation: ConfigDict, protocol: Protocol) -> tuple[tuple[str, ...], int]:
    """Return the sizes at which masks are compared, the protocol's first, and the side of the square.

    The square is always included, so that every result has it; by default it is the input's square.
    """
    if protocol.resolution == 'own':
        return ('own', 'square'), evaluation.size
    return ('square', 'own') if evaluation.own_size else ('square',), protocol.resolution


def _draw_cases(evaluator, variables, run, folder, shared):
    """Draw the best, median and worst episode of each class, at the fewest shots evaluated.

    And the first of each class, which every method draws, in the folder `shared`.
    """
    shot, convention = min(evaluator.episode_iou), run.config.model.convention
    names = run.source.class_names
    make = PanelMaker(run.method.module, evaluator.bank, convention, run.protocol.void, names)
    for name, chosen in cases(evaluator.episode_iou[shot], evaluator.classes).items():
        picture = make(variables, chosen, scale=2)
        if jax.process_index() == 0:
            overlay.save(picture, folder / f'{shot}shot_{name}.jpg')
    for one in shared_pictures.choose(run.protocol, run.config.fold, run.episodes):
        prediction = make.segment(variables, one.episode).prediction
        if jax.process_index() == 0:
            shared_pictures.write(shared, run.source, one, prediction)
    logger.info('pictures of the best, median and worst episode of each class: %s', folder)
