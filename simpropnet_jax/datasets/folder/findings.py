"""What a check found: mistakes, with which a folder cannot be prepared, what is only odd, and how it was read."""

from collections.abc import Sequence

SHOWN = 3  # examples of each kind


class Findings:
    """Examples by kind, a kind being one phrase; kinds in the order in which they were first seen.

    Attributes:
      mistakes, oddities, notes: kind -> examples.
    """

    def __init__(self):
        self.mistakes: dict[str, list[str]] = {}
        self.oddities: dict[str, list[str]] = {}
        self.notes: dict[str, list[str]] = {}

    def mistake(self, kind: str, example: str) -> None:
        """Add an example of what must be fixed."""
        self.mistakes.setdefault(kind, []).append(example)

    def odd(self, kind: str, *examples: str) -> None:
        """Add examples of what may be right but is unusual."""
        if examples:
            self.oddities.setdefault(kind, []).extend(examples)

    def note(self, kind: str, *examples: str) -> None:
        """Add examples of how something was read that has more than one form."""
        if examples:
            self.notes.setdefault(kind, []).extend(examples)

    def add(self, other: 'Findings') -> None:
        """Takes over what another check found."""
        for mine, found in (
            (self.mistakes, other.mistakes),
            (self.oddities, other.oddities),
            (self.notes, other.notes),
        ):
            for kind, examples in found.items():
                mine.setdefault(kind, []).extend(examples)

    def __str__(self) -> str:
        """The notes, mistakes, and what is odd: number, kind, and the first examples of each."""
        text = _section('MISTAKES, to be mended first', self.mistakes)
        text = (text + _section('ODD', self.oddities)) or 'Nothing is odd.\n'
        return _section('READ', self.notes) + text


def _section(title: str, kinds: dict[str, list[str]]) -> str:
    lines = [f'{title}:'] if kinds else []
    for kind, examples in kinds.items():
        lines += [f'  {len(examples)} x {kind}', *(f'      {one}' for one in _first(examples))]
    return ''.join(f'{line}\n' for line in lines)


def _first(examples: Sequence[str]) -> list[str]:
    return examples if len(examples) <= SHOWN else [*examples[:SHOWN], '...']
