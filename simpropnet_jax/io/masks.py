"""What the values of a mask mean: one rule for gray, colour, alpha, palettes and floats.

The rule reads what has one meaning, and refuses the rest with the values that it found:
  - two values, one of them 0: the other one is the object;
  - class or instance ids: every id is the object. Next to ids below 64, 255 is void;
  - shades (soft edges, trimaps, JPEG, photographs), fractions, and several values without 0: refused. `MaskOptions`
    say how to read them. NaN and negative values are background.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from simpropnet_jax.io.labels import FOREGROUND, VOID

FIRST_SHADE = 64  # beside 255, this value and larger ones may be shades: 255 is then not void
FIRST_BRIGHT = 200  # 8-bit ids rarely end here; shades do
FULL_16_BITS = 65535
MANY = 12  # values, from which on their places in the picture tell ids and shades apart
SOLID_ALPHA = 0.95  # share of the pixels of a cut-out that are nearly transparent or nearly opaque
TRANSPARENT, OPAQUE, HALF = 8, 247, 128  # of alpha
SHOWN = 6  # values that a message names
CROWDS = ('void', 'object')
MUCH = 0.9  # share of the picture, or of its border, above which a mask may be the wrong way round


class MaskOptions(NamedTuple):
    """How to read a mask; the default reads what has one meaning.

    Attributes:
      mask_value: pixels of this value are the object.
      mask_threshold: pixels of this value and above are the object.
      invert: object and background change places; void stays.
      crowds: what a region of annotations with iscrowd 1 is, 'object' or 'void'.
    """

    mask_value: float | int | None = None
    mask_threshold: float | int | None = None
    invert: bool = False
    crowds: str = 'void'

    def check(self) -> 'MaskOptions':
        """Return itself.

        Raises:
          ValueError: both a value and a threshold are given, one is NaN, or crowds are something else.
        """
        if self.crowds not in CROWDS:
            raise ValueError(f'--crowds must be {" or ".join(CROWDS)}, got {self.crowds!r}')
        if self.mask_value is not None and self.mask_threshold is not None:
            raise ValueError('give either --mask_value or --mask_threshold, not both')
        if any(number is not None and np.isnan(number) for number in self[:2]):
            raise ValueError('--mask_value and --mask_threshold must be numbers, got nan')
        return self

    def check_annotations(self, path: object) -> None:
        """Raise ValueError if there are options for masks of pixels, for a file of annotations."""
        if self._replace(crowds='void') != DEFAULT:
            raise ValueError(
                f'{path} holds annotations: --mask_value, --mask_threshold and --invert are for masks of pixels'
            )

    @property
    def explicit(self) -> bool:
        """Whether a value or a threshold says what the object is."""
        return self.mask_value is not None or self.mask_threshold is not None


DEFAULT = MaskOptions()


class UnclearMaskError(ValueError):
    """A mask that has more than one reading.

    Attributes:
      reason: what was found, without the advice.
    """

    def __init__(self, name: str, reason: str, advice: str):
        super().__init__(f'{name} {reason}. {advice}')
        self.reason = reason


def label_of_values(
    values: Shaped[np.ndarray, 'H W'],
    name: str,
    options: MaskOptions = DEFAULT,
    binary: bool = False,
) -> UInt8[np.ndarray, 'H W']:
    """Return the label of a mask of one channel: 1 foreground, 0 background, 255 void.

    Args:
      values: bool or numbers.
      name: for messages.
      options: how to read it.
      binary: refuse ids as well; nothing is void.
    Raises:
      ValueError: the values are no numbers, have no clear meaning (`UnclearMaskError`), or lack `mask_value`.
    """
    options.check()
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.dtype.kind not in 'iuf':
        raise ValueError(f'{name} must hold bool or numbers, got {values.dtype}')
    missing = np.isnan(values) if values.dtype.kind == 'f' else np.zeros(values.shape, bool)
    if missing.any():
        values = np.where(missing, 0, values)
    void = np.zeros(values.shape, bool)
    if options.mask_value is not None:
        found = (values == options.mask_value) & ~missing
        if not found.any():
            raise ValueError(
                f'{name} has no pixel of value {options.mask_value:g}; it has {listed(values)}'
            )
        if options.mask_value < FIRST_SHADE and values.max() == VOID:
            void = values == VOID
    elif options.mask_threshold is not None:
        found = (values >= options.mask_threshold) & ~missing
    else:
        missing |= values < 0
        values = np.where(missing, 0, values)
        void = _void(values, name, binary)
        found = (values > 0) & ~void
    return _label(found, void, missing, options)


def label_of_colours(
    colours: UInt8[np.ndarray, 'H W 3'],
    name: str,
    options: MaskOptions = DEFAULT,
    binary: bool = False,
) -> UInt8[np.ndarray, 'H W']:
    """Return the label of a mask in colour: what is not black is the object.

    Shades of one colour follow the rule of gray; options compare the brightest channel.

    Raises:
      ValueError: as `label_of_values`.
    """
    brightest = colours.max(-1)
    if options.explicit or _is_one_colour(colours, brightest):
        return label_of_values(brightest, name, options, binary)
    codes = np.zeros(brightest.shape, np.int32)
    for channel in range(3):  # one at a time: a large mask needs less memory
        codes = (codes << 8) | colours[..., channel]
    distinct = np.unique(codes)
    if distinct.size > MANY and (_are_rarely_flat(codes) or _are_smooth(brightest)):
        raise UnclearMaskError(
            name,
            f'has {distinct.size} colours, as a photograph or soft edges have, so that it is not clear what is '
            'foreground',
            'Is it the image instead of the mask? Give a mask of two colours, or say from which value of the brightest '
            'channel on a pixel is the object: --mask_threshold 128',
        )
    if distinct.size > 1 and 0 not in distinct:
        raise UnclearMaskError(
            name,
            f'has {distinct.size} colours and no black, which would be the background',
            'Paint the background black, or say which value of the brightest channel is the object: --mask_value '
            f'{int(brightest.min())}',
        )
    nothing = np.zeros(codes.shape, bool)
    return _label(codes > 0, nothing, nothing, options)


def label_of_alpha(
    alpha: UInt8[np.ndarray, 'H W'], name: str, options: MaskOptions = DEFAULT
) -> UInt8[np.ndarray, 'H W']:
    """Return the label of a cut-out, from its alpha, which varies: what is more opaque than not is the object.

    Raises:
      ValueError: as `label_of_values`; much of it is half transparent.
    """
    if options.explicit:
        return label_of_values(alpha, name, options)
    low, high = alpha <= TRANSPARENT, alpha >= OPAQUE
    cut_out = low.any() and high.any() and (low | high).mean() >= SOLID_ALPHA
    levels = np.unique(alpha)
    if not cut_out and not (levels.size == 2 and levels[0] == 0):
        raise UnclearMaskError(
            name,
            f'has an alpha channel with many half transparent pixels ({listed(alpha)}), so that it is not clear what '
            'is foreground',
            'Say from which alpha on a pixel is the object: --mask_threshold 128',
        )
    nothing = np.zeros(alpha.shape, bool)
    return _label(alpha >= HALF if cut_out else alpha > 0, nothing, nothing, options)


def listed(values: np.ndarray) -> str:
    """Return the distinct values as text; of many, the first ones and the last."""
    distinct = [f'{value:.6g}' for value in np.unique(values).tolist()]
    if len(distinct) <= SHOWN:
        return ', '.join(distinct)
    return f'{", ".join(distinct[: SHOWN - 1])}, ..., {distinct[-1]}: {len(distinct)} values'


def describe_mask(label: UInt8[np.ndarray, 'H W'], name: str = 'the mask') -> str:
    """Return how a label was understood, as `cat1.jpg: object 14.7 %, void 0.8 %`."""
    found, void = ((label == value).mean() for value in (FOREGROUND, VOID))
    return f'{name}: object {100 * found:.1f} %, void {100 * void:.1f} %'


def oddities(label: UInt8[np.ndarray, 'H W']) -> list[str]:
    """Return what looks like a misread mask, a phrase for each oddity; usually none."""
    found, void = label == FOREGROUND, label == VOID
    phrases = []
    if found.mean() > MUCH:
        phrases.append('the object covers nearly the whole picture')
    if void.sum() > found.sum() > 0:
        phrases.append('void is larger than the object')
    if share_of_border(label) > MUCH:
        phrases.append('the object covers nearly the whole border; is it the background? --invert')
    return phrases


def share_of_border(label: Shaped[np.ndarray, 'H W']) -> float:
    """Return the share of a label's border that is foreground."""
    found = label == FOREGROUND
    border = np.concatenate([found[0], found[-1], found[1:-1, 0], found[1:-1, -1]])
    return float(border.mean())


