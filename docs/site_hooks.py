"""What mkdocs calls: reference pages that come from the code, and equations as MathML, which needs no script."""

import ast
import re

from latex2mathml.converter import convert
from mkdocs.structure.files import File

from simpropnet_jax.cli import main as cli
from simpropnet_jax.config import command_line, field_help, fields, recipes

BLOCK = re.compile(r'^\$\$\n(.*?)\n\$\$$', re.S | re.M)
INLINE = re.compile(r'(?<![\\$`])\$([^$`\n]+)\$(?!\w)')


def on_files(files, config):
    for name, page in (('commands', commands), ('config', all_fields), ('recipes', all_recipes)):
        files.append(File.generated(config, f'reference/{name}.md', content=page()))
    return files


def on_page_markdown(markdown, page, config, files):
    if not page.meta.get('math'):
        return markdown
    equations = page.meta['equations'] = []

    def keep(found, display):
        equations.append(convert(found[1], display=display))
        return f'EQUATION{len(equations) - 1}.'

    markdown = BLOCK.sub(lambda found: keep(found, 'block'), markdown)
    return INLINE.sub(lambda found: keep(found, 'inline'), markdown)


def on_page_content(html, page, config, files):
    """Put the equations in: Markdown would make a paragraph of each."""
    equations = page.meta.get('equations', [])
    return re.sub(r'EQUATION(\d+)\.', lambda found: equations[int(found[1])], html)


def commands() -> str:
    """Every command with its own help, without the fields of the config, which have their own page."""
    parts = [
        '# Commands',
        'This page is the `--help` of each command. Commands that train or evaluate also take every '
        '[config field](config.md): `--config.FIELD=VALUE`.',
        '| command | what it does |\n|---|---|\n'
        + '\n'.join(
            f'| [`{name}`](#simpropnet-{name.replace(" ", "-")}) | {text} |'
            for name, text in cli.COMMANDS.items()
        ),
    ]
    for name in cli.COMMANDS:
        parser = command_line._parser(cli.module(name), f'simpropnet {name}')
        parser.shown = None
        parts.append(f'## simpropnet {name}\n\n```text\n{parser.help_text().rstrip()}\n```')
    return '\n\n'.join(parts) + '\n'


def all_fields() -> str:
    """The fields that all methods share, by section, and then each method's own."""
    parts = [
        '# Config fields',
        'Set a field with `--config.FIELD=VALUE`. Defaults are those of SimPropNet and CANet; a '
        '[recipe](recipes.md) may change them. `simpropnet train --config RECIPE --help` lists its values.',
    ]
    sections: dict[str, list] = {}
    for name, field in fields.FIELDS.items():
        sections.setdefault(name.rpartition('.')[0], []).append((name, field.default, field.help))
    for section, rows in sections.items():
        parts.append(f'## {section or "General"}\n\n{_table(rows)}')
    for name in recipes.names():
        if name == 'finetune':  # takes the fields of the run that it starts from
            continue
        recipe = recipes.load(name)
        if 'model' not in recipe.config:
            continue
        known = field_help.explanations(recipe)
        rows = [
            (f'model.{field}', value, known.get(f'model.{field}', ''))
            for field, value in recipe.config.model.items()
            if f'model.{field}' not in fields.FIELDS
        ]
        if rows:
            parts.append(f'## Only in {name}\n\n{_table(rows)}')
    return '\n\n'.join(parts) + '\n'


def all_recipes() -> str:
    """Every recipe's own docstring."""
    parts = ['# Recipes', 'A recipe is a file in `configs/`. Words after a colon change it.']
    for name in recipes.names():
        doc = ast.get_docstring(ast.parse((recipes.folder() / f'{name}.py').read_text()))
        parts.append(f'## {name}\n\n```text\n{doc}\n```')
    return '\n\n'.join(parts) + '\n'


def _table(rows) -> str:
    def cell(value):
        return str(value).replace('|', '\\|')

    lines = [f'| `{name}` | `{cell(repr(value))}` | {cell(text)} |' for name, value, text in rows]
    return '| field | default | what it is |\n|---|---|---|\n' + '\n'.join(lines)
