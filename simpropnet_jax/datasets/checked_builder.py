"""What the TFDS builders of image data sets share. Images and labels stay encoded bytes, which needs no TensorFlow."""

import abc
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import tensorflow_datasets as tfds

from simpropnet_jax.datasets import incomplete


class Described(NamedTuple):
    """What TFDS says about a data set."""

    description: str
    homepage: str
    citation: str


class CheckedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with label maps in the order of an index; the input is checked before anything is written.

    Attributes:
      about: what TFDS says about the data set.
      _inputs: arguments of `_check`; if the first is None, `_manual` finds them in TFDS' manual_dir.
    """

    about: ClassVar[Described]

    def __init__(self, inputs: dict[str, Any], **kwargs):
        self._inputs = inputs
        self._checked: tuple | None = None
        # array_record allows random access, and needs no TensorFlow for writing or reading.
        super().__init__(**{'file_format': 'array_record'} | kwargs)

    @abc.abstractmethod
    def _check(self, **inputs) -> tuple:
        """Read and check the input; returns what the splits are generated from."""

    @abc.abstractmethod
    def _manual(self, folder: Path) -> dict[str, Any]:
        """Return the arguments of `_check` for a folder of the user's files."""

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.about.description,
            features=tfds.features.FeaturesDict(
                {
                    'image': tfds.features.Image(shape=(None, None, 3), encoding_format='jpeg'),
                    'label': tfds.features.Image(shape=(None, None, 1), encoding_format='png'),
                    'image_id': tfds.features.Text(),
                }
            ),
            # Records are in the order of the index: record j of a split is the j-th id of its list.
            disable_shuffling=True,
            homepage=self.about.homepage,
            citation=self.about.citation,
        )

    def download_and_prepare(self, **kwargs):
        """Prepare as in TFDS, but check the input first, so that nothing is written for invalid input."""
        given = next(iter(self._inputs.values())) is not None
        if given and not self.data_path.exists():
            self._checked = self._check(**self._inputs)
        with incomplete.removed(self.data_path):
            super().download_and_prepare(**kwargs)

    def _read(self, dl_manager) -> tuple:
        """Return what `_check` returned, or returns for TFDS' manual_dir."""
        if self._checked is None:
            self._checked = self._check(**self._manual(Path(dl_manager.manual_dir)))
        return self._checked