def _label(found, void, missing, options) -> np.ndarray:
    if options.invert:
        found = ~found & ~void & ~missing
    return np.where(void, np.uint8(VOID), found.astype(np.uint8))


def _void(values, name, binary) -> Bool[np.ndarray, 'H W']:
    """Where values without options are void; refuses what is unclear. Values are 0 or more."""
    distinct = np.unique(values)
    others = distinct[distinct > 0]
    nothing = np.zeros(values.shape, bool)
    whole = bool(np.all(others == np.round(others)))
    if others.size == 0 or (others.size == 1 and (whole or distinct[0] == 0)):
        return nothing
    if not whole:
        raise UnclearMaskError(
            name,
            f'has fractions ({listed(values)}), as probabilities and logits are, so that it is not clear what is '
            'foreground',
            'Say from which value on a pixel is the object, for instance --mask_threshold 0.5',
        )
    top = others[-1]
    beside = others[others != VOID]
    if top == VOID:
        shades = beside[-1] >= FIRST_SHADE
    else:
        sparse = others.size < top / 2
        shades = top == FULL_16_BITS or (FIRST_BRIGHT <= top < VOID and sparse)
    numbered = (
        top > VOID and others.size > (top - others[0]) / 4
    )  # instances, which may touch in order
    if others.size >= MANY and not shades:
        shades = _are_rarely_flat(values) or (not numbered and _are_smooth(values))
    if shades or binary:
        middle = FULL_16_BITS // 2 + 1 if top > VOID else 128
        raise UnclearMaskError(
            name,
            f'has shades of gray ({listed(values)}), so that it is not clear what is foreground',
            f'Save it with two values, 0 and 255, or say which pixels are the object: --mask_threshold {middle} '
            f'({middle} and above) or --mask_value {top:g} (only {top:g})',
        )
    if distinct[0] > 0 and top != VOID:
        raise UnclearMaskError(
            name,
            f'has the values {listed(values)} and no 0, which would be the background',
            f'Say which value is the object, for instance --mask_value {distinct[0]:g}',
        )
    return values == VOID if top == VOID else nothing


