"""The kinds of files for `fuzz`: how to make samples of each, and how the product reads them.

A reader is the function that a command calls. It returns everything that it learned of the files.
"""

import importlib.util
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from simpropnet_jax.config import recipes
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.shapes5i.scene import draw

logger = logging.getLogger('simpropnet_jax.fuzz')

SCENES = 40
SIDES = (40, 30)
FORMATS = ('jpg', 'png', 'webp', 'gif', 'bmp', 'tif')
WIDTH = 4  # filters of the smallest networks
LIST = '.txt'
OF_THE_USER = ('.jpg', '.png', '.webp', '.gif', '.bmp', '.tif', '.json', '.mat', LIST)
OF_OTHERS = ('.h5', '.pth', '.safetensors')


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
      make: writes samples into a folder.
      read: what the product learns of them.
      of: patterns of the files to damage.
      without_checksum: endings of formats in which a flipped bit can give another valid file.
      optional: whether a folder is whole without any of the files.
      same: whether a result is as good as that of the whole files.
    """

    make_samples: Callable[[Path], None]
    read: Callable[[Path], Any]
    of: tuple[str, ...] = ('**/*',)
    without_checksum: tuple[str, ...] = ()
    optional: bool = False
    same: Callable[[Any, Any], bool] = lambda result, whole: _plain(result) == _plain(whole)
    needs: str | None = None

    def available(self) -> bool:
        """Whether the library that it needs is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None

    def make(self, folder: Path) -> list[Path]:
        """Write the samples, and return the files to damage."""
        folder.mkdir(parents=True)
        self.make_samples(folder)
        return self.files(folder)

    def files(self, folder: Path) -> list[Path]:
        """Return the files to damage."""
        found = {path for pattern in self.of for path in folder.glob(pattern) if path.is_file()}
        return sorted(found)


