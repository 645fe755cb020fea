"""Which checkpoint is the best: mIoU on validation episodes, with pictures of a few of them."""

import logging
from pathlib import Path

from simpropnet_jax import experiment, visualize
from simpropnet_jax.evaluation.bank import load_bank
from simpropnet_jax.evaluation.evaluate import Evaluator
from simpropnet_jax.evaluation.panels import PanelMaker

logger = logging.getLogger(__name__)

PICTURED = 4  # episodes shown at each selection: of four classes, as classes come in turn


class Selection:
    """Scores states by `config.select`; images are read, and functions compiled, at the first call."""

    def __init__(self, config, module, source, mesh, conditioning_steps: int = 0):
        """`conditioning_steps` before the training are written beside each score: curves begin behind them."""
        self.conditioning_steps = conditioning_steps
        self.config, self.module, self.source, self.mesh = config, module, source, mesh
        self.classes, self.episodes = experiment.selection_episodes(config, source)
        self._evaluator = None

    def _prepare(self):
        config, key = self.config, (1, experiment.SELECTION_SEED)
        bank = load_bank(
            self.source, {key: self.episodes}, size=config.train.size, label_sizes=('square',),
            backend=config.data.loader)  # fmt: skip
        self._panels = PanelMaker(self.module, bank, config.model.convention, config.data.void)
        self._evaluator = Evaluator(
            self.module, bank, {key: self.episodes}, classes=self.classes, convention=config.model.convention,
            mesh=self.mesh, label_sizes=('square',), batch=config.eval.batch, void=config.data.void)

    def run(self, state, step: int, writer, workdir: Path) -> float:
        """The score of a state, higher is better; it is logged, and panels are written to figures/."""
        if self._evaluator is None:
            self._prepare()
        variables = state.variables
        scores = self._evaluator.run(variables)['shots']['1']['square']
        rule = self.config.select.on
        name = 'base_val' if rule == 'base_val' else 'novel_val'
        scalars = {f'{name}_miou': scores['miou'], f'{name}_fb_iou': scores['fb_iou']}
        writer.scalars(step, scalars | {'conditioning_steps': self.conditioning_steps})
        miou, fb_iou = 100 * scores['miou'], 100 * scores['fb_iou']
        logger.info('step %d  %s mIoU %.2f %%  FB-IoU %.2f %%', step, name, miou, fb_iou)
        picture = self._panels(variables, self.episodes[:PICTURED])
        writer.images(step, {'episodes': picture})
        if writer.active:
            visualize.save(picture, workdir / 'figures' / f'step{step:07d}.png')
        return float(step) if rule == 'last' else scores['miou']
