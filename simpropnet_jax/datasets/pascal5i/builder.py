"""The TFDS builder. Preparing and reading need no TensorFlow: images and labels stay encoded bytes."""

import json
from importlib import resources
from pathlib import Path

import tensorflow_datasets as tfds

from simpropnet_jax.datasets.checked_builder import CheckedBuilder, Described
from simpropnet_jax.datasets.index import Index, counts
from simpropnet_jax.datasets.pascal5i.inputs import Inputs, find_inputs
from simpropnet_jax.datasets.tfds_splits import INDEX_FILE, SPLITS
from simpropnet_jax.io import encoding

_DESCRIPTION = """
PASCAL-5i: PASCAL VOC 2012 images with class labels of VOC 2012 and SBD, for few-shot segmentation. Classes
1..20 are split into four folds of five; 255 is void.
"""
_CITATION = """
@inproceedings{shaban2017oslsm,
  title={One-Shot Learning for Semantic Segmentation},
  author={Shaban, Amirreza and Bansal, Shray and Liu, Zhen and Essa, Irfan and Boots, Byron},
  booktitle={British Machine Vision Conference},
  year={2017}
}
@inproceedings{hariharan2011sbd,
  title={Semantic Contours from Inverse Detectors},
  author={Hariharan, Bharath and Arbel{\\'a}ez, Pablo and Bourdev, Lubomir and Maji, Subhransu
    and Malik, Jitendra},
  booktitle={International Conference on Computer Vision},
  year={2011}
}
"""


class Pascal5i(CheckedBuilder):
    """PASCAL-5i, splits 'train' (list trainaug) and 'val' (VOC val); `INDEX_FILE` is next to the records."""

    about = Described(_DESCRIPTION, 'http://host.robots.ox.ac.uk/pascal/VOC/voc2012/', _CITATION)
    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First release.'}
    BUILDER_CONFIGS = [
        tfds.core.BuilderConfig(name='sbd', description='VOC 2012 and SBD, complete'),
        tfds.core.BuilderConfig(
            name='aug', description='VOC 2012 and SegmentationClassAug, complete'
        ),
        tfds.core.BuilderConfig(
            name='subset', description='a part of either: counts are not checked'
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """
    Put into manual_dir: VOCtrainval_11-May-2012.tar or the folder VOCdevkit unpacked from it, and either
    benchmark_RELEASE (SBD, unpacked) or SegmentationClassAug.
    """

    def __init__(self, *, voc=None, sbd=None, aug=None, **kwargs):
        """Args: voc, sbd, aug: as in `find_inputs`; without voc they are taken from TFDS' manual_dir."""
        super().__init__(dict(voc=voc, sbd=sbd, aug=aug), **kwargs)

    def _split_generators(self, dl_manager):
        inputs, index = self._read(dl_manager)
        index.save(self.data_path / INDEX_FILE)
        return {
            split: self._generate_examples(inputs, inputs.lists[name])
            for split, name in SPLITS.items()
        }

    def _generate_examples(self, inputs: Inputs, ids: tuple[str, ...]):
        for image_id in ids:
            jpeg, label = inputs.example(image_id)
            yield image_id, {'image': jpeg, 'label': encoding.png(label), 'image_id': image_id}

    def _manual(self, folder: Path) -> dict[str, Path | None]:
        return _manual_paths(folder)

    def _check(self, voc, sbd, aug) -> tuple[Inputs, Index]:
        inputs = find_inputs(voc, sbd=sbd, aug=aug)
        name = self.builder_config.name
        if name != 'subset' and (name == 'sbd') != (sbd is not None):
            raise ValueError(
                f"pascal5i/{name} cannot be made of this input: 'sbd' needs SBD's folder benchmark_RELEASE, "
                "'aug' needs SegmentationClassAug"
            )
        index = Index.build(inputs.labelled(), inputs.lists)
        if name != 'subset':
            check_counts(index, reference_counts())
        return inputs, index


def prepare_command(config: str, data_dir: str | Path) -> str:
    """Return the command that prepares a builder config, for messages."""
    inputs = {
        'sbd': '--download',
        'aug': '--voc VOCdevkit --aug SegmentationClassAug',
        'subset': '--voc VOCdevkit --aug SegmentationClassAug --subset',
    }[config]
    return f'simpropnet prepare pascal5i {inputs} --data_dir {data_dir}'


def reference_counts() -> dict:
    """Return the counts of `simpropnet_jax.datasets.index.counts` on complete input."""
    return json.loads((resources.files(__package__) / 'counts.json').read_text())


def check_counts(index: Index, reference: dict) -> None:
    """Compare an index's counts with the counts of complete input, for the lists in the index.

    Raises:
      ValueError: names the first count that differs.
    """
    found = _leaves(counts(index))
    expected = {key: value for key, value in _leaves(reference).items() if key in found}
    wrong = [key for key in expected if found[key] != expected[key]]
    if wrong:
        key = wrong[0]
        raise ValueError(
            f'the input is not complete PASCAL-5i: {"/".join(key)} is {found[key]}, expected {expected[key]} '
            f'({len(wrong)} of {len(expected)} counts differ); complete it, or declare a subset with --subset'
        )


def _leaves(tree: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    result = {}
    for key, value in tree.items():
        result |= _leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return result


def _manual_paths(folder: Path) -> dict[str, Path | None]:
    names = ('VOCtrainval_11-May-2012.tar', 'benchmark_RELEASE', 'SegmentationClassAug')
    tar, sbd, aug = (folder / name for name in names)
    return dict(
        voc=tar if tar.is_file() else folder,
        sbd=sbd if sbd.is_dir() else None,
        aug=aug if aug.is_dir() else None,
    )
