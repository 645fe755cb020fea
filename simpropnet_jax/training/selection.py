"""Select the best checkpoint by mIoU on validation episodes (with figures of a few), or on whole images."""

import logging
from collections.abc import Mapping

import jax

from simpropnet_jax.evaluation import oracle
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.evaluation.panels import PanelMaker
from simpropnet_jax.io import overlay
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.data import SELECTION_SEED
from simpropnet_jax.setup.run import TrainingRun

logger = logging.getLogger(__name__)

PICTURED = 4  # episodes shown at each selection; they are of four classes, as classes alternate


class Selection:
    """Score states by `config.select`; the first call reads images and compiles functions."""

    def __init__(self, run: TrainingRun, mesh: jax.sharding.Mesh, lengths: Mapping[str, int]):
        """Store what `run` needs; it writes `lengths`, from `phases.lengths`, with each score for the curves."""
        self.lengths, self.plan, self.mesh = lengths, run.selection, mesh
        self.module, self.source = run.method.module, run.source
        self._evaluator = None

    def _prepare(self):
        plan, key = self.plan, (1, SELECTION_SEED)
        bank = load_bank(
            self.source,
            {key: plan.episodes},
            size=plan.size,
            label_sizes=('square',),
            backend=plan.backend,
        )
        names = self.source.class_names
        self._panels = PanelMaker(self.module, bank, plan.convention, plan.void, names)
        self._evaluator = Evaluator(
            self.module,
            bank,
            {key: plan.episodes},
            classes=plan.classes,
            convention=plan.convention,
            mesh=self.mesh,
            label_sizes=('square',),
            batch=plan.batch,
            void=plan.void,
            memory=plan.memory,
            class_names=names,
        )

    def run(self, state, step: int, writer, workdir: AnyPath) -> float:
        """Return a state's score (higher is better), log it, and write panels to figures/."""
        if self._evaluator is None:
            self._prepare()
        variables = state.variables
        scores = self._evaluator.run(variables, ProgressBar())['shots']['1']['square']
        rule = self.plan.rule
        name = 'base_val' if rule == 'base_val' else 'novel_val'
        scalars = {f'{name}_miou': scores['miou'], f'{name}_fb_iou': scores['fb_iou']}
        writer.scalars(step, scalars | self.lengths)
        miou, fb_iou = 100 * scores['miou'], 100 * scores['fb_iou']
        logger.info('step %d  %s mIoU %.2f %%  FB-IoU %.2f %%', step, name, miou, fb_iou)
        picture = self._panels(variables, self.plan.episodes[:PICTURED])
        writer.images(step, {'episodes': picture})
        if writer.active:
            overlay.save(picture, workdir / 'figures' / f'step{step:07d}.png')
        return float(step) if rule == 'last' else scores['miou']


class SupervisedSelection:
    """Score the states of a network without episodes by its mIoU over all classes on the val images."""

    def __init__(self, run: TrainingRun, mesh: jax.sharding.Mesh, lengths: Mapping[str, int]):
        """Store what `run` needs; for `lengths` see `Selection`."""
        plan = run.selection
        self.rule, self.source, self.lengths = plan.rule, run.source, lengths
        self._predictor = oracle.LabelPredictor(
            run.method.module,
            run.source,
            convention=plan.convention,
            size=plan.size,
            mesh=mesh,
            batch=plan.batch,
            backend=plan.backend,
        )

    def run(self, state, step: int, writer, workdir: AnyPath) -> float:
        """Return a state's score (higher is better) and log it."""
        del workdir  # there are no episodes to picture
        scores = oracle.score(self._predictor, self.source, state.variables)
        scalars = {'val_miou': scores['miou'], 'val_pixel_accuracy': scores['pixel_accuracy']}
        writer.scalars(step, scalars | self.lengths)
        logger.info('step %d  val mIoU %.2f %% over all classes', step, 100 * scores['miou'])
        return float(step) if self.rule == 'last' else scores['miou']
