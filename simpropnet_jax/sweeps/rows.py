"""The rows of a sweep: named rows, groups of them, and recipes with words.

A row is a config to train and evaluate. A named row is compared with the row that it changes; a recipe is not compared.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from simpropnet_jax.config import command_line, common, recipes, rules

Change = tuple[str, str | None]
"""A config field and its value as text; None stands for True."""

NAMED_FOLD = 1  # default fold of named rows


class Row(NamedTuple):
    """A config to train and evaluate.

    Attributes:
      name: name of the row in tables, and of its folder.
      config: config of its first training.
      against: name of the row to compare with, or None.
    """

    name: str
    config: ConfigDict
    against: str | None = None


class NamedRow(NamedTuple):
    """How a named row differs from its recipe.

    Attributes:
      recipe: name of its recipe.
      against: name of the row that it is compared with.
      words: of `common.SHARED`.
      fields: config fields with their values.
    """

    recipe: str
    against: str | None = None
    words: Sequence[str] = ()
    fields: Mapping[str, Any] = {}


PROPAGATION = {
    'canet': NamedRow('canet'),
    'crc': NamedRow('canet', 'canet', ['crc']),
    'tpc': NamedRow('canet', 'canet', ['tpc']),
    'crc_tpc': NamedRow('canet', 'canet', ['crc', 'tpc']),
    'tpc_mixed': NamedRow('canet', 'canet', ['tpc_mixed']),
    'tpc_after': NamedRow('canet', 'canet', ['tpc_after']),
    'simpropnet': NamedRow('simpropnet', 'canet'),
    'simpropnet_crc': NamedRow('simpropnet', 'simpropnet', ['crc']),
    'simpropnet_crc_tpc': NamedRow('simpropnet', 'simpropnet', ['crc', 'tpc']),
    'canet_5': NamedRow('canet', fields={'train.shot': 5}),
    'canet_5_attention': NamedRow(
        'canet', 'canet_5', fields={'train.shot': 5, 'model.shots': 'attention'}
    ),
}
CYCLES = {
    'panet_crc': NamedRow('panet', 'panet', ['crc']),
    'panet_tpc': NamedRow('panet', 'panet', ['tpc']),
    'panet_crc_tpc': NamedRow('panet', 'panet', ['crc', 'tpc']),
    'amp_crc': NamedRow('amp', 'amp', ['crc']),
    'amp_tpc': NamedRow('amp', 'amp', ['tpc']),
    'amp_crc_tpc': NamedRow('amp', 'amp', ['crc', 'tpc']),
}
OTHER_METHODS = ('panet', 'sgone', 'cofcn', 'amp', 'oslsm', 'prototype')


def _readings() -> dict[str, NamedRow]:
    """Return readings of SimPropNet's Eq. 3: places of the ReLU, times spreads of the attention maps."""
    rows = {}
    for gain in (5000, 1000, 1):
        for activation in ('none', 'relu', 'block'):
            name = f'{activation}_{gain}'
            fields = {'model.fbaf_activation': activation, 'model.attention_gain': float(gain)}
            against = None if name == 'none_1' else 'none_1'
            rows[name] = NamedRow('simpropnet', against, fields=fields)
    return rows


READINGS = _readings()
NAMED = {
    **PROPAGATION,
    **{name: NamedRow(name) for name in OTHER_METHODS},
    **CYCLES,
    **READINGS,
}
GROUPS = {
    'propagation': list(PROPAGATION),
    'methods': ['simpropnet', 'canet', *OTHER_METHODS],
    'readings': list(READINGS),
    'cycles': list(CYCLES),
}
# Fields and words that would change what a named row is -> what to give instead.
INSTEAD = {
    'train.crc': 'other rows',
    'train.alignment': 'other rows',
    'tpc.when': 'other rows',
    'model.shots': 'other rows',
    **dict.fromkeys(common.SHARED, 'other rows'),
}


def make_rows(
    texts: Iterable[str],
    *,
    fold: int | None = None,
    words: Sequence[str] = (),
    changes: Sequence[Change] = (),
    epochs: int | None = None,
) -> dict[str, Row]:
    """Return the rows that a user names, by name, in order.

    Args:
      texts: each is names of rows or groups with commas between, or a recipe with words and fields after a colon,
        'simpropnet:fold=1,model.fbaf_activation=relu,epochs=60'.
      fold: fold of rows that do not set their own. None: 1 for named rows, the recipe's fold for recipes.
      words: for the recipe of every row.
      changes: fields of every row. A recipe's own fields come after them.
      epochs: epochs of rows that do not set their own. None: the recipe's epochs.
    Raises:
      ValueError: there is no such row, word, field or value, or a word or field would change what a named row is.
    """
    names = [name for text in texts for name in _names(text)]
    named = [name for name in names if name in NAMED]
    _check_words(words, named)
    _check_changes(changes, named)
    rows: dict[str, Row] = {}
    for name in names:
        if name in NAMED:
            row = _named_row(name, fold, words, changes, epochs)
        else:
            row = _recipe_row(name, fold, words, changes, epochs)
            if row.name in rows:
                raise ValueError(f'the row {row.name} is given twice')
        rows[row.name] = row
    return rows


