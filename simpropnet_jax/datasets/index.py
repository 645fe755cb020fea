"""The label index: pixels of each class in each image, and the image lists of each image.

Image lists and tiny-object rules are the main undocumented differences between repositories; here they are filters
over one table.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from simpropnet_jax.datasets import folds
from simpropnet_jax.datasets.folds import CLASS_NAMES, PASCAL, HeldOut
from simpropnet_jax.datasets.options import TINY_RULES
from simpropnet_jax.runtime import paths
from simpropnet_jax.runtime.arrays import read_npz

_LISTS_MEANING = {
    'trainaug': 'SBD and VOC 2012 train, less VOC 2012 val',
    'val': 'VOC 2012 val',
    'noval': "SBD less VOC 2012 val, plus VOC 2012 train; it needs SBD's own lists dataset/train.txt and "
    "dataset/val.txt, which SegmentationClassAug lacks: prepare 'pascal5i/sbd' with --sbd benchmark_RELEASE",
}

TABLE = ('pixels', 'hits', 'height', 'width')


@dataclass(frozen=True, eq=False)
class Index:
    """Label statistics of N images sorted by id; the position is the image number in the whole package.

    Attributes:
      ids: N image ids, sorted.
      pixels: int32 [N, classes], label pixels of each class, the background's first.
      hits: int32 [N, classes], pixels of each class in `label[1::32, 1::32]` (OSLSM's test for tiny objects).
      height: int32 [N], label height in pixels.
      width: int32 [N], label width in pixels.
      lists: name ('trainaug', 'val' and, if known, 'noval') -> bool [N], true for images on the list.
      class_names: name of each class id, from 0; not stored.
      held_out: the class ids that each fold holds out; not stored.
      validation: class ids that are neither trained on nor held out, to select a checkpoint (FSS-1000); not stored.
      name: name of the data set, for messages; not stored.
    """

    ids: tuple[str, ...]
    pixels: np.ndarray
    hits: np.ndarray
    height: np.ndarray
    width: np.ndarray
    lists: dict[str, np.ndarray]
    class_names: tuple[str, ...] = CLASS_NAMES
    held_out: HeldOut = PASCAL
    validation: tuple[int, ...] = ()
    name: str = 'this data'

    def novel_classes(self, fold: int) -> tuple[int, ...]:
        """Return the class ids that the fold holds out. Raises ValueError if there is no such fold."""
        return folds.novel_classes(fold, self.held_out)

    def base_classes(self, fold: int) -> tuple[int, ...]:
        """Return the class ids to train on: all others except background. ValueError if there is no such fold."""
        base = folds.base_classes(fold, self.held_out, self.class_names)
        return tuple(c for c in base if c not in set(self.validation)) if self.validation else base

    @classmethod
    def build(
        cls,
        labelled: Iterable[tuple[str, np.ndarray]],
        lists: Mapping[str, Collection[str]],
        classes: int = len(CLASS_NAMES),
    ) -> 'Index':
        """Count classes in labels.

        Args:
          labelled: (image id, label uint8 [H, W] of class ids from 0 and 255), in any order.
          lists: list name -> ids on it.
          classes: number of classes, with the background.
        """

        def count(label):
            return count_classes(label, classes)

        rows = sorted(
            ((i, count(x), count(x[1::32, 1::32]), *x.shape) for i, x in labelled),
            key=lambda row: row[0],
        )
        ids, pixels, hits, height, width = zip(*rows, strict=True)
        members = {name: frozenset(on_list) for name, on_list in lists.items()}
        return cls(
            ids=ids,
            pixels=np.stack(pixels),
            hits=np.stack(hits),
            height=np.array(height, np.int32),
            width=np.array(width, np.int32),
            lists={
                name: np.array([i in on_list for i in ids]) for name, on_list in members.items()
            },
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the index as an .npz file."""
        lists = {f'list_{name}': member for name, member in self.lists.items()}
        table = dict(pixels=self.pixels, hits=self.hits, height=self.height, width=self.width)
        with open(path, 'wb') as file:
            np.savez_compressed(file, ids=np.array(self.ids), **table, **lists)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        again: str = 'Prepare the data again',
        classes: int = len(CLASS_NAMES),
    ) -> 'Index':
        """Read the file that `save` wrote.

        Args:
          path: the file.
          again: how to get it back, as a sentence.
          classes: number of classes, with the background.
        Raises:
          FileNotFoundError: there is no such file.
          ValueError: it is damaged.
        """
        arrays = read_npz(paths.parse(path), again, ('ids', *TABLE))
        lists = {
            name.removeprefix('list_'): member
            for name, member in arrays.items()
            if name.startswith('list_')
        }
        count = len(np.atleast_1d(arrays['ids']))
        shapes = dict(zip(TABLE, ((count, classes),) * 2 + ((count,),) * 2, strict=True))
        shapes |= {f'list_{name}': (count,) for name in lists}
        wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
        if wrong or not lists or arrays['ids'].dtype.kind != 'U':
            name = (wrong or ['ids'])[0]
            raise ValueError(
                f'{path} is damaged: {name} has the shape {list(arrays[name].shape)}. {again}'
            )
        table = {name: arrays[name] for name in TABLE}
        return cls(ids=tuple(arrays['ids'].tolist()), lists=lists, **table)


