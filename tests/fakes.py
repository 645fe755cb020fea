"""A data set made in memory, with the interface of a prepared one."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from simpropnet_jax.datasets.index import Index

# Fields of a config that make a training step take milliseconds.
SMALL = {
    'data.name': 'pascal5i/subset',
    'data.loader': 'threads',
    'model.encoder': 'resnet14',  # compiles in a third of the time
    'model.weights': '',
    'model.width': 4,
    'model.features': 8,
    'train.size': 33,
    'train.batch': 8,
    'train.steps': 6,
    'train.log_every': 1,
    'train.ica_decay': 1.0,  # or a longer training would not begin like a shorter one
    'select.every': 3,
    'select.episodes': 5,
    'eval.size': 33,
    'eval.label_size': 33,
    'eval.episodes': 10,
    'eval.shots': (1,),
    'eval.seeds': (0,),
}


@dataclass(frozen=True)
class FakeSource:
    name: str
    ids: tuple[str, ...]
    index: Index
    encoded: tuple[tuple[bytes, bytes], ...]

    def example(self, i):
        return self.encoded[i]


def encode(image, label=None, mode='RGB', quality=90):
    """(JPEG bytes, PNG bytes) of an image u8 [H,W,3] and a label u8 [H,W]."""
    jpeg, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(image).convert(mode).save(jpeg, 'JPEG', quality=quality)
    Image.fromarray(np.zeros(image.shape[:2], np.uint8) if label is None else label).save(
        png, 'PNG'
    )
    return jpeg.getvalue(), png.getvalue()


def records_of(fake):
    """The images of a fake data set by list, as `datasets.source.Source` reads them."""
    return {
        name: [
            dict(zip(('image', 'label'), fake.example(i), strict=True))
            for i in np.flatnonzero(listed)
        ]
        for name, listed in fake.index.lists.items()
    }


def fake_source(n=40, classes=20, size=(97, 126), seed=0, name='fake'):
    """`n` images with two classes each; the first half is on the list 'trainaug', the second on 'val'.

    Left and right of a void line, the upper three quarters of an image are coloured by class (with noise), so
    that a network can learn it; the rest is gray background. The default `size` lets every pair pass the rule
    'oslsm'.
    Each list has about n / classes images of each class.

    Args:
      size: sides are drawn from this range in pixels, ends included.
    """
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(12345).integers(0, 256, (21, 3))
    ids = tuple(f'fake_{i:06d}' for i in range(n))
    labels, encoded = [], []
    for i in range(n):
        height, width = rng.integers(size[0], size[1] + 1, 2)
        left = i % classes
        right = (left + 1 + i // classes % (classes - 1)) % classes
        label = np.zeros((height, width), np.uint8)
        label[: height * 3 // 4, : width // 2] = left + 1
        label[: height * 3 // 4, width // 2 :] = right + 1
        colour = np.where((label > 0)[..., None], colours[label], 128)
        label[: height * 3 // 4, width // 2 - 1 : width // 2 + 1] = 255
        image = np.clip(colour + rng.normal(0, 12, colour.shape), 0, 255).astype(np.uint8)
        labels.append(label)
        encoded.append(encode(image, label))
    lists = {'trainaug': ids[: n // 2], 'val': ids[n // 2 :]}
    index = Index.build(zip(ids, labels, strict=True), lists)
    return FakeSource(name, ids, index, tuple(encoded))


def decoded(png):
    """The label u8 [H, W] of PNG bytes."""
    return np.asarray(Image.open(io.BytesIO(png)))