def length(config: ConfigDict) -> str:
    """Return how long a config trains: '500steps' or '180epochs'."""
    return f'{config.train.steps}steps' if config.train.steps else f'{config.train.epochs}epochs'


def _names(text: str) -> list[str]:
    """Return names of rows, with groups expanded, or one recipe."""
    if ':' in text or text.endswith('.py'):
        return [text]
    names = [name for word in text.split(',') if word for name in GROUPS.get(word, [word])]
    for name in names:
        if name not in NAMED and name not in recipes.names():
            raise ValueError(
                f'there is no row {name!r}. Rows: {", ".join(NAMED)}. Groups: {", ".join(GROUPS)}. Or a recipe with '
                'words: simpropnet:fold=1'
            )
    return names


def _check_words(words: Sequence[str], named: Sequence[str]) -> None:
    for word in words:
        name, _, value = word.partition('=')
        instead = {'fold': f'--fold {value}', 'seed': f'--config.seed={value}'}
        if named:
            instead |= INSTEAD
        if name in instead:
            raise ValueError(f'--recipe must not have {word!r}. Give {instead[name]} instead')


def _check_changes(changes: Sequence[Change], named: Sequence[str]) -> None:
    for field, text in changes:
        if field == 'fold':
            raise ValueError(f'a sweep takes no --config.fold. Give --fold {text} instead')
        if field in INSTEAD and named:
            raise ValueError(
                f'--config.{field} would change what the row {named[0]} is. Give {INSTEAD[field]} instead'
            )
        for name in named:
            if field in NAMED[name].fields:
                raise ValueError(
                    f'--config.{field} cannot be set: the row {name} sets it. Leave out the field or the row'
                )


def _named_row(
    name: str,
    fold: int | None,
    words: Sequence[str],
    changes: Sequence[Change],
    epochs: int | None,
) -> Row:
    recipe, against, own_words, fields = NAMED[name]
    fold = NAMED_FOLD if fold is None else fold
    config = recipes.get(recipe, ','.join([f'fold={fold}', *words]))
    known = dict(rules.fields(config))
    for field, _ in changes:
        if field not in known:
            raise ValueError(_no_such_field(field, name, config))
    _change(config, changes, epochs)
    for word in own_words:  # after the changes: conditioning shares the steps that these give
        common.SHARED[word](config)
    config.update_from_flattened_dict(fields)
    return Row(name, config, against)


def _recipe_row(
    text: str,
    fold: int | None,
    words: Sequence[str],
    changes: Sequence[Change],
    epochs: int | None,
) -> Row:
    """Make the row of a recipe; its name has the recipe, its own words and fields, and the length."""
    recipe, _, given = text.partition(':')
    parts = [part for part in re.split(r',(?![^(]*\))', given) if part]  # none inside of a tuple
    own_fields = [part.partition('=') for part in parts if _is_field(part)]
    own_words = [part for part in parts if not _is_field(part)]
    config = recipes.load(f'{recipe}:{",".join([*words, *own_words])}').config
    if 'model' not in config or 'train' not in config:
        raise ValueError(f'{recipe} is not the recipe of a method, so that it cannot be a row')
    if fold is not None and not any(word.startswith('fold=') for word in own_words):
        config.fold = fold
    _change(config, changes, epochs)
    for field, _, value in own_fields:
        _change(config, *([], value) if field == 'epochs' else ([(field, value)], None))
    shown = [''.join(field) for field in own_fields if field[0] != 'epochs']
    parts = [Path(recipe).stem, *own_words, *shown, length(config)]
    return Row('_'.join(re.sub(r'[^\w.-]+', '_', part).strip('_') for part in parts), config)


def _is_field(part: str) -> bool:
    field, equals, _ = part.partition('=')
    return bool(equals) and (field == 'epochs' or '.' in field)


def _change(config: ConfigDict, changes: Sequence[Change], epochs: int | str | None) -> None:
    if epochs is not None:
        command_line.change(config, [('train.epochs', str(epochs))])
        config.train.steps = 0
    command_line.change(config, changes)


def _no_such_field(field: str, name: str, config: ConfigDict) -> str:
    having = [
        other
        for other, row in NAMED.items()
        if field in dict(rules.fields(recipes.get(row.recipe)))
    ]
    if not having:
        return rules.unknown_field(field, dict(rules.fields(config)))
    return (
        f'--config.{field}: the row {name} is of {config.model.name}, which has no such field. Rows that have it: '
        + ', '.join(having)
    )
