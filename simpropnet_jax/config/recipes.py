"""Recipes by name or path: the files in configs/, and the user's own."""

import difflib
import runpy
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Recipe(NamedTuple):
    """A recipe's file, what it defines by name, and its config."""

    path: Path
    defined: dict[str, Any]
    config: ConfigDict


def folder() -> Path:
    """Return the folder of the recipes: the checkout's configs/, or the copy in the installed package."""
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / 'configs'
    return checkout if (checkout / 'simpropnet.py').is_file() else package / 'configs'


def names() -> tuple[str, ...]:
    """Return the names of the recipes."""
    return tuple(sorted(path.stem for path in folder().glob('*.py') if path.stem != '__init__'))


def load(argument: str) -> Recipe:
    """Load a recipe.

    Args:
      argument: a name or a path and, after a colon, words: 'simpropnet:fold=2,cpu', 'configs/simpropnet.py:cpu'.
    Raises:
      ValueError: there is no such recipe, or it does not take the words.
    """
    given, _, words = argument.partition(':')
    path = _find(given)
    defined = runpy.run_path(str(path))
    if 'get_config' not in defined:
        raise ValueError(f'{path} is no recipe: it does not define get_config(words)')
    return Recipe(path, defined, defined['get_config'](words))


def get(name: str, words: str = '') -> ConfigDict:
    """Return the config of a recipe: get('simpropnet', 'fold=2,cpu')."""
    return load(f'{name}:{words}').config


def _find(given: str) -> Path:
    if given in names():
        return folder() / f'{given}.py'
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if path.suffix == '.py' or len(path.parts) > 1:
        raise ValueError(f'there is no file {given}. The recipes are {", ".join(names())}')
    near = difflib.get_close_matches(given, names(), n=1)
    hint = f'Did you mean {near[0]}?' if near else f'The recipes are {", ".join(names())}'
    raise ValueError(f'there is no recipe {given!r}. {hint}')
