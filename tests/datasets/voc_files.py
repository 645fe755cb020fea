"""Writes a tiny VOC 2012, SBD and SegmentationClassAug in the real formats: nine images, every overlap."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

TRAIN = ('2007_000001', '2008_000001')  # VOC train; the second is in SBD too, with another label
VAL = ('2007_000002', '2008_000002', '2009_000009')  # VOC val; the last two are SBD's train and val
SBD_ONLY = ('2008_000003', '2008_000004', '2009_000003', '2009_000004')
DETECTION_VAL = (
    *VAL,
    '2008_000004',
    '2009_000004',
)  # VOC's Main/val.txt: wider than the segmentation list
GRAY = '2008_000003'
NOVAL = {*TRAIN, '2008_000003', '2009_000003'}


@dataclass(frozen=True)
class Files:
    """Where things were written, and the labels that a right reading gives."""

    root: Path
    labels: dict[str, np.ndarray]

    @property
    def voc(self) -> Path:
        return self.root / 'VOCdevkit' / 'VOC2012'

    @property
    def sbd(self) -> Path:
        return self.root / 'benchmark_RELEASE'

    @property
    def aug(self) -> Path:
        return self.root / 'SegmentationClassAug'

    def jpeg(self, image_id: str) -> Path:
        return self.voc / 'JPEGImages' / f'{image_id}.jpg'

    def mat(self, image_id: str) -> Path:
        return self.sbd / 'dataset' / 'cls' / f'{image_id}.mat'


def write_files(root: Path, seed: int = 0) -> Files:
    """Writes all three trees below `root`."""
    rng = np.random.default_rng(seed)
    voc_ids, ids = (*TRAIN, *VAL), (*TRAIN, *VAL, *SBD_ONLY)
    files = Files(root, {i: random_label(rng, void_border=i in voc_ids) for i in ids})
    for image_id, label in files.labels.items():
        write_jpeg(files.jpeg(image_id), rng, label.shape, gray=image_id == GRAY)
        write_palette_png(files.aug / f'{image_id}.png', label)
    for image_id in voc_ids:
        write_palette_png(
            files.voc / 'SegmentationClass' / f'{image_id}.png', files.labels[image_id]
        )
    for image_id in SBD_ONLY:
        write_mat(files.mat(image_id), files.labels[image_id])
    for image_id in (TRAIN[1], *VAL[1:]):  # SBD's own labels of VOC images, which must lose
        write_mat(files.mat(image_id), np.full_like(files.labels[image_id], 20))
    segmentation = files.voc / 'ImageSets' / 'Segmentation'
    write_list(segmentation / 'train.txt', TRAIN)
    write_list(segmentation / 'val.txt', VAL)
    write_list(files.voc / 'ImageSets' / 'Main' / 'val.txt', DETECTION_VAL)
    write_list(
        files.sbd / 'dataset' / 'train.txt', (TRAIN[1], VAL[1], '2008_000003', '2008_000004')
    )
    write_list(files.sbd / 'dataset' / 'val.txt', (VAL[2], '2009_000003', '2009_000004'))
    return files


def random_label(rng: np.random.Generator, void_border: bool) -> np.ndarray:
    """uint8 [H, W] of about 70 x 100: a few class boxes on background, in VOC's files with void borders."""
    height, width = rng.integers(66, 110, 2)
    label = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(0, (height - 30, width - 30))
        size = rng.integers(4, 50)
        box = label[top : top + size, left : left + size]
        box[:] = 255 if void_border else 0
        box[1:-1, 1:-1] = rng.integers(1, 21)
    return label


def write_jpeg(
    path: Path, rng: np.random.Generator, shape: tuple[int, int], gray: bool = False
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, shape if gray else (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path, 'JPEG', quality=80)


def write_palette_png(path: Path, label: np.ndarray) -> None:
    """Make a PNG as in VOC: indices into a palette with other colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(label)
    image.putpalette(np.random.default_rng(7).integers(0, 256, 768, np.uint8).tobytes())
    image.save(path, 'PNG')


def write_mat(path: Path, label: np.ndarray) -> None:
    """As SBD's: a struct GTcls with Boundaries, Segmentation and CategoriesPresent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    present = np.setdiff1d(np.unique(label), [0])[:, None]
    content = {
        'Boundaries': np.zeros((20, 1), object),
        'Segmentation': label,
        'CategoriesPresent': present,
    }
    scipy.io.savemat(path, {'GTcls': content}, do_compression=True)


def write_list(path: Path, ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{i}\n' for i in ids))


def decode_label(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == 'L'
        return np.asarray(image)
