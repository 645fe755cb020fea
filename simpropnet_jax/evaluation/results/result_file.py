"""The result file: what was measured, on what, how, by which software. One JSON file per method and fold.

Next to it is a file with every episode's counts, see `episode_counts`.
"""

import json
import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax

from simpropnet_jax.evaluation.results import episode_counts
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.runtime import paths, records

FORMAT = 1
LIBRARIES = ('jax', 'jaxlib', 'flax', 'numpy')
# 'none' is for methods without training, like the prototype.
SELECTIONS = ('novel_val', 'base_val', 'last', 'none')


class Scores(TypedDict):
    """Scores of one shot at one label size."""

    miou: float
    miou_std: float | None
    fb_iou: float
    fb_iou_std: float | None
    per_class: dict[str, float]
    seeds: dict[str, dict[str, Any]]
    miou_interval: NotRequired[tuple[float, float] | None]


class Shot(TypedDict):
    """Results of one shot."""

    episodes: dict[str, int]
    square: NotRequired[Scores]
    own: NotRequired[Scores]


class ProtocolName(TypedDict):
    """The protocol of a result."""

    name: str
    hash: str


class Origin(TypedDict):
    """The checkpoint of a result."""

    selection: str
    path: NotRequired[str | None]
    step: NotRequired[int | None]


class ResultContent(TypedDict):
    """Content of a result file; entries that earlier versions did not write may be missing."""

    format: int
    method: str
    fold: int
    data: str
    void: str
    size: int | None
    label_size: int | None
    protocol: ProtocolName
    checkpoint: Origin
    shots: dict[str, Shot]
    classes: list[str]
    resolution: NotRequired[int | str]
    folds: NotRequired[int]
    inputs: NotRequired[str]
    eval: NotRequired[dict[str, Any]]
    trained: NotRequired[dict[str, Any] | None]
    episodes_per_second: NotRequired[dict[str, float | None] | None]
    partitions: NotRequired[dict[str, Any]]
    cmps: NotRequired[dict[str, float | None]]
    hpascal: NotRequired[dict[str, Any]]


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
        json.dumps(record, allow_nan=False)
    except ValueError as error:
        raise ValueError(f'{path} is not written: its result is not finite ({error})') from error
    if jax.process_index() != 0:
        return record
    path = paths.parse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if episodes:
        episode_counts.write(episode_counts.file_beside(path), episodes)
    records.write(path, record, sort_keys=False)
    return record


def read_result(path: str | os.PathLike) -> dict[str, Any]:
    """Read a result file. Raises FileNotFoundError, or ValueError if it is damaged or of another kind."""
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'there is no result file {path}: `simpropnet eval` writes RUN/eval/*.json'
        )
    again = 'Evaluate again, or give a result file of `simpropnet eval`'
    return records.read(Path(path), ResultContent, again, FORMAT)


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