def _plain(value: Any) -> Any:
    """Return a value in a form in which == compares all of it."""
    if isinstance(value, np.ndarray) or hasattr(value, '__array__'):
        array = np.asarray(value)
        return array.dtype.str, array.shape, array.tobytes()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, '__dataclass_fields__'):
        return _plain(vars(value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return repr(value)


def scene(number: int, sides=SIDES) -> tuple[Image.Image, Image.Image]:
    """Return a small drawn image and its label."""
    image, label = draw(number)
    pictures = Image.fromarray(image), Image.fromarray(label)
    return pictures[0].resize(sides), pictures[1].resize(sides, Image.NEAREST)


# Pictures, masks and annotations of a user


def make_pictures(folder: Path) -> None:
    for number, ending in enumerate(FORMATS):
        scene(number)[0].save(folder / f'{number}.{ending}')


def read_pictures(folder: Path) -> list:
    from simpropnet_jax.io import images

    return [images.read_image(folder / f'{i}.{ending}') for i, ending in enumerate(FORMATS)]


def make_masks(folder: Path) -> None:
    label = np.asarray(scene(0)[1])
    binary = Image.fromarray(np.where(label > 0, 255, 0).astype(np.uint8))
    binary.save(folder / 'binary.png')
    binary.convert('1').save(folder / 'bits.png')
    palette = Image.fromarray(label)
    palette.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    palette.save(folder / 'palette.png')
    binary.save(folder / 'binary.tif')


def read_masks(folder: Path) -> list:
    from simpropnet_jax.io import images

    names = ('binary.png', 'bits.png', 'palette.png', 'binary.tif')
    return [images.read_mask(folder / name) for name in names]


def make_annotations(folder: Path) -> None:
    shapes = [[2, 2, 20, 2, 20, 20, 2, 20]], {'size': [30, 40], 'counts': [100, 50, 1050]}
    content = {
        'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 30, 'width': 40}],
        'categories': [{'id': 3, 'name': 'cat'}],
        'annotations': [
            {'id': i, 'image_id': 1, 'category_id': 3, 'iscrowd': i, 'segmentation': one}
            for i, one in enumerate(shapes)
        ],
    }
    (folder / 'coco.json').write_text(json.dumps(content))


def read_annotations(folder: Path) -> Any:
    from simpropnet_jax.inference.annotations import Annotations

    return Annotations(folder / 'coco.json').label(folder / 'a.jpg', 'cat', (30, 40))


# Data sets


def small_shapes(folder: Path):
    """Draw a small shapes5i into a folder, as the product does."""
    shapes5i.store.load(folder, {'trainaug': 4, 'val': SCENES})
    return open_data('shapes5i', folder)


def open_data(name: str, folder: Path):
    from simpropnet_jax.datasets.source import open_source

    return open_source(name, folder)


def read_source(name: str) -> Callable[[Path], Any]:
    """Return a reader of a prepared data set."""

    def read(folder: Path) -> list:
        source = open_data(name, folder / 'data')
        examples = [source.example(number) for number in range(len(source.ids))]
        return [source.ids, source.index, source.class_names, examples]

    return read


def make_shapes(folder: Path) -> None:
    shapes5i.store.load(folder / 'data', {'trainaug': 2, 'val': 2})


def make_packed(folder: Path) -> None:
    from simpropnet_jax.datasets import packed

    shapes5i.store.load(folder / 'drawn', {'trainaug': 2, 'val': 2})
    packed.write(open_data('shapes5i', folder / 'drawn'), folder / 'data')


def make_own(folder: Path) -> None:
    """A folder of images and masks, not prepared."""
    for number in range(6):
        image, label = scene(number)
        label = np.zeros((30, 40), np.uint8)
        label[5:20, 5 : 20 + number] = 255
        (folder / 'images').mkdir(exist_ok=True)
        (folder / 'masks' / 'cat').mkdir(parents=True, exist_ok=True)
        image.save(folder / 'images' / f'{number}.jpg')
        Image.fromarray(label).save(folder / 'masks' / 'cat' / f'{number}.png')
    (folder / 'train.txt').write_text('0\n1\n2\n')
    (folder / 'val.txt').write_text('3\n4\n5\n')
    (folder / 'folds.json').write_text('[["cat"]]\n')


def read_own(folder: Path) -> str:
    """Prepare without writing; what is wrong is an error, as in the command."""
    from simpropnet_jax.datasets.folder.prepare import prepare

    findings = prepare(folder, None, None, 0.2, 500)
    if findings.mistakes:
        raise ValueError(' '.join(str(findings.mistakes).split())[:500])
    if findings.oddities:
        logger.warning('%s: %s', folder.name, findings.oddities)
    return str(vars(findings))


def make_folder(folder: Path) -> None:
    from simpropnet_jax.datasets.folder.prepare import prepare

    (folder / 'own').mkdir()
    make_own(folder / 'own')
    prepare(folder / 'own', None, folder / 'data', 0.2, 500)


def make_voc(folder: Path) -> None:
    """VOC 2012 with its own labels and SBD's."""
    import scipy.io

    voc, sbd = folder / 'VOCdevkit' / 'VOC2012', folder / 'benchmark_RELEASE' / 'dataset'
    places = [voc / 'JPEGImages', voc / 'SegmentationClass', voc / 'ImageSets/Segmentation']
    for place in [*places, voc / 'ImageSets/Main', sbd / 'cls']:
        place.mkdir(parents=True)
    for number in range(6):
        image, label = scene(number)
        image.save(places[0] / f'2008_{number:06}.jpg')
        if number < 4:
            label.save(places[1] / f'2008_{number:06}.png')
        else:
            content = {'GTcls': {'Segmentation': np.asarray(label)}}
            scipy.io.savemat(sbd / 'cls' / f'2008_{number:06}.mat', content, do_compression=True)
    for path, numbers in (
        (places[2] / 'train.txt', (0, 1)),
        (places[2] / 'val.txt', (2, 3)),
        (voc / 'ImageSets/Main/val.txt', (2, 3)),
        (sbd / 'train.txt', (4, 1)),
        (sbd / 'val.txt', (5,)),
    ):
        path.write_text(''.join(f'2008_{number:06}\n' for number in numbers))


def read_voc(folder: Path) -> list:
    from simpropnet_jax.datasets.pascal5i.inputs import find_inputs

    found = find_inputs(folder / 'VOCdevkit', sbd=folder / 'benchmark_RELEASE')
    return [found.lists, list(found.labelled())]


def make_tfds(folder: Path) -> None:
    from simpropnet_jax.datasets.pascal5i.prepare import prepare

    make_voc(folder)
    labels = folder / 'SegmentationClassAug'
    labels.mkdir()
    for number in range(6):
        scene(number)[1].save(labels / f'2008_{number:06}.png')
    voc = folder / 'VOCdevkit'
    prepare(str(folder / 'data'), voc=voc, aug=labels, subset=True)


# Runs


def make_run(folder: Path) -> None:
    """A run with two checkpoints, results, and metrics; nothing is trained."""
    import contextlib

    from benchmarks.measure import random_params
    from simpropnet_jax.runtime import checkpoint
    from simpropnet_jax.setup.method import Method
    from simpropnet_jax.setup.run import store_config
    from simpropnet_jax.training.writer import Writer

    config = small_config()
    method = Method.from_config(config)
    store_config(config, folder)
    with contextlib.closing(checkpoint.Checkpoints(folder / 'checkpoints')) as checkpoints:
        for step in (4, 8):
            weights = {'params': random_params(method, step)}
            checkpoints.save(step, {'variables': weights}, score=1 / step)
    writer = Writer(folder, 0)
    writer._tensorboard = None
    for step in range(1, 9):
        writer.scalars(step, {'loss': 1 / step, 'novel_val_miou': step / 10, 'steps_per_epoch': 4})


def small_config():
    config = recipes.get('simpropnet', 'fold=1')
    config.model.update(weights='', width=WIDTH, features=8, convention='torchvision')
    config.train.update(size=33, batch=8, epochs=1)
    config.data.update(name='shapes5i', loader='threads')
    config.eval.update(size=33, label_size=33, episodes=6, shots=(1,), seeds=(0,))
    return config


def read_config(folder: Path) -> dict:
    from simpropnet_jax.config import rules

    return rules.load(folder / 'config.json').to_dict()


def read_metrics(folder: Path) -> Any:
    from simpropnet_jax.report.curves import read_curve

    return vars(read_curve(folder, 'run'))


def read_checkpoint(folder: Path) -> list:
    import jax

    from simpropnet_jax.runtime import sharding
    from simpropnet_jax.setup import weights
    from simpropnet_jax.setup.method import Method

    loaded = weights.load(Method.from_config(small_config()), folder, 'best', sharding.make_mesh())
    return [loaded.step, *jax.tree.leaves(jax.device_get(loaded.variables))]


def make_results(folder: Path) -> None:
    """Masks as another program writes them, and the result of scoring them."""
    from simpropnet_jax.evaluation.external.predictions import evaluate_predictions

    make_predictions(folder)
    config = small_config()
    config.data.dir = str(folder / 'drawn')
    evaluate_predictions(config, folder, folder / 'masks')


def read_results(folder: Path) -> Any:
    from simpropnet_jax.evaluation.results import bootstrap, tables

    path = folder / 'eval' / 'simpropnet_fold1_predictions_masks.json'
    record, counts = bootstrap.load(path, 1)
    return [record, tables.class_table(record), counts]


def make_predictions(folder: Path) -> None:
    from simpropnet_jax.episodes.episode_files import episode_name
    from simpropnet_jax.setup.data import evaluation_episodes

    config, source = small_config(), small_shapes(folder / 'drawn')
    _, episodes = evaluation_episodes(config, source)
    (folder / 'masks').mkdir()
    for number, episode in enumerate(episodes[1, 0]):
        name = episode_name('simpropnet', config.fold, 1, 0, number)
        size = int(source.index.width[episode.query]), int(source.index.height[episode.query])
        mask = Image.new('L', size)
        mask.paste(255, (0, 0, size[0] // 2, size[1]))
        mask.save(folder / 'masks' / f'{name}.png')


def read_predictions(folder: Path) -> Any:
    from simpropnet_jax.evaluation.external.predictions import score_predictions
    from simpropnet_jax.setup.data import evaluation_episodes

    config, source = small_config(), open_data('shapes5i', folder / 'drawn')
    protocol, episodes = evaluation_episodes(config, source)
    return score_predictions(folder / 'masks', source, episodes, protocol, config.fold)


def make_episodes(folder: Path) -> None:
    from simpropnet_jax.episodes.episode_files import write_episodes
    from simpropnet_jax.setup.data import evaluation_episodes

    config, source = small_config(), small_shapes(folder / 'drawn')
    protocol, episodes = evaluation_episodes(config, source)
    write_episodes(folder / 'episodes.json', protocol, config.fold, episodes, source.index)


def read_episodes(folder: Path) -> Any:
    from simpropnet_jax.episodes import episode_files

    index = open_data('shapes5i', folder / 'drawn').index
    return episode_files.read_episodes(folder / 'episodes.json', index, small_config().fold)


def make_partitions(folder: Path) -> None:
    from simpropnet_jax.datasets.index import Pairs
    from simpropnet_jax.episodes import hpascal, hpascal_file

    rng = np.random.default_rng(0)
    images = np.arange(12, dtype=np.int32)
    pairs = Pairs(images, np.full(12, 3, np.int32))
    scores, sizes = rng.random(12), rng.random(12)
    distances = rng.random((12, 12))
    parameters = hpascal.Parameters(rule='halves', supports=2, episodes=6, cell=1, partition=2)
    found = hpascal.partitions(pairs, scores, sizes, distances, parameters, 0)
    ids = [f'2007_{i:06}' for i in images]
    fold = hpascal_file.fold_record(pairs, (2, 3), scores, sizes, *found, ids)
    facts = {'data': 'drawn', 'image_list': 'val', 'tiny_rule': 'none'}
    facts |= {'oracle': {'miou': 0.6}, 'features': {'network': 'resnet50'}}
    hpascal_file.write(folder / 'hpascal.json', parameters, {0: fold}, **facts)


def read_partitions(folder: Path) -> Any:
    from simpropnet_jax.episodes import hpascal_file

    record = hpascal_file.read(folder / 'hpascal.json')
    ids = [f'2007_{i:06}' for i in range(12)]
    found = hpascal_file.episodes(record, 0, ids)
    return [record, found, hpascal_file.protocol(record, found, 0, 'ignore')]


def make_report(folder: Path) -> None:
    """A folder of results: a study, an evaluation on whole images, and a premise experiment."""
    from simpropnet_jax.runtime import records
    from simpropnet_jax.sweeps.study import write_study

    score = {'miou': 0.5, 'std': 0.01, 'fb_iou': 0.7}
    once = {'minutes': 1.5, 'miou': {'episodes': score}, 'results': {}}
    row = {'method': 'CANet', 'shot': 1, 'against': None, **once}
    write_study(folder, {'canet': row | {'selection': 'last', 'trainings': [{'seed': 0, **once}]}})
    record = {'method': 'deeplabv3plus', 'data': 'shapes5i', 'list': 'val', 'size': 33}
    record |= {'images': 7, 'miou': 0.5, 'pixel_accuracy': 0.8, 'weak_oracle': True}
    path = folder / 'net' / 'supervised' / 'best.json'
    records.write(path, record | {'per_class': {'cat': 0.5, 'dog': None}})
    premise = {'method': 'CANet', 'folds': [{'fold': 0, 'data': 'shapes5i'}], 'drawn': 9}
    premise |= {'skipped': 0, 'undefined': 0, 'min_pixels': 100, 'features': 'VGG-16'}
    premise |= {'ratio': {'mean': 0.7, 'std': None, 'pairs': 9}}
    records.write(folder / 'alike.json', premise | {'cosine': {'error': 0.5, 'truth': 0.6}})


def read_report(folder: Path) -> Any:
    """What is left out is an error here: the command names each such file."""
    from simpropnet_jax.report import study_table
    from simpropnet_jax.report.gather import gather, premise_table

    found = gather(folder, folder / 'page')
    if found.left_out:
        path, why = found.left_out[0]
        raise ValueError(f'left out: {path}: {why}')
    studies = [study_table.table(one.record) for one in found.studies]
    premises = [premise_table(one.record)(one.record) for one in found.premises]
    return [studies, premises, [one.record for one in found.supervised]]


def make_outputs(folder: Path) -> None:
    """What `segment` writes, for two pictures."""
    from simpropnet_jax.inference.queries import Query

    make_pictures(folder)
    results = read_books(folder)
    results.begin()
    for name in ('0', '1'):
        path = next(folder.glob(f'{name}.*'))
        (folder / 'out' / f'{name}_mask.png').write_bytes(b'')
        results.add(Query(path, Path(path.name)), name, (30, 40), [{'category_id': 1}])


def read_books(folder: Path):
    from simpropnet_jax.inference.results import MADE_BY, Results

    run = {name: 1 for name in MADE_BY} | {'write': ['mask'], 'supports': [[None, 'abc']]}
    return Results(folder / 'out', run)


def read_outputs(folder: Path) -> list:
    results = read_books(folder)
    return [(str(path), name) for path, name in results.names.items()]


def make_export(folder: Path) -> None:
    from simpropnet_jax.export import write

    make_run(folder / 'run')
    write.write(folder / 'run', folder / 'exported')


def read_export(folder: Path) -> dict:
    from simpropnet_jax.export import load

    return load(folder / 'exported').manifest


def make_published(folder: Path) -> None:
    from simpropnet_jax.export.publish import publish

    make_run(folder / 'run')
    publish(folder / 'run', folder / 'published')


def read_published(folder: Path) -> list:
    from simpropnet_jax.config.rules import stored_config
    from simpropnet_jax.published import header, model_file

    place = folder / 'published'
    model = model_file.read(place / header.NAME)
    texts = [header.read_config(place / header.NAME), header.read_card(place / header.NAME)]
    arrays = model_file.flat(model.params)
    return [model.about, arrays, texts, stored_config(place).to_dict()]


def make_weights(folder: Path) -> None:
    """A ResNet-50 in the files of torchvision and Keras, with few filters."""
    import h5py
    from safetensors.numpy import save_file

    from simpropnet_jax.backbones import weights
    from simpropnet_jax.backbones.resnet import parameter_shapes

    rng = np.random.default_rng(0)
    for layout in (weights.TORCHVISION, weights._KERAS):
        entries = {}
        shapes = parameter_shapes(stride_on='3x3', width=WIDTH, depths=weights.DEPTHS_50[:3])
        for place, kernel in _kernels(shapes):
            conv, norm = layout.names(place)
            stored = tuple(kernel[layout.axes.index(axis)] for axis in range(4))
            entries[f'{conv}{layout.join}{layout.kernel}'] = rng.normal(size=stored)
            arrays = [(norm, one) for one in layout.norm]
            for layer, one in [*arrays, *([(conv, layout.bias)] if layout.bias else [])]:
                entries[f'{layer}{layout.join}{one}'] = rng.uniform(0.5, 1, kernel[-1:])
        entries = {name: value.astype(np.float32) for name, value in entries.items()}
        if layout is weights.TORCHVISION:
            save_file(entries, folder / 'resnet50.safetensors')
            _save_pth(entries, folder / 'resnet50.pth')
        else:
            with h5py.File(folder / 'resnet50.h5', 'w') as file:
                for name, value in entries.items():
                    file[f'model_weights/{name}:0'] = value


def _kernels(shapes):
    from flax import traverse_util

    for name, shape in traverse_util.flatten_dict(shapes, sep='/').items():
        if name.endswith('/kernel'):
            yield name.removesuffix('/kernel'), shape


def _save_pth(entries, path: Path) -> None:
    if importlib.util.find_spec('torch'):
        import torch

        torch.save({name: torch.from_numpy(value) for name, value in entries.items()}, path)


def read_weights(folder: Path) -> list:
    from simpropnet_jax.backbones.weights import load_backbone

    endings = [one for one in OF_OTHERS if one != '.pth' or importlib.util.find_spec('torch')]
    loaded = [load_backbone(folder / f'resnet50{ending}', WIDTH) for ending in endings]
    return [[one.params, one.convention] for one in loaded]


def _fewer(result: list, whole: list) -> bool:
    """Whether nothing is new: a picture that is not known to be finished is segmented again."""
    return set(result) <= set(whole)


KINDS = {
    'pictures': Kind(make_pictures, read_pictures, without_checksum=OF_THE_USER),
    'masks': Kind(make_masks, read_masks, without_checksum=OF_THE_USER),
    'annotations': Kind(make_annotations, read_annotations, without_checksum=OF_THE_USER),
    'own images and masks': Kind(make_own, read_own, ('**/*',), OF_THE_USER, True),
    'VOC and SBD': Kind(make_voc, read_voc, without_checksum=OF_THE_USER),
    'prepared PASCAL-5i': Kind(make_tfds, read_source('pascal5i/subset'), ('data/**/*',)),
    'prepared folder': Kind(make_folder, read_source('folder'), ('data/**/*',)),
    'drawn data': Kind(make_shapes, read_source('shapes5i'), ('data/**/*',)),
    'packed data': Kind(make_packed, read_source('shapes5i'), ('data/*',)),
    'config': Kind(make_run, read_config, ('config.json',)),
    'metrics': Kind(make_run, read_metrics, ('metrics.jsonl',)),
    'checkpoints': Kind(make_run, read_checkpoint, ('checkpoints/**/*',)),
    'results': Kind(make_results, read_results, ('eval/*',)),
    'predictions': Kind(make_predictions, read_predictions, ('masks/*',), OF_THE_USER),
    'episodes': Kind(make_episodes, read_episodes, ('episodes.json',)),
    'H-PASCAL-5i': Kind(make_partitions, read_partitions),
    'report': Kind(make_report, read_report, optional=True),
    'outputs of segment': Kind(make_outputs, read_outputs, ('out/*.json*',), same=_fewer),
    'exported folder': Kind(make_export, read_export, ('exported/*',)),
    'published model': Kind(
        make_published, read_published, ('published/model.safetensors', 'published/config.json')
    ),
    'weights': Kind(make_weights, read_weights, without_checksum=OF_OTHERS),
}
