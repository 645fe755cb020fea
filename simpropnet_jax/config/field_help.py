"""A config's fields as text for --help. The comments beside them in the config files are the only source."""

import ast
import io
import runpy
import shutil
import textwrap
import tokenize
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules

LEFT = 36  # columns of what is explained; the explanations stand to the right of them


def load(argument: str) -> tuple[dict[str, Any], ConfigDict]:
    """What a config file defines, and its config: of 'configs/simpropnet.py:fold=2,cpu'.

    Raises:
      ValueError: there is no such file, or it does not take the arguments.
    """
    path, _, words = argument.partition(':')
    if not Path(path).is_file():
        raise ValueError(f'--config: there is no file {path}; the configs are in configs/')
    defined = runpy.run_path(path)
    return defined, defined['get_config'](words)


def describe(argument: str, only: Sequence[str] = ('',)) -> str:
    """Every field with its value, as the shell takes it, and its comment.

    Args:
      argument: a config file and, after a colon, its arguments.
      only: beginnings of the names of the fields to show.
    """
    defined, config = load(argument)
    comments = field_comments(argument.partition(':')[0], defined)
    order, sections = {}, {}  # order: as written; a ConfigDict is sorted by name
    for name in comments:
        order.setdefault(name.rpartition('.')[0], len(order))
        order.setdefault(name, len(order))
    for name, value in sorted(
        config_rules.fields(config), key=lambda field: order.get(field[0], -1)
    ):
        if name.startswith(tuple(only)):
            row = f'{name}={_for_shell(value)}', comments.get(name, '')
            sections.setdefault(name.rpartition('.')[0], []).append(row)
    return '\n'.join(
        columns(sections[name]) for name in sorted(sections, key=lambda name: order.get(name, -1))
    )


def summaries(folder: Path) -> str:
    """The config files of a folder, with the first line of what each says of itself."""
    files = {path: ast.parse(path.read_text()) for path in sorted(folder.glob('*.py'))}
    return columns(
        (str(path), (ast.get_docstring(tree) or '').partition('\n')[0])
        for path, tree in files.items()
        if any(
            isinstance(node, ast.FunctionDef) and node.name == 'get_config' for node in tree.body
        )
    )


def field_comments(path: str | Path, defined: dict[str, Any]) -> dict[str, str]:
    """Name of a field -> the comment beside the line that sets it first, here or in a config that is built on.

    Args:
      path: of a config file.
      defined: what it defines, by name.
    """
    found = {}
    for module in defined.values():
        if isinstance(module, ModuleType) and module.__name__.startswith('configs.'):
            found |= field_comments(module.__file__, vars(module))
    source = Path(path).read_text()
    beside = {
        token.start[0]: token.string.lstrip('# ')
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    prefixes = {'config': ''}  # and shorter names: config.data = data = ConfigDict()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign):
            continue
        names = [ast.unparse(target).partition('.') for target in node.targets]
        for field in [
            prefixes[first] + rest for first, _, rest in names if rest and first in prefixes
        ]:
            prefixes |= {first: f'{field}.' for first, _, rest in names if not rest}
            if node.end_lineno in beside:
                found.setdefault(field, beside[node.end_lineno])
    return found


def columns(rows: Iterable[tuple[str, str]]) -> str:
    """Names to the left, explanations to the right, as wide as the terminal."""
    width = min(max(shutil.get_terminal_size((120, 24)).columns, 80), 120)
    lines = []
    for name, explanation in rows:
        wrapped = textwrap.wrap(explanation, width - LEFT) or ['']
        if len(name) > LEFT - 4:
            wrapped.insert(0, '')
        lines.append(f'  {name:{LEFT - 2}}{wrapped[0]}'.rstrip())
        lines += [' ' * LEFT + line for line in wrapped[1:]]
    return '\n'.join(lines) + '\n'


def _for_shell(value):
    if isinstance(value, tuple):
        return "'" + repr(value).replace(' ', '').replace("'", '"') + "'"
    return repr(value)