def _is_one_colour(colours, brightest) -> bool:
    """Whether every pixel is a shade of one colour, gray or another, within rounding."""
    place = np.unravel_index(brightest.argmax(), brightest.shape)
    full = int(brightest[place])
    if not full:
        return True
    expected = brightest[..., None] * (colours[place].astype(np.float32) / full)
    return bool((np.abs(expected - colours) <= 1).all())


def _are_rarely_flat(values) -> bool:
    """Return whether few pixels of other than the most common value lie in a flat 2 x 2 square: shades, not ids."""
    top_left, rest = values[:-1, :-1], (values[1:, :-1], values[:-1, 1:], values[1:, 1:])
    if not top_left.size:
        return True
    distinct, counts = np.unique(values[values > 0], return_counts=True)
    between = (top_left > 0) & (top_left != distinct[counts.argmax()])
    flat = between & np.logical_and.reduce([top_left == other for other in rest])
    return bool(between.any() and flat.sum() < 0.3 * between.sum())


def _are_smooth(levels) -> bool:
    """Whether most neighbours that differ do so by little: so do shades, while ids jump."""
    levels = levels.astype(np.float64)
    steps = np.concatenate([np.abs(np.diff(levels, axis=axis)).ravel() for axis in (0, 1)])
    steps = steps[steps > 0]
    return bool(steps.size and (steps <= levels.max() / 8).mean() > 0.7)
