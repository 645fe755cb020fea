"""A config's fields as text for --help, with what `fields` and the recipes say about them."""

import ast
import io
import shutil
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from simpropnet_jax.config import recipes, rules
from simpropnet_jax.config.fields import FIELDS

LEFT = 36  # columns of the names; explanations stand to the right of them


def describe(argument: str, only: Sequence[str] = ('',)) -> str:
    """Return every field with its value, as the shell takes it, and what it is.

    Args:
      argument: a recipe and, after a colon, its words.
      only: beginnings of the names of the fields to show.
    """
    recipe = recipes.load(argument)
    values = dict(rules.fields(recipe.config))
    sections: dict[str, list] = {}
    for name, text in explanations(recipe).items():
        if name.startswith(tuple(only)):
            row = f'{name}={_for_shell(values[name])}', text
            sections.setdefault(name.rpartition('.')[0], []).append(row)
    return '\n'.join(columns(rows) for rows in sections.values())


def explanations(recipe: recipes.Recipe) -> dict[str, str]:
    """Return what each field of a recipe is, in the order in which --help lists them; '' if there is no text.

    Shared fields are explained in `fields`, a method's own ones by the comments in its recipe. In a recipe that is not
    of a method, its own comments explain all fields.
    """
    known = field_comments(recipe.path, recipe.defined)
    order = _order(known)
    if 'model' in recipe.config:
        declared = {name: field.help for name, field in FIELDS.items()}
        method = _method_comments(recipe.config.model.get('name', ''))
        order = _order([*declared, *method, *known])
        known = known | method | declared
    names = [name for name, _ in rules.fields(recipe.config)]
    names.sort(key=lambda name: (order.get(name.rpartition('.')[0], -1), order.get(name, -1)))
    return {name: known.get(name, '') for name in names}


def summaries() -> str:
    """Return the package's recipes, with the first line of each one's docstring."""
    rows = []
    for name in recipes.names():
        tree = ast.parse((recipes.folder() / f'{name}.py').read_text())
        rows.append((name, (ast.get_docstring(tree) or '').partition('\n')[0]))
    return columns(rows)


def field_comments(path: str | Path, defined: dict[str, Any]) -> dict[str, str]:
    """Return the comment on the line that first sets a field, in the recipe or in one that it imports.

    Args:
      path: the recipe's file.
      defined: everything that it defines, by name.
    """
    found = {}
    for module in defined.values():
        if isinstance(module, ModuleType) and module.__name__.startswith('configs.'):
            found |= field_comments(module.__file__, vars(module))
    source = Path(path).read_text()
    beside = _comments(source)
    prefixes = {'config': ''}  # and shorter names: config.data = data = ConfigDict()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        lines = range(node.lineno, node.end_lineno + 1)
        comment = next((beside[line] for line in lines if line in beside), '')
        for field in _assigned(node, prefixes):
            if comment:
                found.setdefault(field, comment)
    return found


def columns(rows: Iterable[tuple[str, str]]) -> str:
    """Return names to the left and explanations to the right, as wide as the terminal."""
    lines = []
    for name, explanation in rows:
        wrapped = textwrap.wrap(explanation, width() - LEFT) or ['']
        if len(name) > LEFT - 4:
            wrapped.insert(0, '')
        lines.append(f'  {name:{LEFT - 2}}{wrapped[0]}'.rstrip())
        lines += [' ' * LEFT + line for line in wrapped[1:]]
    return '\n'.join(lines) + '\n'


def width() -> int:
    """Return the columns of the terminal, 80 to 120."""
    return min(max(shutil.get_terminal_size((120, 24)).columns, 80), 120)


def _method_comments(method: str) -> dict[str, str]:
    """The comments in the recipe of a method of the package; {} for the user's own."""
    for name in recipes.names():
        path = recipes.folder() / f'{name}.py'
        if f"common.base('{method}')" in path.read_text():
            return field_comments(path, {})
    return {}


def _order(names: Iterable[str]) -> dict[str, int]:
    """Place of each field and of each section among the fields as they are written."""
    order: dict[str, int] = {}
    for name in names:
        order.setdefault(name.rpartition('.')[0], len(order))
        order.setdefault(name, len(order))
    return order


def _comments(source: str) -> dict[int, str]:
    """Line number -> the comment at its end."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: token.string.lstrip('# ')
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _assigned(node: ast.Assign, prefixes: dict[str, str]) -> Iterator[str]:
    """Names of the fields that an assignment sets; adds the shorter names that it makes to `prefixes`."""
    names = [ast.unparse(target).partition('.') for target in node.targets]
    for first, _, rest in names:
        if rest and first in prefixes:
            field = prefixes[first] + rest
            prefixes |= {short: f'{field}.' for short, _, rest in names if not rest}
            yield field


def _for_shell(value) -> str:
    if isinstance(value, tuple):
        return "'" + repr(value).replace(' ', '').replace("'", '"') + "'"
    return repr(value)
