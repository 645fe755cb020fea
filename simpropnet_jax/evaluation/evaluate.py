"""The evaluation of a trained run, or of any Python callable, for users of the package."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax.config import common
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes.presets import PRESETS
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.progress import ProgressBar

RESULTS = 'runs'


def evaluate(
    predictor: str | os.PathLike | Callable[..., Any],
    protocol: str | None = None,
    fold: int | None = None,
    *,
    config: ConfigDict | None = None,
    which: str = 'best',
    inputs: str = 'episodes',
    pictures: bool = False,
    data: str | None = None,
    data_dir: str | os.PathLike | None = None,
    shots: Sequence[int] | None = None,
    episodes: int | None = None,
    name: str | None = None,
    workdir: str | os.PathLike | None = None,
    size: int | None = None,
    batch: int | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Evaluate a trained run, or any Python callable, on the novel classes of a fold.

    A run: this is `simpropnet eval`. It prints the table and writes the result file to eval/ in the run folder.

    A callable: it gets the supports of one class (a `SupportSet` with `images`, `masks`, `void`, `class_id` and
    `class_name`) and a query, uint8 [H, W, 3]. It returns a mask or a probability map, [H, W] of the query or any
    square, from NumPy, JAX or PyTorch. The result file is like a run's, so `simpropnet tables`, `compare` and `board`
    take it. Call it again to resume after a kill.

    Args:
      predictor: folder or gs:// URL of the training; or a callable.
      protocol: name of a protocol, such as 'hsnet', or a file of `simpropnet episodes`. None: the run's; of a callable,
        'simpropnet'.
      fold: the fold; of a callable, None is 0. A run has its own.
      config: other fields of `eval` and `data`; None takes the stored config or the defaults.
      which: of a run: checkpoint, 'best', 'latest' or a step.
      inputs: of a run: inputs of the method, see `simpropnet eval --help`.
      pictures: of a run: whether to draw the best, median and worst episode of each class.
      data, data_dir: name and folder of the prepared data, as in config.data.
      shots, episodes: numbers of supports, and episodes of each seed, as in config.eval.
      name: of a callable: the method's name in results; None: the callable's own.
      workdir: of a callable: folder for the result, in eval/; None: runs/NAME.
      size: of a callable: side of the squares that its images and masks are stretched to; None: their own sizes.
      batch: of a callable: calls have lists of at most so many episodes, and return a list; None: the callable's
        attribute `batch`, if it has one; 0: no lists.
      restart: of a callable: forget what an unfinished evaluation has done.
    Returns:
      The content of the result file; the example reads the 1-shot mIoU, a fraction of one.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.

    Examples:
      >>> from simpropnet_jax import evaluate
      >>> result = evaluate('runs/fold2')  # doctest: +ELLIPSIS
      SimPropNet...
      >>> 0 <= result['shots']['1']['square']['miou'] <= 1
      True
    """
    wanted: dict[str, Any] = {
        'fold': fold,
        'data.name': data,
        'data.dir': None if data_dir is None else os.fspath(data_dir),
        'eval.shots': None if shots is None else tuple(shots),
        'eval.episodes': episodes,
    }
    wanted = {field: value for field, value in wanted.items() if value is not None}
    if not callable(predictor):
        _refuse('a trained run', name=name, workdir=workdir, size=size, batch=batch)
        run = paths.parse(predictor)
        if protocol is not None or wanted:
            config = stored_config(run) if config is None else config
            if fold not in (None, config.fold):
                raise ValueError(
                    f'fold is {fold}, but {run} was trained for fold {config.fold}: leave it out'
                )
            config = _changed(config, protocol, wanted)
        return evaluate_run(config, run, which, inputs, pictures)
    _refuse('a callable', which=which if which != 'best' else None)
    _refuse('a callable', inputs=inputs if inputs != 'episodes' else None)
    from simpropnet_jax.evaluation.external.callables import Options, evaluate_callable

    config = _changed(common.base() if config is None else config, protocol, wanted)
    if batch is None:
        batch = getattr(predictor, 'batch', 0)
    title = name or str(getattr(predictor, '__name__', type(predictor).__name__))
    folder = paths.parse(os.path.join(RESULTS, title) if workdir is None else workdir)
    if paths.is_url(folder):
        raise ValueError(f'workdir must be a folder of this machine, got {folder}')
    options = Options(title, size, batch if isinstance(batch, int) else 0, restart)
    return evaluate_callable(predictor, config, folder, options, ProgressBar())


def _refuse(what: str, **given: Any) -> None:
    """Refuse arguments that are not for this kind of predictor."""
    for name, value in given.items():
        if value is not None:
            raise ValueError(f'{name} is not for {what}, got {value!r}: leave it out')


def _changed(config: ConfigDict, protocol: str | None, wanted: dict[str, Any]) -> ConfigDict:
    """Return a copy of a config with another protocol, which then follows its preset, and other fields."""
    config = ConfigDict(config.to_dict())
    if protocol is not None:
        file = protocol.endswith('.json') and protocol not in PRESETS
        named = {'eval.episodes_file': protocol} if file else {'eval.protocol': protocol}
        own = {'eval.episodes': 0, 'eval.seeds': (), 'eval.label_size': 0, 'eval.episodes_file': ''}
        wanted = own | named | wanted
    config.update_from_flattened_dict(wanted)
    return config
