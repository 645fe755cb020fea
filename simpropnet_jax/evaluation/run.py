"""The evaluation of one work directory: weights, episodes, result file, table, pictures."""

import logging
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from simpropnet_jax import config as config_rules
from simpropnet_jax import experiment, parallel, visualize
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.episodes.protocols import protocol_hash
from simpropnet_jax.evaluation import report, tables
from simpropnet_jax.evaluation.bank import load_bank
from simpropnet_jax.evaluation.evaluate import Evaluator
from simpropnet_jax.evaluation.panels import PanelMaker, cases

logger = logging.getLogger(__name__)

# What tables call methods and what is added to their training.
METHODS = {'simpropnet': 'baseline', 'canet': 'CANet'}
CONDITIONED = {'before': 'TPC', 'mixed': 'TPC mixed in', 'after': 'TPC after'}
INPUTS = ('episodes', 'identical', 'zero_mask')


def evaluate_run(
    config: ConfigDict | None, workdir: Path, which: str = 'best', inputs: str = 'episodes', pictures: bool = True
) -> dict:
    """Evaluates a trained method, or one without parameters, as `config.eval` says.

    Args:
      config: None: the work directory's own.
      workdir: of the training; the result goes to eval/ in it.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: what the method is given: 'episodes'; 'identical': every image-class pair once, the query being its own
        support (SimPropNet, Tables 2 and 5; Improved Similarity Propagation, Tables 2 and 6); 'zero_mask': the
        episodes with empty support masks (Improved Similarity Propagation, Table 7).
      pictures: draw the best, median and worst episode of each class; of an ordinary evaluation only.
    Returns:
      The record that was written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    if inputs not in INPUTS:
        raise ValueError(f'inputs must be one of {", ".join(INPUTS)}, got {inputs!r}')
    if config is None:
        if not (workdir / 'config.json').exists():
            raise ValueError(f'{workdir} has no config.json: train there first, or give --config')
        config = config_rules.load(workdir / 'config.json')
    method = experiment.prepare_method(config, workdir)
    config = method.config
    source = experiment.open_data(config)
    episodes = experiment.evaluation_episodes(config, source, inputs == 'identical')
    mesh = parallel.make_mesh()
    variables, step = _variables(method, workdir, which, mesh)
    progress, sizes = _Progress(), ('square', 'own') if config.eval.own_size else ('square',)
    bank = load_bank(
        source, episodes, size=config.eval.size, label_size=config.eval.label_size, label_sizes=sizes,
        backend=config.data.loader, progress=progress, scales=config.eval.scales,
        random_supports=config.eval.random_support)  # fmt: skip
    evaluator = Evaluator(
        method.module, bank, episodes, classes=novel_classes(config.fold), convention=config.model.convention,
        mesh=mesh, label_sizes=sizes, batch=config.eval.batch, void=config.data.void,
        class_names=source.class_names, zero_mask=inputs == 'zero_mask',
        refinement=config.eval.refinement)  # fmt: skip
    result = evaluator.run(variables, progress)
    weights = ('imported' if method.pretrained.keys() - {'backbone'} else 'untrained') if step is None else which
    name = result_name(config, weights, inputs)
    result |= {'inputs': inputs, 'eval': config_rules.plain(config.eval)}
    record = report.write_result(
        workdir / 'eval' / name, result, episodes={k: e.named(source.ids) for k, e in evaluator.episode_counts.items()},
        method=method_name(config), fold=config.fold, protocol=config.eval.protocol,
        protocol_hash=protocol_hash((e for one in episodes.values() for e in one), source.ids), data=config.data.name,
        selection='none' if step is None else config.select.on, checkpoint_step=step,
        checkpoint=None if step is None else str(workdir), weights=method.weights or config.model.weights)  # fmt: skip
    print(tables.class_table(record))
    if pictures and not _changes(config.eval, inputs):  # PanelMaker segments as an ordinary evaluation does
        _draw_cases(evaluator, variables, method, workdir / 'figures' / weights)
    logger.info('result: %s', workdir / 'eval' / name)
    return record


def result_name(config: ConfigDict, weights: str, inputs: str = 'episodes') -> str:
    """The name of a result file: protocol, fold, size and weights, and how it differs from an ordinary evaluation."""
    words = [config.eval.protocol, f'fold{config.fold}', f'{config.eval.size}px', weights]
    return '_'.join(words + _changes(config.eval, inputs)) + '.json'


def _changes(evaluation, inputs):
    """How an evaluation differs from the ordinary one, in words of a file's name."""
    words = [inputs] if inputs != 'episodes' else []
    words += ['scales' + '-'.join(map(str, evaluation.scales))] if tuple(evaluation.scales) != (1.0,) else []
    words += ['random_support'] if evaluation.random_support else []
    words += [evaluation.refinement] if evaluation.refinement != 'fixed' else []
    return words


def method_name(config: ConfigDict) -> str:
    """What tables call the method: for SimPropNet the row of the paper's Table 4; and what is added to its training."""
    parts = []
    if config.model.name == 'simpropnet':
        parts = [('DPr', config.train.dual_prediction), ('FBAF', config.model.fbaf), ('ICA', config.train.ica > 0)]
    names = [name for name, used in parts if used] or [METHODS.get(config.model.name, config.model.name)]
    names += ['attention'] if config.model.get('shots') == 'attention' else []
    names += ['CRC'] if config.train.crc else []
    names += [CONDITIONED[config.tpc.when]] if config.tpc.when != 'never' else []
    return ' + '.join(names)


def _draw_cases(evaluator, variables, method, folder):
    """Pictures of the best, median and worst episode of each class, at the fewest shots evaluated."""
    shot = min(evaluator.episode_iou)
    make = PanelMaker(method.module, evaluator.bank, method.config.model.convention, method.config.data.void)
    for name, chosen in cases(evaluator.episode_iou[shot], evaluator.classes).items():
        visualize.save(make(variables, chosen), folder / f'{shot}shot_{name}.jpg')
    logger.info('pictures of the best, median and worst episode of each class: %s', folder)


def _variables(method, workdir, which, mesh):
    """Variables on the mesh and the step they are of; None for a method with nothing to train, or trained elsewhere."""
    params = set(method.abstract()['params'])
    if params <= set(method.config.train.frozen) or params <= set(method.pretrained):
        create = jax.jit(method.init, out_shardings=parallel.replicated(mesh))
        return create(jax.random.key(0), method.pretrained), None
    return experiment.restore_variables(method, workdir, which, parallel.replicated(mesh))


class _Progress:
    """A bar with the time left, one for each stage."""

    def __init__(self):
        self.stage = self.bar = None

    def __call__(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if what != self.stage:
            pause = 0.1 if sys.stderr.isatty() else 30  # seconds between two updates; a log file needs few
            self.stage, self.bar = what, tqdm(total=total, desc=what, leave=False, mininterval=pause)
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()
            self.stage = None  # a stage may come again: images are read and encoded at each size
