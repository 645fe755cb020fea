"""The published episode files: every protocol and fold of a data set, seeds 0 to 4, with their hashes in one file."""

from collections.abc import Sequence
from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets import hsnet_lists
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.episode_files import write_episodes
from simpropnet_jax.episodes.presets import PRESETS, of_papers
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.data import evaluation_episodes, open_data

SEEDS = (0, 1, 2, 3, 4)
HASHES = 'hashes.json'
OF_LISTS = {'coco20i': ('hsnet_coco',), 'fss1000': ('hsnet_fss',)}
"""Protocols that draw from HSNet's lists alone. PFENet's also draws classes that an image shows and no list names."""


def protocols_of(data_name: str) -> tuple[str, ...]:
    """Return the names of the protocols for a data set, including protocols of several classes in an episode."""
    if data_name == 'folder':
        return ('folder',)
    names = of_papers(data_name)
    return (*names, *(f'{name}_2way' for name in names if f'{name}_2way' in PRESETS))


def write_published(
    config: ConfigDict,
    out: Path,
    progress: Progress | None = None,
    *,
    lists: Path | None = None,
    shots: Sequence[int] = (1, 5),
    episodes: int = 0,
) -> str:
    """Write a file of episodes for each protocol and fold, OUT/PROTOCOL_foldN.json, and OUT/hashes.json.

    `left_out` of hashes.json names the protocols that need more images or other lists than the data has.

    Args:
      config: only its `data` counts, so that the files do not depend on a recipe.
      lists: HSNet's data/splits/coco or data/splits/fss, to draw from them instead of from prepared data.
      shots: numbers of supports.
      episodes: of each seed; 0: each protocol's.
    Returns:
      A table of the hashes.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    config_rules.validate(config, devices=1)
    wanted = {'shots': tuple(shots), 'episodes': episodes}
    if lists is None:
        source, names = open_data(config), protocols_of(config.data.name)
    else:
        source = hsnet_lists.open_lists(config.data.name, lists, config.data.folds)
        names = OF_LISTS[config.data.name.partition('/')[0]]
    places = [(name, fold) for name in names for fold in range(len(source.index.held_out))]
    hashes: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for done, (name, fold) in enumerate(places, 1):
        key = f'{name}_fold{fold}'
        try:
            hashes[key] = _write(
                config, source, wanted | {'protocol': name}, fold, out / f'{key}.json'
            )
        except ValueError as error:
            left_out[key] = str(error)
        if progress:
            progress('write episodes', done, len(places))
    record = {
        'data': source.name,
        'seeds': list(SEEDS),
        **wanted,
        'hashes': hashes,
        'left_out': left_out,
    }
    records.write(out / HASHES, record, sort_keys=False)
    return _table(record, len(source.index.held_out))


def _write(config, source: Source, wanted, fold, path) -> str:
    one = ConfigDict(config.to_dict())
    one.fold = fold
    one.eval.update(seeds=SEEDS, episodes_file='', label_size=0, **wanted)
    protocol, sets = evaluation_episodes(one, source)
    return write_episodes(path, protocol, fold, sets, source.index)


def _table(record, folds) -> str:
    names = list(dict.fromkeys(key.rpartition('_fold')[0] for key in record['hashes']))
    rows = [
        [name, *(record['hashes'].get(f'{name}_fold{fold}', '-') for fold in range(folds))]
        for name in names
    ]
    table = aligned(['protocol', *(f'fold {fold}' for fold in range(folds))], rows)
    left = [f'left out: {key}: {why}\n' for key, why in record['left_out'].items()]
    shots = ' and '.join(map(str, record['shots']))
    return f'{record["data"]}, seeds 0 to 4, {shots} shots\n{table}{"".join(left)}'
