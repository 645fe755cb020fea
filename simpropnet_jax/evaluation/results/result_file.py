"""The result file: what was measured, on what, how, by which software. One JSON file per method and fold.

Next to it is a file with every episode's counts, see `episode_counts`.
"""

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from simpropnet_jax.evaluation.results import episode_counts
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.runtime import paths

FORMAT = 1
LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy')
# 'none' is for methods without training, like the prototype.
SELECTIONS = ('novel_val', 'base_val', 'last', 'none')


def write_result(
    path: str | os.PathLike,
    result: Mapping[str, Any],
    *,
    method: str,
    fold: int,
    protocol: str,
    protocol_hash: str,
    data: str,
    selection: str,
    checkpoint_step: int | None = None,
    checkpoint: str | None = None,
    weights: str | None = None,
    replaced: Mapping[str, Any] | None = None,
    episodes: Mapping[int, EpisodeCounts] | None = None,
) -> dict[str, Any]:
    """Write a result file atomically; of several hosts only the first writes.

    Args:
      path: path of the JSON file; its folder is created.
      result: the result of `evaluate`.
      method: name in tables, e.g. 'SimPropNet' or 'DPr'.
      protocol, protocol_hash: name of the episodes' protocol, and the hash of exactly these episodes.
      data: data set and its kind, e.g. 'pascal5i/subset': numbers on a subset never compare to the paper's.
      selection: how the checkpoint was chosen, one of `SELECTIONS`.
      checkpoint_step, checkpoint: step and folder of the weights, None for a method without training.
      weights: description of the backbone's weights.
      replaced: the requested checkpoint, and why another step was used; None if the requested one was used.
      episodes: `Evaluator.episode_counts` with `named` ids; they go to a separate file, which the record names.
    Returns:
      The record as written.
    Raises:
      ValueError: unknown selection rule, or a number in the result that is not finite.
    """
    if selection not in SELECTIONS:
        raise ValueError(f'selection must be one of {", ".join(SELECTIONS)}, got {selection!r}')
    record = {
        'format': FORMAT,
        'method': method,
        'fold': fold,
        'data': data,
        'protocol': {'name': protocol, 'hash': protocol_hash},
        'checkpoint': {'path': checkpoint, 'step': checkpoint_step, 'selection': selection}
        | ({'replaced': dict(replaced)} if replaced else {}),
        'weights': weights,
        **result,
        'episodes_file': episode_counts.file_beside(path).name if episodes else None,
        'versions': versions(),
        'device': device(),
    }
    try:
        text = json.dumps(record, indent=2, allow_nan=False) + '\n'
    except ValueError as error:
        raise ValueError(f'{path} is not written: its result is not finite ({error})') from error
    if jax.process_index() != 0:
        return record
    path = paths.parse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if episodes:
        episode_counts.write(episode_counts.file_beside(path), episodes)
    unfinished = path.with_name(path.name + '.unfinished')
    unfinished.write_text(text)
    unfinished.replace(path)
    return record


def read_result(path: str | os.PathLike) -> dict[str, Any]:
    """Read a result file. Raises FileNotFoundError, or ValueError if it is damaged or of another kind."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'there is no result file {path}: `simpropnet eval` writes RUN/eval/*.json'
        )
    try:
        record = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f'{path} is not a readable result file ({error}): evaluate again'
        ) from error
    needed = ('format', 'method', 'fold', 'protocol', 'shots', 'classes')
    missing = [name for name in needed if not isinstance(record, dict) or name not in record]
    if missing:
        raise ValueError(
            f'{path} is not a result file of `simpropnet eval`: it has no {", ".join(missing)}'
        )
    if record['format'] != FORMAT:
        raise ValueError(
            f'{path} has result format {record["format"]}, not {FORMAT}: evaluate again'
        )
    return record


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that the numbers depend on."""
    return {
        'python': platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def device() -> dict[str, Any]:
    """Return kind and number of the devices that JAX computes on."""
    first = jax.devices()[0]
    return {'kind': first.device_kind, 'platform': first.platform, 'count': jax.device_count()}
