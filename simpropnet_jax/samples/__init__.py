"""Sample pictures with hand-drawn masks, to try the programs without own data. See LICENSES.md for their sources."""

from pathlib import Path
from typing import NamedTuple

NAMES = ('person_1', 'person_2', 'cat', 'cup', 'rocket')


class Sample(NamedTuple):
    """A sample picture.

    Attributes:
      name: what it shows, with a number where several show the same.
      image: JPEG.
      mask: PNG of the same size; white is the object.
    """

    name: str
    image: Path
    mask: Path


def samples() -> list[Sample]:
    """Return all sample pictures; the first two show the same kind of object."""
    folder = Path(__file__).parent
    return [Sample(name, folder / f'{name}.jpg', folder / f'{name}_mask.png') for name in NAMES]
