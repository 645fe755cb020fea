"""What a config field may hold: a test, and the words for it in an error message."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What a field may hold, as a test and in words: 'must be {allowed}'."""

    holds: Callable[[Any], bool]
    allowed: str


def one_of(*values: Any) -> Rule:
    """Allow these values only."""
    first = ', '.join(repr(value) for value in values[:-1])
    return Rule(lambda value: value in values, f'{first} or {values[-1]!r}')


def number(low: int | float, high: int | float = float('inf'), whole: bool = True) -> Rule:
    """Allow numbers from low to high, both included; whole numbers only, or any."""
    types = int if whole else (int, float)

    def holds(value):
        is_number = isinstance(value, types) and not isinstance(value, bool)
        return is_number and low <= value <= high

    kind = 'a whole number' if whole else 'a number'
    limits = f'{low} or more' if high == float('inf') else f'from {low} to {high}'
    return Rule(holds, f'{kind}, {limits}')


def each(rule: Rule, least: int = 1) -> Rule:
    """Allow a tuple of at least so many values that the rule allows."""
    many = 'one or more' if least else 'any number'
    return Rule(
        lambda value: len(value) >= least and all(rule.holds(item) for item in value),
        f'{many} of: {rule.allowed}',
    )


FLAG = one_of(True, False)
COUNT = number(0)
POSITIVE = number(1)
AMOUNT = number(0, whole=False)
SHARE = number(0, 1, whole=False)
ANY = Rule(lambda value: True, 'anything')  # checked where the field is used
SIDE = number(33, 4097)  # of a square image, in pixels
PLAIN = Rule(
    lambda value: isinstance(value, bool | int | float | str | tuple),
    'a number, True, False, text or a tuple',
)
