"""Find the lists, images and labels of PASCAL-5i, and refuse damaged ones.

Labels come from VOC 2012 (palette PNG) and, for images that VOC did not segment, from SBD (.mat) or from the
folder SegmentationClassAug that others made of SBD (PNG).
"""

import io
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from simpropnet_jax.datasets import list_files
from simpropnet_jax.datasets.folds import CLASS_NAMES
from simpropnet_jax.datasets.pascal5i import compare_labels
from simpropnet_jax.datasets.pascal5i.files import Folder, Tar
from simpropnet_jax.io.labels import VOID

_LISTS = 'ImageSets/Segmentation'
_CHECKED_AT_ONCE = 256  # images decoded ahead: bounds memory


@dataclass(frozen=True)
class Inputs:
    """Images and labels to prepare.

    Attributes:
      voc: files of the VOC2012 folder.
      extra: files of SBD's `dataset` folder or of SegmentationClassAug.
      lists: list name ('trainaug', 'val' and, with SBD, 'noval') -> image ids, sorted. Every image is on
        exactly one of trainaug and val.
    """

    voc: Folder | Tar
    extra: Folder
    lists: dict[str, tuple[str, ...]]

    def label_place(self, image_id: str) -> tuple[Folder | Tar, str] | None:
        """Return the place of the label, or None; VOC's labels come before the others."""
        places = (
            (self.voc, f'SegmentationClass/{image_id}.png'),
            (self.extra, f'{image_id}.png'),
            (self.extra, f'cls/{image_id}.mat'),
        )
        return next(((files, name) for files, name in places if files.has(name)), None)

    def example(self, image_id: str) -> tuple[bytes, np.ndarray]:
        """Return the JPEG file's unchanged bytes and the label uint8 [H, W], both checked.

        Raises:
          ValueError: names a file that is damaged, has a value that is not a class id, or has another size.
        """
        image_name = f'JPEGImages/{image_id}.jpg'
        jpeg, image_place = self.voc.read(image_name), self.voc.where(image_name)
        width, height = _image_size(jpeg, image_place)
        files, label_name = self.label_place(image_id)
        label, place = (
            read_label(files.read(label_name), files.where(label_name)),
            files.where(label_name),
        )
        if label.shape != (height, width):
            raise ValueError(
                f'{place} is {label.shape[1]} x {label.shape[0]} pixels, but its image {image_place} is '
                f'{width} x {height}'
            )
        return jpeg, label

    def labelled(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (image id, label) of every image after checking both; raises the errors of `example`."""
        self._refuse_missing()
        self._compare_with_voc()
        ids = sorted(self.lists['trainaug'] + self.lists['val'])
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(ids), _CHECKED_AT_ONCE):
                some = ids[start : start + _CHECKED_AT_ONCE]
                for image_id, (_, label) in zip(some, pool.map(self.example, some), strict=True):
                    yield image_id, label

    def _compare_with_voc(self) -> None:
        """Compare the other labels with VOC's, where both have an image."""
        names = [name for name in self.voc.names('SegmentationClass') if self.extra.has(name)]
        if not names:  # SBD's own labels of VOC's images are others, and are not used
            return

        def read(files, folder):
            return lambda name: read_label(files.read(folder + name), files.where(folder + name))

        place = self.extra.where('').rstrip('/')
        voc = read(self.voc, 'SegmentationClass/')
        compare_labels.check(names, voc, read(self.extra, ''), place)

    def _refuse_missing(self) -> None:
        ids = sorted(self.lists['trainaug'] + self.lists['val'])
        no_image = [i for i in ids if not self.voc.has(f'JPEGImages/{i}.jpg')]
        if no_image:
            raise FileNotFoundError(
                f'{len(no_image)} of {len(ids)} images in the lists train.txt and val.txt are not there; the first is '
                f'{self.voc.where(f"JPEGImages/{no_image[0]}.jpg")}'
            )
        no_label = [i for i in ids if self.label_place(i) is None]
        if no_label:
            raise FileNotFoundError(
                f'{len(no_label)} of {len(ids)} listed images have no label in '
                f'{self.voc.where("SegmentationClass")} or {self.extra.where("")}; the first is {no_label[0]}'
            )


def find_inputs(
    voc: str | Path, *, sbd: str | Path | None = None, aug: str | Path | None = None
) -> Inputs:
    """Find the lists and the files, and check the lists; no image is read yet.

    Args:
      voc: VOCtrainval_11-May-2012.tar, or the folder VOCdevkit or VOC2012.
      sbd: SBD's folder benchmark_RELEASE, or its `dataset` folder; exactly one of `sbd` and `aug` is given.
      aug: the folder SegmentationClassAug.

    Raises:
      FileNotFoundError: a folder or list is missing.
      ValueError: a list is empty or has an id twice, a val image is on the training list, or not one of sbd and aug.
    """
    if (sbd is None) == (aug is None):
        raise ValueError(
            'give either SBD (--sbd benchmark_RELEASE) or the folder SegmentationClassAug (--aug), '
            'not both or neither'
        )
    voc_files = _open_voc(Path(voc))
    val = _read_list(voc_files, f'{_LISTS}/val.txt')
    train = _read_list(voc_files, f'{_LISTS}/train.txt')
    if sbd is not None:
        extra = _open_sbd(Path(sbd))
        sbd_ids = {*_read_list(extra, 'train.txt'), *_read_list(extra, 'val.txt')}
        # SBD's published list train_noval leaves out the 5,823 val images of VOC's *detection* lists. That
        # makes 5,623 images, with VOC train PFENet's 5,953; SBD train less segmentation val would make 8,284.
        noval = (sbd_ids - {*_read_list(voc_files, 'ImageSets/Main/val.txt')} | {*train}) - {*val}
        lists = {'trainaug': (sbd_ids | {*train}) - {*val}, 'noval': noval}
    else:
        extra = _open_aug(Path(aug))
        lists = {'trainaug': _trainaug_list(voc_files, extra, val)}
    _refuse_val_in_train(voc_files, train, val, f'{_LISTS}/train.txt')
    lists = {name: tuple(sorted(ids)) for name, ids in (lists | {'val': val}).items()}
    return Inputs(voc_files, extra, lists)


def read_label(data: bytes, place: str) -> np.ndarray:
    """Read a label file's class ids, uint8 [H, W], values 0..20 and 255.

    VOC's PNGs are palette images; their *indices* are the class ids. Pillow gives the indices; TensorFlow and
    OpenCV give the palette's colours, so neither may read them.

    Args:
      data: a PNG or SBD .mat file.
      place: the file's name, for messages.

    Raises:
      ValueError: names a file that is damaged, has no indices, or has other values.
    """
    label = _mat_label(data, place) if place.endswith('.mat') else _png_label(data, place)
    values = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    wrong = values[(values >= len(CLASS_NAMES)) & (values != VOID)]
    if len(wrong):
        raise ValueError(
            f'{place} has the value {wrong[0]}, which is no class id: labels hold 0..20 and {VOID} (void)'
        )
    return label


def _png_label(data: bytes, place: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=['PNG']) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{place} cannot be read as a PNG: {error}') from error
    # Byte 24 of a PNG is its bit depth; Pillow stretches grey of fewer bits, which would change ids.
    if image.mode != 'P' and not (image.mode == 'L' and data[24] == 8):
        raise ValueError(
            f'{place} has mode {image.mode}, but a label is a palette or 8-bit grey PNG'
        )
    return np.asarray(image)


def _mat_label(data: bytes, place: str) -> np.ndarray:
    import scipy.io

    try:
        mat = scipy.io.loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False)
        label = mat['GTcls'].Segmentation
    except Exception as error:  # scipy raises many types for a damaged file
        raise ValueError(
            f'{place} cannot be read as an SBD label (GTcls.Segmentation): {error!r}'
        ) from error
    if label.dtype != np.uint8 or label.ndim != 2:
        raise ValueError(
            f'{place} holds {label.dtype} {label.shape}, but a label is uint8 [height, width]'
        )
    return label


