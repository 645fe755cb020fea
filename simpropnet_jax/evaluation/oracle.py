"""Supervised networks on whole images: label maps, their mIoU over all classes, and the IoU of (image, class) pairs."""

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.datasets.folds import CLASS_NAMES
from simpropnet_jax.datasets.index import Pairs
from simpropnet_jax.episodes.loader import image_batches, own_labels
from simpropnet_jax.evaluation.engine.device_functions import resize_own_size
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime import records, sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup.run import Run, prepare
from simpropnet_jax.setup.weights import restore

logger = logging.getLogger(__name__)

VAL = 'val'
WEAK = 0.5  # an oracle with a lower val mIoU is called weak: it misses much for reasons unrelated to few-shot learning
BATCHES_IN_FLIGHT = 2


class OracleContent(TypedDict):
    """Content of a result on whole images."""

    method: str
    data: str
    size: int
    images: int
    list: str
    miou: float
    pixel_accuracy: float
    per_class: dict[str, float | None]
    weak_oracle: bool


class LabelPredictor:
    """Predict label maps of the val images with any weights of one module; compiles at the first call only.

    Args:
      module: a network with logits.
      convention: convention of the backbone's weights, see `backbones.normalise`.
      size: side in pixels to which images are stretched.
      mesh: a mesh with an axis 'data'; `batch` is rounded up to a multiple of its devices.
      backend: backend of the loader.
    """

    def __init__(
        self,
        module,
        source,
        *,
        convention: str,
        size: int,
        mesh: jax.sharding.Mesh,
        batch: int = 8,
        backend: str = 'auto',
    ):
        index = source.index
        self.numbers = np.flatnonzero(index.lists[VAL])
        self._source, self._size, self._backend, self._mesh = source, size, backend, mesh
        self._batch = -(-batch // mesh.size) * mesh.size
        self._sizes = np.stack([index.height, index.width], -1).astype(np.int32)
        canvas = tuple(int(n) for n in self._sizes[self.numbers].max(0))

        def predict(variables, images, sizes):
            logits = module.apply(variables, normalise(images, convention), method='logits')
            resized = jax.vmap(lambda one: resize_own_size(one, sizes, canvas), -1, -1)(logits)
            return resized.argmax(-1).astype(np.uint8)

        self._predict = jax.jit(predict, out_shardings=sharding.replicated(mesh))

    def __call__(self, variables) -> Iterator[tuple[int, UInt8[np.ndarray, 'H W']]]:
        """Yield (image number, class ids at the label's original size) of each val image, in order."""
        waiting = deque()

        def collect():
            numbers, maps = waiting.popleft()
            for number, one in zip(numbers, np.asarray(maps), strict=False):  # the rest is padding
                height, width = self._sizes[number]
                yield int(number), one[:height, :width]

        batches = image_batches(
            self._source,
            self.numbers,
            size=self._size,
            label_size=1,
            batch=self._batch,
            backend=self._backend,
        )
        for batch in batches:
            numbers = batch['number']
            on_device = sharding.place(
                (batch['image'], self._sizes[numbers]), sharding.sharded(self._mesh)
            )
            waiting.append((numbers[batch['valid']], self._predict(variables, *on_device)))
            if len(waiting) > BATCHES_IN_FLIGHT:
                yield from collect()
        while waiting:
            yield from collect()


def confusion(
    prediction: UInt8[np.ndarray, 'H W'],
    label: UInt8[np.ndarray, 'H W'],
    classes: int = len(CLASS_NAMES),
) -> Int[np.ndarray, 'k k']:
    """Count pixels of each class (row) predicted as each class (column), without void pixels."""
    known = label != VOID
    cells = label[known].astype(np.int64) * classes + prediction[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: Int[np.ndarray, 'k k']) -> Float[np.ndarray, ' k']:
    """Compute the IoU of each class; nan if neither truth nor prediction has it."""
    right = np.diag(matrix)
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0)


