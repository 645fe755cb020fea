"""What one user of the page has: examples, pictures, and what the network says of them; nothing of the page itself."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from simpropnet_jax.app.outline import Marks
from simpropnet_jax.app.uploads import (
    PageSupport,
    UploadedPicture,
    drawn_support,
    read_picture,
)
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.io import overlay as visualize

DETAIL = {
    'As trained': {},
    'Keep proportions': {'fit': 'pad'},
    'Larger input': {'scale': 1.5},
    '2 x 2 tiles': {'tiles': 2},
    '3 x 3 tiles': {'tiles': 3},
}
"""How pictures may be looked at: as the page was started, or else; `scale` is times the size of the network's input."""
MOST_SUPPORTS, MOST_QUERIES = 10, 50  # of one user: all are kept in memory


class Session:
    """The examples and pictures of one user. All errors are a ValueError of one sentence, and then nothing has changed.

    Attributes:
      supports: the examples.
      queries: the pictures to be segmented.
      probabilities: of the foreground, float32 [h, w] of the first queries: of those that are segmented already.
      draft: the picture that is being marked.
      way: how it is made: 'paint', 'marks' or 'file'.
      marks: in the draft, and `cut`: the mask that they give, or None.
      detail: how pictures are looked at, one of `DETAIL`.
      chosen: number of the example and of the picture that are selected, or None.
    """

    def __init__(self, segmenter: Segmenter):
        self.supports: list[PageSupport] = []
        self.queries: list[UploadedPicture] = []
        self.probabilities: list[Float32[np.ndarray, 'h w']] = []
        self._given = self._segmenter = segmenter
        self.detail = next(iter(DETAIL))
        self._probe = None
        self.chosen: dict[str, int | None] = {'example': None, 'picture': None}
        self.way = 'paint'
        self.set_draft(None)

    def set_draft(self, picture: UploadedPicture | None) -> None:
        """Begin a new example, or none."""
        self.draft = picture
        self.marks = Marks()
        self.cut: Bool[np.ndarray, 'h w'] | None = None

    def set_supports(self, supports: Sequence[PageSupport]) -> None:
        """Takes these examples in place of those before, and looks at them; `segment` is to follow.

        Raises:
          ValueError: there are too many, or the network cannot see the object in one.
        """
        if len(supports) > MOST_SUPPORTS:
            raise ValueError(
                f'{MOST_SUPPORTS} examples are the most that are taken: remove one first'
            )
        if supports:
            self._probe = self._segmenter.probe(
                [(support.image, support.label) for support in supports]
            )
        self.supports, self.probabilities = list(supports), []
        self._choose_no_more()

    def look(self, detail: str) -> None:
        """Looks at examples and pictures in another way, one of `DETAIL`; `segment` is to follow.

        Raises:
          ValueError: the network cannot see the object of an example so.
        """
        before, given = self._segmenter, self._given
        changes = dict(DETAIL[detail])
        size = given.geometry.grid.nearest(given.size * changes.pop('scale', 1))
        view = {'size': size, 'fit': given.fit, 'tiles': given.tiles} | changes
        self._segmenter = given.with_view(**view)
        try:
            self.set_supports(self.supports)
        except ValueError:
            self._segmenter = before
            raise
        self.detail = detail

    def remove_support(self) -> None:
        """Forgets the chosen example; without one, nothing."""
        number = self.chosen['example']
        if number is not None:
            self.set_supports([*self.supports[:number], *self.supports[number + 1 :]])

    def add_queries(self, paths: Sequence[str | os.PathLike]) -> list[str]:
        """Adds the pictures in files; `segment` is to follow.

        Returns a sentence on each file that is left out, or read in part.
        """
        said, room = [], MOST_QUERIES - len(self.queries)
        for path in paths[:room]:
            try:
                picture = read_picture(path)
            except ValueError as error:
                said.append(str(error))
                continue
            self.queries.append(picture)
            said += [f'{picture.name} {note}' for note in picture.notes]
        if len(paths) > room:
            said.append(
                f'{MOST_QUERIES} pictures are the most at once: {len(paths) - room} are left out'
            )
        return said

    def clear_queries(self) -> None:
        """Forgets the pictures, and keeps the examples."""
        self.queries, self.probabilities = [], []
        self._choose_no_more()

    def remove_query(self) -> None:
        """Forgets the chosen picture; without one, nothing."""
        number = self.chosen['picture']
        if number is not None:
            del self.queries[number]
            del self.probabilities[number : number + 1]
        self._choose_no_more()

    def _choose_no_more(self):
        """Let go of what was removed; the next one takes its number, as in the galleries."""
        counts = {'example': len(self.supports), 'picture': len(self.queries)}
        for kind, number in self.chosen.items():
            if number is not None and number >= counts[kind]:
                self.chosen[kind] = None

    def result_as_support(self, threshold: float) -> PageSupport:
        """Returns the chosen picture with its mask, as an example.

        Raises:
          ValueError: none is chosen or segmented, or its mask is empty.
        """
        number = self.chosen['picture']
        if number is None or number >= len(self.probabilities):
            raise ValueError('select a picture with a mask first')
        picture, found = self.queries[number], self.probabilities[number] > threshold
        if not found.any():
            raise ValueError(
                f'the mask of {picture.name} is empty at this threshold: it shows no object'
            )
        return drawn_support(picture, found)

    def segment(self) -> Iterator[int]:
        """Segments what is not yet, once there is an example; says after each picture how many are left."""
        while self.supports and len(self.probabilities) < len(self.queries):
            query = self.queries[len(self.probabilities)]
            self.probabilities.append(
                self._segmenter.segment_with(self._probe, query.image).probability
            )
            yield len(self.queries) - len(self.probabilities)

    def overlays(self, threshold: float) -> list[UInt8[np.ndarray, 'h w 3']]:
        """The segmented pictures with their masks: where the probability is above the threshold."""
        return [
            visualize.overlay(query.image, probability > threshold, visualize.PREDICTION)
            for query, probability in self._segmented()
        ]

    def shown(self, threshold: float) -> list[tuple[UInt8[np.ndarray, 'h w 3'], str]]:
        """All pictures with their names: those that are segmented with their masks, then the others."""
        waiting = [query.image for query in self.queries[len(self.probabilities) :]]
        # The probability is zero everywhere if the presence score is below --absent_below.
        absent = [not probability.any() for probability in self.probabilities]
        absent += [False] * len(waiting)
        names = [
            f'{query.name}: no object found' if none else query.name
            for query, none in zip(self.queries, absent, strict=True)
        ]
        return list(zip([*self.overlays(threshold), *waiting], names, strict=True))

    def masks(self, threshold: float) -> Iterator[Bool[np.ndarray, 'H W']]:
        """The mask of each segmented picture, at the size of its file."""
        for query, probability in self._segmented():
            big = Image.fromarray(probability).resize(query.size[::-1], Image.BILINEAR)
            yield np.asarray(big) > threshold

    def write_zip(self, path: Path, threshold: float) -> None:
        """Writes NAME_mask.png (0 and 255, at the size of the file) and NAME_overlay.jpg (smaller) of each picture.

        Raises:
          ValueError: nothing is segmented yet.
        """
        if not self.probabilities:
            raise ValueError('there is no mask to download yet: add an example and a picture first')
        names = _names(self.queries)
        with zipfile.ZipFile(path, 'w') as archive:
            for name, overlay, mask in zip(
                names, self.overlays(threshold), self.masks(threshold), strict=False
            ):
                for array, ending in (
                    (mask.astype(np.uint8) * 255, 'mask.png'),
                    (overlay, 'overlay.jpg'),
                ):
                    with archive.open(f'{name}_{ending}', 'w', force_zip64=True) as file:
                        Image.fromarray(array).save(
                            file, 'PNG' if ending == 'mask.png' else 'JPEG', quality=90
                        )

    def _segmented(self):
        return zip(self.queries, self.probabilities, strict=False)


def _names(pictures):
    """What the output of each picture is called: its stem, numbered where another has it too."""
    names = []
    for picture in pictures:
        name, count = Path(picture.name).stem, 1
        while name.lower() in (other.lower() for other in names):
            count += 1
            name = f'{Path(picture.name).stem}_{count}'
        names.append(name)
    return names
