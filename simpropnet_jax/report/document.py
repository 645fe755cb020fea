"""A page of headings, sentences, tables and pictures, written as Markdown and as HTML."""

import html
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

STYLE = (
    'body{font:16px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em}'
    'table{border-collapse:collapse;margin:1em 0;display:block;overflow-x:auto}'
    'th,td{padding:.2em .7em;border-bottom:1px solid #ccc;text-align:right;white-space:nowrap}'
    'th{border-bottom:2px solid #666}th:first-child,td:first-child{text-align:left}'
    'img{max-width:100%}figure{margin:1em 0}pre{overflow-x:auto}'
    '@media print{table{display:table;font-size:70%}th,td{white-space:normal;padding:.1em .3em}'
    'pre{white-space:pre-wrap}}'
)


EMPTY = {'', '-'}  # cells without a value


class Table(NamedTuple):
    """Cells of text; the first column is left-aligned, the others right-aligned. Empty columns are not shown."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def filled(self) -> 'Table':
        """Return the table without columns in which no row has a value."""
        kept = [
            column
            for column in range(len(self.header))
            if column == 0 or any(set(row[column : column + 1]) - EMPTY for row in self.rows)
        ]
        rows = [[row[column] for column in kept if column < len(row)] for row in self.rows]
        return Table([self.header[column] for column in kept], rows)


class Printed(NamedTuple):
    """Output of a command, with tables of aligned columns; shown verbatim."""

    text: str


class Figure(NamedTuple):
    """A file next to the page.

    Attributes:
      path: relative to the page, with only letters, digits, '.', '-', '_' and '/'.
      caption: caption of the figure.
    """

    path: str
    caption: str


class Section(NamedTuple):
    """A heading and its content in order: sentences, tables, outputs of commands, pictures."""

    title: str
    parts: Sequence[str | Table | Printed | Figure]


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Write the page as Markdown, with pipe tables."""
    blocks = [f'# {_plain(title)}']
    for section in sections:
        blocks += [f'## {_plain(section.title)}', *map(_markdown_part, section.parts)]
    return '\n\n'.join(blocks) + '\n'


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Write the page as HTML, which needs only its pictures."""
    blocks = [f'<h1>{html.escape(title)}</h1>']
    for section in sections:
        blocks += [f'<h2>{html.escape(section.title)}</h2>', *map(_html_part, section.parts)]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>\n'
        + '\n'.join(blocks)
        + '\n</body></html>\n'
    )


def _markdown_part(part):
    if isinstance(part, Table):
        part = part.filled()

        def line(cells):
            return f'| {" | ".join(map(_plain, cells))} |'

        return '\n'.join(
            [
                line(part.header),
                '|' + '|'.join([':--', *['--:'] * (len(part.header) - 1)]) + '|',
                *map(line, part.rows),
            ]
        )
    if isinstance(part, Printed):
        return textwrap.indent(part.text.rstrip(), '    ')  # a code block, without markup
    if isinstance(part, Figure):
        return f'![{_plain(part.caption)}]({part.path})\n\n{_plain(part.caption)}'
    return _plain(part)


def _html_part(part):
    if isinstance(part, Table):
        part = part.filled()

        def line(kind, cells):
            return '<tr>' + ''.join(f'<{kind}>{html.escape(c)}</{kind}>' for c in cells) + '</tr>'

        body = '\n'.join(line('td', row) for row in part.rows)
        return f'<table><thead>{line("th", part.header)}</thead><tbody>\n{body}\n</tbody></table>'
    if isinstance(part, Printed):
        return f'<pre>{html.escape(part.text.rstrip())}</pre>'
    if isinstance(part, Figure):
        caption = html.escape(part.caption)
        image = f'<img src="{part.path}" alt="{caption}" loading="lazy">'
        return f'<figure>{image}<figcaption>{caption}</figcaption></figure>'
    return f'<p>{html.escape(part)}</p>'


def _plain(text):
    """Escape text for Markdown, on one line."""
    return re.sub(
        r'([\\`*\[\]|#]|(?<!\w)_|_(?!\w))',
        r'\\\1',
        html.escape(' '.join(text.split()), quote=False),
    )
