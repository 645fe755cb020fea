"""Draw a scene: background clutter, distractors, one to three objects of different classes, and the label.

Positions are integer arithmetic on raw Philox bits, which NumPy promises to keep, so labels are the same on every
machine.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from simpropnet_jax.datasets.shapes5i.shapes import (
    CLASSES,
    SILHOUETTES,
    STRAY_SILHOUETTES,
    TEXTURES,
    UNIT,
    area,
)
from simpropnet_jax.io.labels import VOID

SEED = 5  # of the whole data set
SIDE = (184, 240)  # pixels
OBJECTS = (1, 2, 2, 3)  # number in a scene, drawn from this list
OBJECT_AREA, STRAY_AREA, CLUTTER_AREA = (8, 22), (4, 10), (8, 25)  # percent of the image
PERIOD = (30, 38)  # of a texture, percent of the side of a square with the object's area
MOST_HIDDEN = 25  # percent of an object that others may cover or that may lie outside the image
PLACES_TRIED = 20
TURN, ONE = 256, 4096  # steps of a full turn; one, in fixed point


class Draws:
    """Random integers of one image."""

    def __init__(self, number: int):
        self._bits = np.random.Philox(key=[SEED, number])

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from low to high, both included."""
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def pick(self, options: Sequence):
        """Draw one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def noise(self, *shape: int) -> np.ndarray:
        """Draw int64 of this shape, from -128 to 127."""
        count = math.prod(shape)
        raw = self._bits.random_raw(-(-count // 8)).astype('<u8').view(np.int8)
        return raw[:count].reshape(shape).astype(np.int64)

    def colour(self) -> np.ndarray:
        """Draw RGB, int64 [3]. All colours come from here, so objects and background have the same colours."""
        return np.array([self.integer(0, 255) for _ in range(3)])


class Stamp:
    """An object without a place.

    Attributes:
      mask: bool [h, w], cropped to the object.
      pixels: int64 [h, w, 3].
    """

    def __init__(self, draws: Draws, silhouette, texture, pixels: int):
        """Args: texture: None for one colour; pixels: the object's area before shear."""
        unit = math.isqrt(
            pixels * 256 * 64 * 64 // area(silhouette)
        )  # length of UNIT in 1/16 pixel
        u, v = _coordinates(draws, unit)
        inside = silhouette(u, v)
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        crop = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        self.mask, u, v = inside[crop], u[crop], v[crop]
        first_colour, second_colour = _two_colours(draws)
        second = np.zeros(u.shape, bool)
        if texture:
            period = draws.integer(*PERIOD) * math.isqrt(pixels) * 16 * UNIT // unit // 100
            second = texture(u + draws.integer(0, period), v + draws.integer(0, period), period)
        light = (u * draws.integer(-30, 30) + v * draws.integer(-30, 30)) // UNIT
        self.pixels = np.where(second[..., None], second_colour, first_colour) + light[..., None]


