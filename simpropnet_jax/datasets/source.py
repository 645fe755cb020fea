"""Random access to the encoded bytes of a prepared data set, without TensorFlow."""

from dataclasses import replace

import numpy as np

from simpropnet_jax.datasets import folder, packed, shapes5i
from simpropnet_jax.datasets.folds import CLASS_NAMES, PASCAL, HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

DATA_SETS = ('pascal5i/sbd', 'pascal5i/aug', 'pascal5i/subset', 'shapes5i', 'folder')
"""Names that `open_source` knows."""


class Source:
    """Images and labels of one prepared data set, by image number; safe to read from many threads.

    Attributes:
      name: data set name, e.g. 'pascal5i/sbd'.
      index: label index; a position in it is an image number.
      class_names: name of each class id, from 0.
    """

    def __init__(
        self,
        name: str,
        index: Index,
        splits: dict[str, object],
        class_names: tuple[str, ...] = CLASS_NAMES,
        held_out: HeldOut = PASCAL,
    ):
        """Args: splits: index list name -> records of the images on that list, in the index's order.

        held_out: class ids that each fold holds out.
        """
        self.name = name
        self.index = replace(index, name=name, class_names=class_names, held_out=held_out)
        self.class_names = class_names
        self._splits = splits
        self._place: list[tuple[str, int]] = [('', -1)] * len(index.ids)
        for list_name in splits:
            for record, number in enumerate(np.flatnonzero(index.lists[list_name])):
                self._place[number] = (list_name, record)

    @property
    def ids(self) -> tuple[str, ...]:
        """Return the image ids, by image number."""
        return self.index.ids

    def example(self, number: int) -> tuple[bytes, bytes]:
        """Return the stored image, and the label as 8-bit single-channel PNG of class ids and 255 = void.

        The image is a JPEG; in a user's data it may be an RGB PNG, which loaders read in the same way.
        """
        list_name, record = self._place[number]
        example = self._splits[list_name][record]
        return example['image'], example['label']


def open_source(name: str, data_dir: str | AnyPath) -> Source:
    """Open a prepared data set; shapes5i is drawn at its first use.

    Args:
      name: one of `DATA_SETS`.
      data_dir: the folder given as --data_dir (for 'folder': as --out) when the data was prepared, or a URL of a copy;
        or a folder that `packed` wrote.

    Raises:
      ValueError: unknown name, or a packed folder of other data.
      FileNotFoundError: the data set has not been prepared in data_dir.
      OSError: shapes5i cannot be written to data_dir.
    """
    if name not in DATA_SETS:
        raise ValueError(f'data set must be one of {", ".join(DATA_SETS)}, got {name!r}')
    data_dir = paths.parse(data_dir)
    if packed.is_packed(data_dir):
        return Source(
            name,
            *packed.load(
                paths.on_this_machine(data_dir.parent, data_dir.name) / data_dir.name, name
            ),
        )
    if name == 'shapes5i':
        local = paths.on_this_machine(data_dir, f'shapes5i/{shapes5i.VERSION}')
        return Source(name, *shapes5i.load(local), shapes5i.CLASS_NAMES)
    if name == 'folder':
        prepared = paths.on_this_machine(data_dir.parent, data_dir.name) / data_dir.name
        return Source(name, *folder.load(prepared))
    from simpropnet_jax.datasets import pascal5i

    part = f'{name}/{pascal5i.Pascal5i.VERSION}'
    local = paths.on_this_machine(data_dir, part)
    index_path = local / part / pascal5i.INDEX_FILE
    if not index_path.is_file():
        url = paths.is_url(data_dir)
        how = pascal5i.prepare_command(name.split('/')[1], 'FOLDER' if url else str(data_dir))
        raise FileNotFoundError(
            f'{name} is not prepared in {data_dir} ({data_dir / part / pascal5i.INDEX_FILE} is not there): run {how}'
            + (f', and copy FOLDER to {data_dir}' if url else '')
        )
    builder = pascal5i.Pascal5i(config=name.split('/')[1], data_dir=str(local))
    return Source(name, Index.load(index_path), builder.encoded_splits())
