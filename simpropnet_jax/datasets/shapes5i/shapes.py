"""Silhouettes and textures as functions of integer coordinates, and the classes that they make.

A silhouette is drawn in coordinates in which `UNIT` is about half its extent. Nothing here uses floating point, so
labels are the same on every machine.
"""

import functools
from collections.abc import Callable

import numpy as np

UNIT = 1024

Coordinates = np.ndarray
"""int64 [H, W]."""


def _disc(u: Coordinates, v: Coordinates, x: int = 0, y: int = 0, radius: int = UNIT) -> np.ndarray:
    return (u - x) ** 2 + (v - y) ** 2 <= radius**2


def _polygon(u: Coordinates, v: Coordinates, *corners: tuple[int, int]) -> np.ndarray:
    """Return True for points with an odd number of edges to the right."""
    inside = np.zeros(u.shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 == y2:
            continue
        left = (u - x1) * (y2 - y1) < (x2 - x1) * (v - y1)
        inside ^= ((y1 > v) != (y2 > v)) & (left == (y2 > y1))
    return inside


def _heart(u, v):
    lobes = _disc(u, v, -460, -340, 530) | _disc(u, v, 460, -340, 530)
    return lobes | _polygon(u, v, (-890, -30), (0, -500), (890, -30), (0, 1000))


def _star(u, v):
    return _polygon(
        u,
        v,
        (0, -1024),
        (253, -348),
        (974, -316),
        (409, 133),
        (602, 828),
        (0, 430),
        (-602, 828),
        (-409, 133),
        (-974, -316),
        (-253, -348),
    )


def _arrow(u, v):
    return _polygon(
        u, v, (-1024, -260), (60, -260), (60, -760), (1024, 0), (60, 760), (60, 260), (-1024, 260)
    )


Silhouette = Callable[[Coordinates, Coordinates], np.ndarray]

SILHOUETTES: dict[str, Silhouette] = {
    'disc': _disc,
    'triangle': lambda u, v: _polygon(u, v, (0, -1024), (887, 512), (-887, 512)),
    'cross': lambda u, v: (
        (np.minimum(abs(u), abs(v)) <= 340) & (np.maximum(abs(u), abs(v)) <= UNIT)
    ),
    'crescent': lambda u, v: _disc(u, v) & ~_disc(u, v, x=500, radius=840),
    'arrow': _arrow,
    'ring': lambda u, v: _disc(u, v) & ~_disc(u, v, radius=540),
    'square': lambda u, v: np.maximum(abs(u), abs(v)) <= UNIT,
    'star': _star,
    'heart': _heart,
    'bow tie': lambda u, v: (abs(u) <= UNIT) & (abs(v) <= np.maximum(150, abs(u))),
}
"""Silhouettes of the classes."""

STRAY_SILHOUETTES: dict[str, Silhouette] = {
    'bar': lambda u, v: (abs(u) <= UNIT) & (abs(v) <= 260),
    'half disc': lambda u, v: _disc(u, v) & (v >= 0),
    'corner': lambda u, v: _polygon(
        u, v, (-900, -900), (-250, -900), (-250, 250), (900, 250), (900, 900), (-900, 900)
    ),
    'blob': lambda u, v: (
        _disc(u, v, -400, 200, 600) | _disc(u, v, 480, 420, 430) | _disc(u, v, 250, -420, 500)
    ),
}
"""Silhouettes of distractors and background clutter, which no class has."""


def _dots(u, v, period):
    centre = period // 2
    return _disc(u % period, v % period, centre, centre, period * 21 // 64)


def _rings(u, v, period):
    distance = np.sqrt(u * u + v * v).astype(
        np.int64
    )  # a square root is rounded the same on every machine
    return distance // (period // 2) % 2 == 1


TEXTURES: dict[str, Callable[[Coordinates, Coordinates, int], np.ndarray]] = {
    'ringed': _rings,
    'striped': lambda u, v, period: u // (period // 2) % 2 == 1,
    'chequered': lambda u, v, period: (u // (period // 2) + v // (period // 2)) % 2 == 1,
    'dotted': _dots,
    'zigzag': lambda u, v, period: (u + abs(v % (2 * period) - period)) // (period // 2) % 2 == 1,
}
"""True for pixels with an object's second colour; `period` is in the units of the coordinates."""


def _classes() -> list[tuple[str, str]]:
    """Return silhouette and texture of class 1, 2, ...

    A fold has five silhouettes and all five textures. Each silhouette occurs in two folds with different textures, so
    neither silhouette nor texture alone identifies a class.
    """
    silhouettes, textures = list(SILHOUETTES), list(TEXTURES)
    return [
        (silhouettes[5 * (fold % 2) + i], textures[(i + 2 * (fold // 2) + fold % 2) % 5])
        for fold in range(4)
        for i in range(5)
    ]


CLASSES = _classes()
CLASS_NAMES = ('background', *(f'{texture} {silhouette}' for silhouette, texture in CLASSES))
"""Name of each class id, 0..20."""


@functools.cache
def area(silhouette: Silhouette) -> int:
    """Return the silhouette's area, in squares of side UNIT / 64."""
    u, v = np.mgrid[-1200:1200:16, -1200:1200:16]
    return int(silhouette(u, v).sum())
