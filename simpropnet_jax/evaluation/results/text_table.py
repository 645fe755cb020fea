"""Tables as plain text."""

from collections.abc import Sequence


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table: columns as wide as their widest cell, the first left-aligned, the others right-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in [header, ['-' * width for width in widths], *rows]:
        first, *others = [(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines.append(
            '  '.join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)])
        )
    return '\n'.join(line.rstrip() for line in lines) + '\n'
