"""The TFDS builder, and the classes next to its records. It needs no TensorFlow: images stay encoded bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import numpy as np
import tensorflow_datasets as tfds

from simpropnet_jax.datasets.checked_builder import CheckedBuilder, Described
from simpropnet_jax.datasets.folds import HeldOut
from simpropnet_jax.datasets.fss1000.inputs import Example, FssInputs, find_inputs, read_label
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.tfds_splits import INDEX_FILE, SPLITS, spread_keys
from simpropnet_jax.io import encoding
from simpropnet_jax.io.labels import FOREGROUND, label_value
from simpropnet_jax.runtime import disk, records
from simpropnet_jax.runtime.paths import AnyPath

CLASSES_FILE = 'classes.json'
FORMAT = 1

_DESCRIPTION = """
FSS-1000: a thousand classes of ten images, for few-shot segmentation. The classes of HSNet's list trn are trained on,
those of val select a checkpoint, and those of test are evaluated on.
"""
_CITATION = """
@inproceedings{li2020fss,
  title={FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation},
  author={Li, Xiang and Wei, Tianhan and Chen, Yau Pun and Tai, Yu-Wing and Tang, Chi-Keung},
  booktitle={Conference on Computer Vision and Pattern Recognition},
  year={2020}
}
"""


class FssClasses(TypedDict):
    """Content of CLASSES_FILE: the classes of each list, in the order of the class ids."""

    format: int
    trn: list[str]
    val: list[str]
    test: list[str]


class Fss1000(CheckedBuilder):
    """FSS-1000, splits 'train' (classes of trn) and 'val' (classes of val and test), with an index and the classes."""

    about = Described(_DESCRIPTION, 'https://github.com/HKUSTCV/FSS-1000', _CITATION)
    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name='complete', description='all 1,000 classes'),
        tfds.core.BuilderConfig(name='subset', description='a part of them'),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put into manual_dir: fewshot_data (the released folder), and trn.txt, val.txt and test.txt (HSNet's lists).
    """

    def __init__(self, *, folder=None, lists=None, **kwargs):
        """Args: folder, lists: as in `find_inputs`; without them both are taken from TFDS' manual_dir."""
        super().__init__(dict(folder=folder, lists=lists), **kwargs)

    def _split_generators(self, dl_manager):
        inputs, index = self._read(dl_manager)
        index.save(self.data_path / INDEX_FILE)
        stored = {name: list(listed) for name, listed in inputs.classes.items()}
        records.write(self.data_path / CLASSES_FILE, {'format': FORMAT, **stored})
        return {
            split: self._generate_examples(inputs.examples[name]) for split, name in SPLITS.items()
        }

    def _generate_examples(self, examples: list[Example]) -> Iterator[tuple[int, dict]]:
        for key, one in zip(spread_keys(len(examples)), examples, strict=True):
            label = read_label(one) * np.uint8(label_value(one.class_id))
            yield (
                key,
                {
                    'image': one.image.read_bytes(),
                    'label': encoding.png(label),
                    'image_id': one.image_id,
                },
            )

    def _manual(self, folder: Path) -> dict[str, Path]:
        return dict(folder=folder, lists=folder)

    def _check(self, folder, lists) -> tuple[FssInputs, Index]:
        inputs = find_inputs(folder, lists, subset=self.builder_config.name == 'subset')
        print(
            disk.needed(Path(self._data_dir_root), disk.prepared(inputs.total_bytes())), flush=True
        )
        return inputs, _index(inputs)


def _index(inputs: FssInputs) -> Index:
    """Count the object's pixels in each image. `Index.build` would count values of labels, which are no class ids."""
    rows = sorted(
        (one.image_id, one.class_id, (label == FOREGROUND).sum(), _hits(label), *label.shape)
        for one, label in inputs.labelled()
    )
    ids, class_ids, objects, hits, height, width = zip(*rows, strict=True)
    size, shape = np.array(height) * width, (len(ids), len(inputs.names))
    table = {'pixels': np.zeros(shape, np.int32), 'hits': np.zeros(shape, np.int32)}
    every = np.arange(len(ids))
    table['pixels'][every, class_ids], table['hits'][every, class_ids] = objects, hits
    table['pixels'][:, 0] = size - objects
    listed = {name: {one.image_id for one in found} for name, found in inputs.examples.items()}
    return Index(
        ids=ids,
        height=np.array(height, np.int32),
        width=np.array(width, np.int32),
        lists={name: np.array([i in found for i in ids]) for name, found in listed.items()},
        **table,
    )


def _hits(label) -> int:
    return int((label[1::32, 1::32] == FOREGROUND).sum())


def load_classes(folder: AnyPath, again: str) -> tuple[tuple[str, ...], HeldOut, tuple[int, ...]]:
    """Return the class names, the classes that fold 0 holds out (test), and those that select a checkpoint (val).

    Args:
      folder: of the records.
      again: how to get them back, as a sentence.
    Raises:
      ValueError: the file is damaged.
    """
    stored = records.read(folder / CLASSES_FILE, FssClasses, again, FORMAT)
    first, second = len(stored['trn']), len(stored['val'])
    names = ('background', *stored['trn'], *stored['val'], *stored['test'])
    validation = tuple(range(first + 1, first + second + 1))
    return names, (tuple(range(first + second + 1, len(names))),), validation