class Scene:
    """The scene drawn so far.

    Attributes:
      pixels: int64 [H, W, 3].
      label: uint8 [H, W], class ids and 255.
      placed: area and visible part (bool [H, W]) of each object and distractor.
    """

    def __init__(self, draws: Draws):
        self.shape = draws.integer(*SIDE), draws.integer(*SIDE)
        self.pixels = _gradient(draws, self.shape)
        self.label = np.zeros(self.shape, np.uint8)
        self.placed: list[tuple[int, np.ndarray]] = []
        self._draws = draws

    def stamp(self, silhouette, texture, percent: tuple[int, int]) -> Stamp:
        """Make a stamp with a percentage of the scene's area in this range."""
        pixels = (
            math.prod(self.shape) * self._draws.integer(10 * percent[0], 10 * percent[1]) // 1000
        )
        return Stamp(self._draws, silhouette, texture, pixels)

    def add_clutter(self, stamp: Stamp) -> None:
        """Draw the stamp anywhere; later stamps may cover it."""
        window, part = self._somewhere(stamp)
        self._paint(stamp, window, part)

    def add(self, stamp: Stamp, class_id: int) -> None:
        """Draw an object, or a distractor (class 0), at a place that hides little; skip it if there is no place."""
        for _ in range(PLACES_TRIED):
            window, part = self._somewhere(stamp)
            mask = np.zeros(self.shape, bool)
            mask[window] = stamp.mask[part]
            placed = [(size, visible & ~mask) for size, visible in self.placed]
            placed.append((int(stamp.mask.sum()), mask))
            if all(100 * visible.sum() >= (100 - MOST_HIDDEN) * size for size, visible in placed):
                self.placed = placed
                self._paint(stamp, window, part)
                if class_id:
                    self._write_label(mask, class_id)
                return

    def _somewhere(self, stamp):
        """Return matching slices of scene and stamp at a random place; a quarter of its sides may lie outside."""
        window, part = [], []
        for side, length in zip(self.shape, stamp.mask.shape, strict=True):
            start = self._draws.integer(-(length // 4), max(side - length + length // 4, 0))
            window.append(slice(max(start, 0), min(start + length, side)))
            part.append(slice(window[-1].start - start, window[-1].stop - start))
        return tuple(window), tuple(part)

    def _paint(self, stamp, window, part):
        self.pixels[window] = np.where(
            stamp.mask[part][..., None], stamp.pixels[part], self.pixels[window]
        )

    def _write_label(self, mask, class_id):
        """Write the class, with void from two pixels outside the border to one pixel inside."""
        self.label[_grown(mask, 2)] = VOID
        self.label[~_grown(~mask, 1)] = class_id


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw image uint8 [H, W, 3] and label uint8 [H, W] (class ids 0..20, 255 = void), purely from the number."""
    scene = compose(number)
    return np.clip(scene.pixels, 0, 255).astype(np.uint8), scene.label


def compose(number: int) -> Scene:
    """Compose the finished scene. Its first class is 1 + number % 20, so that no class is rare."""
    draws = Draws(number)
    scene = Scene(draws)
    strays, textures = list(STRAY_SILHOUETTES.values()), list(TEXTURES.values())
    for _ in range(draws.integer(2, 5)):
        scene.add_clutter(scene.stamp(draws.pick(strays), None, CLUTTER_AREA))
    scene.pixels = _lines(draws, scene.pixels)
    for _ in range(draws.integer(0, 2)):
        scene.add(scene.stamp(draws.pick(strays), draws.pick(textures), STRAY_AREA), 0)
    others = list(range(1, len(CLASSES) + 1))
    class_id = others.pop(number % len(CLASSES))
    for _ in range(draws.pick(OBJECTS)):
        silhouette, texture = CLASSES[class_id - 1]
        scene.add(scene.stamp(SILHOUETTES[silhouette], TEXTURES[texture], OBJECT_AREA), class_id)
        class_id = others.pop(draws.integer(0, len(others) - 1))
    scene.pixels = _noisy(draws, _blurred(scene.pixels))
    return scene


def _coordinates(draws, unit):
    """Return the object's coordinates u, v on a square patch that holds it: turned, sheared, stretched."""
    reach = unit * 2 // 16
    x = np.arange(-reach, reach + 1)
    y = x[:, None]
    angle = 2 * math.pi * draws.integer(0, TURN - 1) / TURN
    cos, sin = (
        round(ONE * math.cos(angle)),
        round(ONE * math.sin(angle)),
    )  # never near a half: the same everywhere
    u, v = cos * x + sin * y, cos * y - sin * x
    u = u + (v * draws.integer(-50, 50) >> 8)
    v = v * draws.integer(215, 300) >> 8
    scale = (UNIT << 20) * 16 // (unit * ONE)
    return u * scale >> 20, v * scale >> 20


def _two_colours(draws):
    """Draw two distinguishable colours."""
    first = draws.colour()
    while abs((second := draws.colour()) - first).sum() < 220:
        pass
    return first, second


def _grown(mask, pixels):
    """Grow the mask, bool [H, W], by a margin of `pixels` on each side."""
    for _ in range(2):  # down, then, turned, across
        grown = mask.copy()
        for step in range(1, pixels + 1):
            grown[step:] |= mask[:-step]
            grown[:-step] |= mask[step:]
        mask = grown.T
    return mask


def _gradient(draws, shape):
    """Mix the colours of the four corners linearly."""
    corners = np.array([[draws.colour() for _ in range(2)] for _ in range(2)])
    y, x = (np.arange(side)[:, None] * 256 // side for side in shape)
    left, right = (corners[0, i] * (256 - y) + corners[1, i] * y for i in range(2))
    return (left[:, None] * (256 - x) + right[:, None] * x) >> 16


def _lines(draws, pixels):
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen, (height, width) = ImageDraw.Draw(picture), pixels.shape[:2]
    for _ in range(draws.integer(4, 10)):
        ends = [(draws.integer(0, width), draws.integer(0, height)) for _ in range(2)]
        pen.line(ends, tuple(draws.colour().tolist()), draws.integer(1, 5))
    return np.asarray(picture).astype(np.int64)


def _blurred(pixels):
    """Blur with weights 1, 2, 1 down and across, so that borders are as soft as in photographs."""
    padded = np.pad(np.clip(pixels, 0, 255), ((1, 1), (1, 1), (0, 0)), 'edge')
    down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    return (down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]) >> 4


def _noisy(draws, pixels):
    """Add noise everywhere, and stronger noise in two rectangles."""
    height, width = pixels.shape[:2]
    strength = np.full((height, width, 1), draws.integer(4, 20))
    for _ in range(2):
        top, left = draws.integer(0, height), draws.integer(0, width)
        strength[top : top + draws.integer(20, 100), left : left + draws.integer(20, 100)] += (
            draws.integer(5, 30)
        )
    return pixels + (draws.noise(*pixels.shape) * strength >> 7)
