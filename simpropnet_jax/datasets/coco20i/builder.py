"""The TFDS builder. Images and labels stay encoded bytes; reading them needs no TensorFlow."""

from pathlib import Path

import tensorflow_datasets as tfds

from simpropnet_jax.datasets.checked_builder import CheckedBuilder, Described
from simpropnet_jax.datasets.coco20i.check import PARTS, check_complete, counts, reference_counts
from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES
from simpropnet_jax.datasets.coco20i.inputs import CocoInputs, find_inputs
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.tfds_splits import INDEX_FILE, SPLITS, spread_keys
from simpropnet_jax.runtime import disk

_DESCRIPTION = """
COCO-20i: COCO 2014 images with label maps of the 80 classes, for few-shot segmentation. The classes are split into four
folds of twenty; training images are from train2014, test images from val2014; 255 is void.
"""
_CITATION = """
@inproceedings{lin2014coco,
  title={Microsoft COCO: Common Objects in Context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva
    and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle={European Conference on Computer Vision},
  year={2014}
}
@inproceedings{nguyen2019fwb,
  title={Feature Weighting and Boosting for Few-Shot Segmentation},
  author={Nguyen, Khoi and Todorovic, Sinisa},
  booktitle={International Conference on Computer Vision},
  year={2019}
}
"""


class Coco20i(CheckedBuilder):
    """COCO-20i, splits 'train' (train2014) and 'val' (val2014); `INDEX_FILE` is next to the records."""

    about = Described(_DESCRIPTION, 'https://cocodataset.org', _CITATION)
    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name='complete', description='COCO 2014, complete'),
        tfds.core.BuilderConfig(name='subset', description='a part of it: counts are not checked'),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put into manual_dir: train2014.zip, val2014.zip and annotations_trainval2014.zip.
    """

    def __init__(self, *, images=None, annotations=None, **kwargs):
        """Args: images, annotations: as in `find_inputs`; without them both are taken from TFDS' manual_dir."""
        self.differing: list[str] = []  # lines of `check_complete`
        super().__init__(dict(images=images, annotations=annotations), **kwargs)

    def _split_generators(self, dl_manager):
        inputs, index, pngs = self._read(dl_manager)
        index.save(self.data_path / INDEX_FILE)
        return {
            split: self._generate_examples(inputs, name, pngs) for split, name in SPLITS.items()
        }

    def _generate_examples(self, inputs: CocoInputs, name: str, pngs: dict[str, bytes]):
        ids = inputs.ids(name)
        for key, image_id in zip(spread_keys(len(ids)), ids, strict=True):
            jpeg = inputs.jpeg(name, image_id)
            yield key, {'image': jpeg, 'label': pngs[image_id], 'image_id': image_id}

    def _manual(self, folder: Path) -> dict[str, Path]:
        return dict(images=folder, annotations=folder)

    def _check(self, images, annotations) -> tuple[CocoInputs, Index, dict[str, bytes]]:
        subset = self.builder_config.name == 'subset'
        inputs = find_inputs(images, annotations, subset=subset)
        print(
            disk.needed(Path(self._data_dir_root), disk.prepared(inputs.total_bytes())), flush=True
        )
        for name, (empty, missing) in inputs.left_out.items():
            told = f'{PARTS[name]}: {empty:,} images without an object are left out'
            print(told + (f', and {missing:,} that are not there' if missing else ''), flush=True)
        pngs: dict[str, bytes] = {}
        lists = {name: inputs.ids(name) for name in inputs.listed}
        index = Index.build(inputs.labelled(pngs), lists, len(CLASS_NAMES))
        if not subset:
            self.differing = check_complete(counts(index), reference_counts())
        return inputs, index, pngs
