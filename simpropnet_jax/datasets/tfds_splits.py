"""Random access to the records of a prepared TFDS data set: image and label stay encoded bytes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from simpropnet_jax.datasets.index import Index

INDEX_FILE = 'index.npz'
"""The label index, next to the records."""

SPLITS = {'train': 'trainaug', 'val': 'val'}
"""TFDS split -> list of the index."""

KEYS = 2**128  # of TFDS


def spread_keys(count: int) -> Iterator[int]:
    """Yield keys of records that keep their order and that TFDS spreads over its thousand temporary files.

    It sorts one such file after the other in memory; small numbers would all go to the first one.
    """
    return (number * (KEYS // max(count, 1)) for number in range(count))


class EncodedRecords:
    """Records of a split, with image and label as encoded bytes.

    Args:
      records: the split's, as TFDS reads them.
      ids: their image ids.
      folder: where they are, for messages.
      again: how to get them back, as a sentence.
    """

    def __init__(self, records: Sequence, ids: Sequence[str], folder: Path, again: str):
        self._records, self._ids, self._folder, self._again = records, ids, folder, again

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, place: int) -> dict[str, bytes]:
        """Return the 'image' and the PNG 'label'.

        Raises:
          ValueError: the record is damaged, or of another image.
        """
        try:
            record = self._records[place]
        except Exception as error:  # each version of the library raises its own
            raise ValueError(_damaged(self._folder, error, self._again)) from error
        if record['image_id'] not in (self._ids[place], self._ids[place].encode()):
            problem = f'a record is not of the image {self._ids[place]}'
            raise ValueError(_damaged(self._folder, problem, self._again))
        return record


def encoded_splits(
    builder_class: type[tfds.core.DatasetBuilder],
    config: str,
    data_dir: Path,
    index: Index,
    again: str,
    splits: Mapping[str, str] = SPLITS,
) -> dict[str, EncodedRecords]:
    """Return list name ('trainaug', 'val') -> random-access records of a prepared data set.

    Args:
      builder_class: the data set's builder.
      config: name of a builder config, such as 'sbd'.
      data_dir: the folder of prepared data.
      index: its label index.
      again: how to get it back, as a sentence.
      splits: TFDS split -> list of the index.
    Raises:
      ValueError: it is damaged.
    """
    folder = data_dir / builder_class.name / config / str(builder_class.VERSION)
    skip = {'image': tfds.decode.SkipDecoding(), 'label': tfds.decode.SkipDecoding()}
    found = {}
    try:
        builder = builder_class(config=config, data_dir=str(data_dir))
        for split, name in splits.items():
            records = builder.as_data_source(split, decoders=skip)
            ids = [index.ids[i] for i in index.lists[name].nonzero()[0]]
            if len(records) != len(ids):
                raise ValueError(f'the split {split} has {len(records)} records of {len(ids)}')
            found[name] = EncodedRecords(records, ids, folder, again)
    except Exception as error:  # of TFDS, protobuf and the reader of records
        raise ValueError(_damaged(folder, error, again)) from error
    return found


def _damaged(folder: Path, problem: object, again: str) -> str:
    return f'{folder} is damaged ({" ".join(str(problem).split())[:200]}). {again}'