def score(predictor: LabelPredictor, source, variables, out: Path | None = None) -> dict:
    """Score the label maps of the val images at their original sizes, void ignored, as in PASCAL VOC.

    Args:
      out: folder for the label maps; None does not write them.
    Returns:
      `miou` over all classes that occur, including background; `per_class`, None for a class that does not occur;
      `pixel_accuracy`, `images`.
    """
    total = np.zeros((len(source.index.class_names),) * 2, np.int64)
    for number, prediction in predictor(variables):
        total += confusion(prediction, own_labels(source, [number])[0], len(total))
        if out is not None:
            write_label(out / f'{source.ids[number]}.png', prediction)
    iou = class_iou(total)
    return {
        'miou': float(np.nanmean(iou)),
        'pixel_accuracy': float(np.trace(total) / total.sum()),
        'per_class': {
            n: None if np.isnan(x) else float(x)
            for n, x in zip(source.index.class_names, iou, strict=True)
        },
        'images': len(predictor.numbers),
    }


def evaluate_run(
    config: ConfigDict | None, workdir: AnyPath, which: str = 'best', out: Path | None = None
) -> dict:
    """Evaluate a trained supervised network on the val list. See `evaluate`.

    Args:
      config: None: the run folder's own.
    """
    return evaluate(prepare(config, workdir), which, out)


def evaluate(run: Run, which: str = 'best', out: Path | None = None) -> dict:
    """Evaluate a trained supervised network on the val list, at `config.eval.size`, and print a table.

    Args:
      run: run of a supervised network. The result goes to supervised/ in its folder.
      which: checkpoint, 'best', 'latest' or a step.
      out: folder for the predicted label maps; None does not keep them.
    Returns:
      The written record; `weak_oracle` tells whether the mIoU is below 0.5.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled or written.
    """
    method, config, source, workdir = run.method, run.config, run.source, run.workdir
    if not method.supervised:
        raise ValueError(
            f'{workdir} holds {config.model.name}, which names no classes. Evaluate it with simpropnet eval'
        )
    mesh = sharding.make_mesh()
    variables, step, replaced = restore(method, workdir, which, sharding.replicated(mesh))
    predictor = LabelPredictor(
        method.module,
        source,
        convention=config.model.convention,
        size=config.eval.size,
        mesh=mesh,
        batch=config.eval.batch,
        backend=config.data.loader,
    )
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    found = score(predictor, source, variables, out)
    record = {
        'method': config.model.name,
        'data': config.data.name,
        'list': VAL,
        'size': config.eval.size,
        **found,
        'weak_oracle': found['miou'] < WEAK,
        'checkpoint': {'path': str(workdir), 'step': step, 'selection': config.select.on}
        | ({'replaced': replaced} if replaced else {}),
        'weights': config.model.weights,
        'trained_classes': config.train.classes,
        'versions': result_file.versions(),
        'device': result_file.device(),
    }
    path = workdir / 'supervised' / f'{which}_{config.eval.size}px.json'
    if jax.process_index() == 0:
        records.write(path, record)
    print(table(record), end='')
    logger.info('result: %s', path)
    return record


def table(record: dict) -> str:
    """Format the IoU of each class in percent, then the mIoU, and whether this is a weak oracle."""

    def percent(value):
        return '-' if value is None else f'{100 * value:.2f}'

    rows = [
        [name, percent(value)]
        for name, value in [*record['per_class'].items(), ('mIoU', record['miou'])]
    ]
    text = aligned([f'{record["images"]} images of {record["list"]}', 'IoU %'], rows)
    if record['weak_oracle']:
        text += f'a weak oracle: its mIoU is below {100 * WEAK:g} %\n'
    return text


def palette() -> Shaped[np.ndarray, '256 3']:
    """Return PASCAL VOC's colours: an index's bits, from the lowest, fill red, green, blue from their highest bits."""
    bits = (
        np.arange(256)[:, None, None] >> np.arange(9).reshape(3, 3) & 1
    )  # [256, bit of a colour, colour]
    return (bits << np.array([7, 6, 5])[:, None]).sum(1).astype(np.uint8)


