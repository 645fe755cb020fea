"""Names of methods and of result files. Tables, pages and files all take their names from here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.setup.refusals import INPUTS

__all__ = [
    'INPUTS',
    'PARTS',
    'evaluation_words',
    'method_name',
    'method_words',
    'protocol_word',
    'result_name',
    'training_words',
    'weights_word',
]

CONDITIONED = {'before': 'TPC', 'mixed': 'TPC mixed in', 'after': 'TPC after'}
# Rows of SimPropNet's Table 4 in the paper's order. The last row has all three parts: ICA too.
PARTS = ('baseline', 'DPr', 'FBAF', 'DPr + FBAF', 'SimPropNet')


def method_name(config: ConfigDict, trained: bool = True) -> str:
    """Return a run's name in tables: its method, the parts in use, and what the training adds.

    SimPropNet without all of its parts has the name of its row in the paper's Table 4, see `PARTS`.

    Args:
      config: config of the run.
      trained: whether the weights come from a training of this run. Only then can they be fine-tuned.
    """
    name = models.title(config.model.name)
    names = [name] if config.model.name != 'simpropnet' else [_simpropnet_name(config)]
    shots = config.model.get('shots', 'average')
    names += [shots] if shots != 'average' else []
    names += ['CRC'] if config.train.crc else []
    names += [CONDITIONED[config.tpc.when]] if config.tpc.when != 'never' else []
    names += ['fine-tuned'] if trained and config.train.start else []
    return ' + '.join(names)


def _simpropnet_name(config: ConfigDict) -> str:
    parts = {
        'DPr': config.train.dual_prediction,
        'FBAF': config.model.fbaf,
        'ICA': config.train.ica > 0,
    }
    if all(parts.values()):
        return models.title('simpropnet')
    return ' + '.join(name for name, used in parts.items() if used) or 'baseline'


def result_name(
    config: ConfigDict, weights: str, inputs: str = 'episodes', trained_dtype: str | None = None
) -> str:
    """Return the name of a result file: protocol, fold, size, weights, and differences from a plain evaluation.

    An episode file replaces the protocol.

    Args:
      config: config of the evaluation.
      weights: the result of `weights_word`.
      inputs: one of `INPUTS`.
      trained_dtype: dtype of the training; the evaluation's dtype is named if it differs.
    """
    words = [protocol_word(config), f'fold{config.fold}', f'{config.eval.size}px', weights]
    # For SG-One: its weights do not depend on it.
    words += ['union'] if config.model.get('shots') == 'union' else []
    dtype = config.model.dtype
    words += [dtype] if trained_dtype not in (None, dtype) else []
    return '_'.join(words + evaluation_words(config.eval, inputs)) + '.json'


def protocol_word(config: ConfigDict) -> str:
    """Return the first word of a result file's name: the protocol, or the episode file."""
    return Path(config.eval.episodes_file).stem or config.eval.protocol


def weights_word(pretrained: Mapping, which: str, step: int | None) -> str:
    """Return the word for the weights in file names: the checkpoint, 'imported' or 'untrained'.

    Args:
      pretrained: the method's pretrained parameters, by part.
      which: checkpoint, 'best', 'latest' or a step.
      step: step of the checkpoint; None for weights without training.
    """
    if step is not None:
        return which
    return 'imported' if pretrained.keys() - {'backbone'} else 'untrained'


def evaluation_words(evaluation: ConfigDict, inputs: str) -> list[str]:
    """Return how an evaluation differs from a plain one, as words of a file name; empty for a plain one.

    Args:
      evaluation: `config.eval`.
      inputs: one of `INPUTS`.
    """
    words = [inputs] if inputs != 'episodes' else []
    if tuple(evaluation.scales) != (1.0,):
        words.append('scales' + '-'.join(map(str, evaluation.scales)))
    words += ['random_support'] if evaluation.random_support else []
    words += [f'refined_{evaluation.refinement}'] if evaluation.refinement != 'fixed' else []
    words += [f'self_support{evaluation.self_support}'] if evaluation.self_support else []
    return words


def training_words(config: ConfigDict, step: int | None) -> dict | None:
    """Return the training's entry in a result file: its classes and the run it started from.

    Args:
      config: config of the run.
      step: step of the checkpoint; None for weights without training, which returns None.
    """
    if step is None:
        return None
    return {'classes': config.train.classes, 'start': config.train.start or None}


def method_words(record: Mapping[str, Any]) -> str:
    """Return the method of a result file, and how its evaluation differs from a plain one.

    Args:
      record: record of the result file.
    """
    evaluation, inputs = record.get('eval', {}), record.get('inputs', 'episodes')
    words = [inputs] if inputs != 'episodes' else []
    scales = evaluation.get('scales', [1])
    words += ['scales ' + ' '.join(map(str, scales))] if len(scales) > 1 else []
    words += ['random support'] if evaluation.get('random_support') else []
    trained = record.get('trained') or {}
    words += ['classes trained on'] if trained.get('classes') == 'all' else []
    refinement = evaluation.get('refinement', 'fixed')
    words += [f'refined {refinement}'] if refinement != 'fixed' else []
    rounds = evaluation.get('self_support', 0)
    words += [f'self-support {rounds}' if rounds > 1 else 'self-support'] if rounds else []
    return f'{record["method"]} ({", ".join(words)})' if words else record['method']
