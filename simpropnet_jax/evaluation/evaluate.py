"""The evaluation of a trained run, for users of the package."""

import os
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.runtime import paths


def evaluate(
    run: str | os.PathLike,
    *,
    which: str = 'best',
    inputs: str = 'episodes',
    config: ConfigDict | None = None,
    pictures: bool = False,
) -> dict[str, Any]:
    """Evaluate a trained run on its novel classes.

    This is `simpropnet eval`: it prints the table and writes the result file to eval/ in the run folder.

    Args:
      run: folder or gs:// URL of the training.
      which: checkpoint, 'best', 'latest' or a step.
      inputs: inputs of the method, see `simpropnet eval --help`.
      config: the training's config with other fields of `eval`; None takes the stored config.
      pictures: whether to draw the best, median and worst episode of each class.
    Returns:
      The content of the result file. `result['shots']['1']['square']['miou']` is the 1-shot mIoU as a fraction of one.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.

    Example:
      >>> from simpropnet_jax import evaluate
      >>> result = evaluate('runs/fold2')
    """
    return evaluate_run(config, paths.parse(run), which, inputs, pictures)