def _image_size(jpeg: bytes, place: str) -> tuple[int, int]:
    """Return width and height after decoding the whole file: a truncated file has a valid header."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=['JPEG']) as image:
            image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f'{place} cannot be read as a JPEG: {error}') from error
    return image.size


def _open_voc(path: Path) -> Folder | Tar:
    marker = f'{_LISTS}/val.txt'
    if path.is_file():
        if (tar := Tar(path).below(marker)) is not None:
            return tar
    for folder in (path, path / 'VOC2012', path / 'VOCdevkit' / 'VOC2012'):
        if (folder / marker).is_file():
            return Folder(folder)
    raise FileNotFoundError(
        f'there is no VOC2012/{marker} in {path}: give VOCtrainval_11-May-2012.tar, '
        'or the folder VOCdevkit or VOC2012'
    )


def _open_sbd(path: Path) -> Folder:
    for folder in (path, path / 'dataset', path / 'benchmark_RELEASE' / 'dataset'):
        if (
            (folder / 'cls').is_dir()
            and (folder / 'train.txt').is_file()
            and (folder / 'val.txt').is_file()
        ):
            return Folder(folder)
    raise FileNotFoundError(
        f'there are no dataset/train.txt, dataset/val.txt and dataset/cls in {path}: '
        'give the unpacked folder benchmark_RELEASE'
    )


def _open_aug(path: Path) -> Folder:
    if not any(not one.name.startswith('.') for one in path.glob('*.png')):
        raise FileNotFoundError(
            f'there are no .png files in {path}: give the folder SegmentationClassAug'
        )
    return Folder(path)


def _trainaug_list(voc: Folder | Tar, extra: Folder, val: Collection[str]) -> Collection[str]:
    """Return the list that came with the data, or else every label that is not in val."""
    name = f'{_LISTS}/trainaug.txt'
    if not voc.has(name):
        return {Path(n).stem for n in extra.names('') if n.endswith('.png')} - {*val}
    trainaug = _read_list(voc, name)
    _refuse_val_in_train(voc, trainaug, val, name)
    return trainaug


def _refuse_val_in_train(
    voc: Folder | Tar, train: Collection[str], val: Collection[str], name: str
) -> None:
    both = sorted({*train} & {*val})
    if both:
        raise ValueError(
            f'{voc.where(name)} lists {len(both)} images that are also in val.txt, the first is {both[0]}: '
            'images of val must not be trained on'
        )


def _read_list(files: Folder | Tar, name: str) -> list[str]:
    if not files.has(name):
        raise FileNotFoundError(f'the image list {files.where(name)} is not there')
    ids = list_files.image_ids(files.read(name), files.where(name))
    if not ids:
        raise ValueError(f'the image list {files.where(name)} is empty')
    if len(ids) != len({*ids}):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f'the image list {files.where(name)} has {twice} twice')
    return ids