@dataclass(frozen=True, eq=False)
class Pairs:
    """P (image, class) pairs, ordered by image and then class.

    Attributes:
      image: int32 [P], image numbers.
      class_id: int32 [P], class ids from 1.
      class_names: name of each class id, from 0, for messages.
    """

    image: np.ndarray
    class_id: np.ndarray
    class_names: tuple[str, ...] = CLASS_NAMES

    def __len__(self) -> int:
        return len(self.image)


def count_classes(label: np.ndarray, classes: int = len(CLASS_NAMES)) -> np.ndarray:
    """Count the pixels of each class: label uint8 [H, W] -> int32 [classes]; void is not counted."""
    return np.bincount(label.ravel(), minlength=256)[:classes].astype(np.int32)


def listed_pairs(
    index: Index,
    image_list: str,
    classes: Collection[int],
    tiny_rule: str,
    drop_images_with: Collection[int] = (),
) -> Pairs:
    """List the (image, class) pairs that training or evaluation may draw from.

    Args:
      index: index of all images.
      image_list: 'trainaug', 'val' or 'noval'.
      classes: class ids to list, each from 1.
      tiny_rule: 'oslsm' keeps a pair with more than 2 pixels of the class in label[1::32, 1::32] (OSLSM,
        CANet); 'px2048' with at least 2048 pixels (PFENet, BAM); 'none' with any pixel.
      drop_images_with: leave out images with any pixel of these classes (as BAM does with novel classes).

    Raises:
      ValueError: an unknown rule, a class id out of range, or an image list that this data does not have.
    """
    count = index.pixels.shape[1]
    for c in (*classes, *drop_images_with):
        if not 1 <= c < count:
            raise ValueError(f'class id must be 1..{count - 1}, got {c}')
    keep = _listed(index, image_list) & ~(index.pixels[:, sorted(drop_images_with)] > 0).any(axis=1)
    wanted = np.isin(np.arange(count), sorted(classes))
    image, class_id = np.nonzero(_large_enough(index, tiny_rule) & keep[:, None] & wanted)
    return Pairs(image.astype(np.int32), class_id.astype(np.int32), index.class_names)


def counts(index: Index) -> dict:
    """Count pairs and images by tiny-object rule and list, one number per fold held out.

    The form is the same as in pascal5i/counts.json: val counts a fold's novel classes, the training lists its base
    classes.
    """
    result = {'images': {name: int(member.sum()) for name, member in index.lists.items()}}
    for rule in TINY_RULES:
        result[rule] = {name: _list_counts(index, name, rule) for name in index.lists}
    return result


def _list_counts(index: Index, image_list: str, rule: str) -> dict[str, list[int]]:
    classes_of = index.novel_classes if image_list == 'val' else index.base_classes
    every_fold = range(len(index.held_out))
    result = _pair_counts(
        [listed_pairs(index, image_list, classes_of(fold), rule) for fold in every_fold], ''
    )
    if image_list == 'val':
        count = index.pixels.shape[1]
        every = listed_pairs(index, image_list, range(1, count), rule)
        result['pairs_per_class'] = np.bincount(every.class_id, minlength=count)[1:].tolist()
        return result
    dropped = [
        listed_pairs(
            index,
            image_list,
            index.base_classes(fold),
            rule,
            drop_images_with=index.novel_classes(fold),
        )
        for fold in every_fold
    ]
    return result | _pair_counts(dropped, '_drop_novel')


def _pair_counts(per_fold: list[Pairs], suffix: str) -> dict[str, list[int]]:
    return {
        f'pairs{suffix}': [len(pairs) for pairs in per_fold],
        f'images{suffix}': [len(np.unique(pairs.image)) for pairs in per_fold],
    }


def _listed(index: Index, image_list: str) -> np.ndarray:
    if image_list in index.lists:
        return index.lists[image_list]
    explained = image_list in _LISTS_MEANING and index.class_names == CLASS_NAMES
    meaning = f' ({_LISTS_MEANING[image_list]})' if explained else ''
    known = ', '.join(sorted(index.lists))
    raise ValueError(
        f'image list {image_list!r} is not known for {index.name}, which has {known}{meaning}'
    )


def _large_enough(index: Index, tiny_rule: str) -> np.ndarray:
    if tiny_rule == 'oslsm':
        return index.hits > 2
    if tiny_rule == 'px2048':
        return index.pixels >= 2048
    if tiny_rule == 'none':
        return index.pixels > 0
    raise ValueError(f"tiny_rule must be 'oslsm', 'px2048' or 'none', got {tiny_rule!r}")
