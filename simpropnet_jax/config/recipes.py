"""Recipes: the config files that come with the package, and the user's own.

A recipe is a Python file with a function `get_config(words)`. The recipes of the package lie in configs/ at the top of
a checkout; an installed package carries the same files next to this module's parent.
"""

import difflib
import functools
import runpy
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from simpropnet_jax.runtime import paths

PACKAGE = Path(__file__).parent.parent


class Recipe(NamedTuple):
    """A config and the file that it comes from.

    Attributes:
      path: the recipe's file.
      defined: everything that the file defines, by name.
      config: what its `get_config` returned.
    """

    path: Path
    defined: dict[str, Any]
    config: ConfigDict


@functools.cache
def folder() -> Path:
    """Return the folder of the package's recipes: configs/ of a checkout, or else the installed package's own."""
    checkout = PACKAGE.parent / 'configs'
    installed = PACKAGE / 'configs'
    return checkout if (checkout / 'simpropnet.py').is_file() else installed


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of the package's recipes, sorted."""
    paths = sorted(folder().glob('*.py'))
    return tuple(path.stem for path in paths if 'def get_config(' in path.read_text())


def load(argument: str) -> Recipe:
    """Load a recipe: 'simpropnet:fold=2,cpu', 'configs/simpropnet.py:fold=2' or any path of a Python file.

    Args:
      argument: a recipe's name or path and, after a colon, the words that it takes.
    Raises:
      ValueError: there is no such recipe, or it does not take the words.
    """
    name, _, words = argument.partition(':')
    path = find(name)
    defined = runpy.run_path(str(path))
    if 'get_config' not in defined:
        raise ValueError(f'{path} is not a recipe: it defines no function get_config')
    return Recipe(path, defined, defined['get_config'](words))


def get(name: str, words: str = '') -> ConfigDict:
    """Return the config of a recipe of the package, as in `recipes.get('simpropnet', 'fold=2,cpu')`.

    Raises:
      ValueError: there is no such recipe, or it does not take the words.
    """
    return load(f'{name}:{words}').config


def find(name: str) -> Path:
    """Return the file of a recipe that is given by its name or path.

    Raises:
      ValueError: there is none.
    """
    path = paths.expanded(name)
    if not name.endswith('.py') and path.name == name:
        if name not in names():
            near = difflib.get_close_matches(name, names(), n=1)
            hint = f'Did you mean {near[0]}?' if near else f'The recipes are {", ".join(names())}'
            raise ValueError(f'there is no recipe {name!r}. {hint}')
        return folder() / f'{name}.py'
    if path.is_file():
        return path
    shipped = folder() / path.name
    if path.parent == Path('configs') and shipped.is_file():  # typed outside a checkout
        _say_shipped(name, shipped)
        return shipped
    raise ValueError(f'there is no file {name}. The recipes are {", ".join(names())}')


@functools.cache
def _say_shipped(name: str, shipped: Path) -> None:
    """Say once that a recipe of the package is used."""
    print(f'{name} is not here: using the recipe of the package, {shipped}', file=sys.stderr)
