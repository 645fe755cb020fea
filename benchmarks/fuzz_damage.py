"""Ways to damage a file, for `fuzz`: each is a pure function of the bytes and a random generator."""

import json
import random
from collections.abc import Callable, Sequence

MISSING, FOLDER = object(), object()
"""In place of bytes: the file is removed, or a folder has its name."""

MISTYPED = (
    None,
    True,
    -1,
    0,
    10**30,
    1.5e308,
    float('nan'),
    '',
    'x',
    '..',
    [],
    [[1]],
    {},
    {'a': 0},
)
"""Values that stand in place of another one in JSON."""

Damaged = bytes | object


def cut(data: bytes, draw: random.Random, _) -> Damaged:
    """Keep the beginning."""
    return data[: draw.randrange(1, max(2, len(data)))]


def cut_end(data: bytes, draw: random.Random, _) -> Damaged:
    """Lose up to eight bytes at the end."""
    return data[: -draw.randrange(1, 9)]


def empty(data: bytes, draw: random.Random, _) -> Damaged:
    """Keep nothing."""
    return b''


def flip(data: bytes, draw: random.Random, _) -> Damaged:
    """Flip a bit."""
    place = draw.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << draw.randrange(8)]) + data[place + 1 :]


def flips(data: bytes, draw: random.Random, _) -> Damaged:
    """Replace a few bytes, most of them near the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(draw.randrange(2, 9)):
        end = min(len(data), 64) if draw.random() < 0.6 else len(data)
        changed[draw.randrange(end)] = draw.randrange(256)
    return bytes(changed)


def zeros(data: bytes, draw: random.Random, _) -> Damaged:
    """Fill a part with zeros, as after a power cut."""
    start = draw.randrange(len(data))
    end = draw.randrange(start, len(data)) + 1
    return data[:start] + bytes(end - start) + data[end:]


def grown(data: bytes, draw: random.Random, _) -> Damaged:
    """Add something at the end."""
    return data + draw.randbytes(draw.randrange(1, 200))


def replaced(data: bytes, draw: random.Random, others: Sequence[bytes]) -> Damaged:
    """Put another file, or random bytes, in its place."""
    return draw.choice(others) if draw.random() < 0.7 else draw.randbytes(len(data))


def missing(data: bytes, draw: random.Random, _) -> Damaged:
    """Remove the file."""
    return MISSING


def folder(data: bytes, draw: random.Random, _) -> Damaged:
    """Put a folder in its place."""
    return FOLDER


def mistyped(data: bytes, draw: random.Random, _) -> Damaged:
    """Give an entry of JSON another type, or remove it; of lines of JSON, in one of them."""
    lines = data.decode().split('\n')
    try:
        value = json.loads(data)
    except ValueError:
        place = draw.randrange(max(1, len(lines) - 1))
        lines[place] = json.dumps(_mistype(json.loads(lines[place]), draw))
        return '\n'.join(lines).encode()
    return json.dumps(_mistype(value, draw), indent=1).encode()


def _mistype(value, draw: random.Random):
    """Change one place of a tree."""
    if isinstance(value, dict | list) and value and draw.random() < 0.85:
        key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if draw.random() < 0.15:
            value.pop(key)
        else:
            value[key] = _mistype(value[key], draw)
        return value
    return draw.choice(MISTYPED)


Way = Callable[[bytes, random.Random, Sequence[bytes]], Damaged]
WAYS: tuple[Way, ...] = (cut, flip, mistyped, replaced, flips, empty, zeros, grown, cut_end)
RARE: tuple[Way, ...] = (missing, folder)
"""Once for each file."""


def ways(data: bytes, is_json: bool, count: int) -> list[Way]:
    """Return which ways a file is damaged in, so many of them."""
    common = [way for way in WAYS if is_json or way is not mistyped]
    if not data:
        common = [grown, replaced]
    every = [*common[:5], *RARE, *common[5:]]
    repeated = [*every, *common * (1 + count // len(common))]
    return repeated[:count]