def write_label(path: Path, label: UInt8[np.ndarray, 'H W']) -> None:
    """Write a label map as PNG with PASCAL VOC's palette."""
    if jax.process_index() == 0:
        image = Image.fromarray(label)
        image.putpalette(palette().tobytes())
        image.save(path)


def oracle_iou(folder: str | Path, source, pairs: Pairs) -> Float[np.ndarray, ' p']:
    """Compute the IoU of each pair's class in its image, of a folder's predicted label maps; void is ignored.

    Args:
      folder: folder of ID.png, as from `evaluate_run`: one channel (gray or palette) of class ids, the label's size.
      source: source of the labels.
    Raises:
      FileNotFoundError, ValueError: names a file that is missing, has another size, or holds no class ids.
    """
    folder = Path(folder)
    images, rows = np.unique(pairs.image, return_inverse=True)
    missing = [source.ids[n] for n in images if not (folder / f'{source.ids[n]}.png').is_file()]
    if missing:
        raise FileNotFoundError(
            f'{folder} has no {missing[0]}.png ({len(missing)} of {len(images)} images are missing): write a label map '
            'of every image there, with `simpropnet oracle --out`'
        )
    classes = len(source.index.class_names)
    iou = np.empty((len(images), classes))
    for row, number in enumerate(images.tolist()):
        label = own_labels(source, [number])[0]
        prediction = read_label(folder / f'{source.ids[number]}.png', label.shape, classes)
        iou[row] = class_iou(confusion(prediction, label, classes))
    return iou[rows.reshape(-1), pairs.class_id]


def oracle_quality(folder: Path, source) -> dict[str, Any]:
    """Measure the oracle: mIoU over all classes of the val images that have label maps, void ignored.

    Args:
      folder: folder of ID.png, see `oracle_iou`.
    Returns:
      `folder`, `miou`, `images` (with label maps), `listed` (on the val list), and `weak`, whether the mIoU is below
      0.5.
    Raises:
      ValueError: a file is not a label map of its image, or no val image has a label map.
    """
    numbers = np.flatnonzero(source.index.lists[VAL])
    there = [int(n) for n in numbers if (folder / f'{source.ids[n]}.png').is_file()]
    if not there:
        raise ValueError(
            f'{folder} has no ID.png of any val image: `simpropnet oracle --out` writes them'
        )
    classes = len(source.index.class_names)
    total = np.zeros((classes, classes), np.int64)
    for number in there:
        label = own_labels(source, [number])[0]
        total += confusion(
            read_label(folder / f'{source.ids[number]}.png', label.shape, classes), label, classes
        )
    miou = float(np.nanmean(class_iou(total)))
    return {
        'folder': str(folder),
        'miou': miou,
        'images': len(there),
        'listed': len(numbers),
        'weak': miou < WEAK,
    }


def read_label(
    path: Path, shape: tuple[int, int], classes: int = len(CLASS_NAMES)
) -> UInt8[np.ndarray, 'H W']:
    """Read a predicted label map from a PNG.

    Args:
      shape: required height and width.
    Raises:
      ValueError: names a file of another size, or without class ids.
    """
    try:
        with Image.open(path, formats=('PNG',)) as image:
            label = np.asarray(image)
            mode = image.mode
    except (OSError, SyntaxError) as error:
        raise ValueError(f'{path} cannot be read as a picture: {error}') from error
    if mode not in ('L', 'P'):
        raise ValueError(
            f'{path} has the mode {mode}: a label map has one channel of class ids, 8-bit gray or palette'
        )
    if label.shape != shape:

        def size(shape):
            return f'{shape[1]} x {shape[0]}'

        raise ValueError(
            f"{path} is {size(label.shape)} pixels, the image's label {size(shape)}: use the size of the label"
        )
    if label.max() >= classes:
        raise ValueError(
            f'{path} has the value {label.max()}: class ids go from 0 to {classes - 1}'
        )
    return label
