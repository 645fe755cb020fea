"""Random access to the encoded bytes of a prepared data set, without TensorFlow."""

from dataclasses import replace

import numpy as np

from simpropnet_jax.datasets import declared, folder, packed, shapes5i
from simpropnet_jax.datasets.folds import CLASS_NAMES, PASCAL, HeldOut
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.paths import AnyPath

DATA_SETS = (
    'pascal5i/sbd',
    'pascal5i/aug',
    'pascal5i/subset',
    'coco20i/complete',
    'coco20i/subset',
    'fss1000/complete',
    'fss1000/subset',
    'shapes5i',
    'folder',
)
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
        validation: tuple[int, ...] = (),
    ):
        """Args: splits: index list name -> records of the images on that list, in the index's order.

        held_out: class ids that each fold holds out; validation: class ids that select a checkpoint.
        """
        self.name = name
        self.index = replace(
            index, name=name, class_names=class_names, held_out=held_out, validation=validation
        )
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


def open_source(name: str, data_dir: str | AnyPath, folds: str = declared.OWN) -> Source:
    """Open a prepared data set; shapes5i is drawn at its first use.

    Args:
      name: one of `DATA_SETS`.
      data_dir: the folder given as --data_dir (for 'folder': as --out) when the data was prepared, or a URL of a copy;
        or a folder that `packed` wrote.
      folds: 'own', or other folds that `declared` has for this data set.

    Raises:
      ValueError: unknown name or folds, or a packed folder of other data.
      FileNotFoundError: the data set has not been prepared in data_dir.
      OSError: shapes5i cannot be written to data_dir.
    """
    if name not in DATA_SETS:
        raise ValueError(f'data set must be one of {", ".join(DATA_SETS)}, got {name!r}')
    source = _open(name, paths.parse(data_dir))
    if folds != declared.OWN:
        source.index = replace(source.index, held_out=declared.held_out(name, folds))
    return source


def _open(name: str, data_dir: AnyPath) -> Source:
    """Open a data set with its own folds."""
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
    return _open_tfds(name, data_dir)


def _open_tfds(name: str, data_dir: AnyPath) -> Source:
    """Open a data set that a TFDS builder prepared."""
    from simpropnet_jax.datasets import tfds_splits

    kind, config = name.split('/')
    builder, command = _builder(kind)
    part = f'{name}/{builder.VERSION}'
    local = paths.on_this_machine(data_dir, part)
    index_path = local / part / tfds_splits.INDEX_FILE
    if not index_path.is_file():
        url = paths.is_url(data_dir)
        how = command(config, 'FOLDER' if url else str(data_dir))
        raise FileNotFoundError(
            f'{name} is not prepared in {data_dir} ({data_dir / part / tfds_splits.INDEX_FILE} is not there): run {how}'
            + (f', and copy FOLDER to {data_dir}' if url else '')
        )
    again = f'Remove {local / part} and run `{command(config, str(local))}`'
    known = _classes(kind, local / part, again)
    index = Index.load(index_path, again, len(known[0]))
    splits = tfds_splits.encoded_splits(builder, config, local, index, again)
    return Source(name, index, splits, *known)


def _builder(kind: str):
    """Return a data set's TFDS builder, and the function that returns the command to prepare it."""
    if kind == 'coco20i':
        from simpropnet_jax.datasets.coco20i import builder, prepare

        return builder.Coco20i, prepare.command
    if kind == 'fss1000':
        from simpropnet_jax.datasets.fss1000 import builder, prepare

        return builder.Fss1000, prepare.command
    from simpropnet_jax.datasets import pascal5i

    return pascal5i.Pascal5i, pascal5i.prepare_command


def _classes(kind: str, folder: AnyPath, again: str) -> tuple:
    """Return class names, the classes that each fold holds out and, where there are any, those that select."""
    if kind == 'fss1000':
        from simpropnet_jax.datasets.fss1000.builder import load_classes

        return load_classes(folder, again)
    known = declared.find(kind)
    return known.classes, known.folds[declared.OWN]
