"""Writes a tiny COCO 2014 and a tiny FSS-1000 in the real formats, and says what a right reading gives."""

import io
import json
import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as library

from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES, EVERY_FOURTH

GAPS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CATEGORIES = [number for number in range(1, 91) if number not in GAPS]  # COCO's ids of the 80
TRAINED = (2, 3, 4, 6, 7, 8, 10, 11)  # classes that fold 0 does not hold out
SIZE = (100, 120)
LEFT, RIGHT, SMALL = (2, 5, 55, 80), (60, 5, 115, 80), (60, 85, 79, 95)  # x, y of two corners
COLOURS = np.random.default_rng(5).integers(0, 256, (81, 3))


@dataclass
class Coco:
    """Where things were written, and the labels that a right reading gives, by list and id."""

    root: Path
    labels: dict[str, dict[str, np.ndarray]]

    def annotations(self, part, change):
        """Change the JSON of a part by a function."""
        path = self.root / 'annotations' / f'instances_{part}.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def write_coco(root):
    """Images of two objects each; in train2014 also crowds, overlaps, and images that do not count."""
    labels = {
        'trainaug': _write_part(root, 'train2014', TRAINED),
        'val': _write_part(root, 'val2014', EVERY_FOURTH[0]),
    }
    return Coco(root, labels)


def zip_all(root, to):
    """The same files as the official archives have them."""
    to.mkdir()
    for part in ('train2014', 'val2014'):
        with zipfile.ZipFile(to / f'{part}.zip', 'w') as archive:
            for path in (root / part).iterdir():
                archive.write(path, f'{part}/{path.name}')
    with zipfile.ZipFile(to / 'annotations_trainval2014.zip', 'w') as archive:
        for path in (root / 'annotations').iterdir():
            archive.write(path, f'annotations/{path.name}')


def write_lists(index, root):
    """HSNet's lists, of an index by the rule of 2,048 pixels."""
    for split, name in (('trn', 'trainaug'), ('val', 'val')):
        for fold, held_out in enumerate(EVERY_FOURTH):
            shown = (index.pixels >= 2048) & index.lists[name][:, None]
            part = {'trn': 'train2014', 'val': 'val2014'}[split]
            listed = {
                c - 1: [f'{part}/{index.ids[i]}.jpg' for i in np.flatnonzero(shown[:, c])]
                if (c in held_out) == (split == 'val')
                else []
                for c in range(1, 81)
            }
            path = root / split / f'fold{fold}.pkl'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(listed))


def write_fss(root, classes=('comb', 'taxi', 'yo-yo', 'abacus', 'pear', 'ufo'), images=4):
    """Two classes on each list of HSNet's; returns the labels (0, 1) by image id."""
    labels = {}
    (root / 'lists').mkdir(parents=True)
    for place, name in enumerate(('trn', 'val', 'test')):
        listed = classes[2 * place : 2 * place + 2]
        (root / 'lists' / f'{name}.txt').write_text('\n'.join(listed) + '\n')
        for class_number, class_name in enumerate(listed, 2 * place):
            for number in range(1, images + 1):
                label = np.zeros((64, 64), np.uint8)
                label[8 : 40 + number, 10:50] = 1
                folder = root / 'fewshot_data' / class_name
                folder.mkdir(parents=True, exist_ok=True)
                picture = np.where(label[..., None] > 0, COLOURS[class_number], 128)
                Image.fromarray(picture.astype(np.uint8)).save(folder / f'{number}.jpg')
                Image.fromarray(255 * label).convert('RGB').save(folder / f'{number}.png')
                labels[f'{class_name}-{number:02d}'] = label
    return labels


def _write_part(root, part, classes):
    content = {
        'images': [],
        'annotations': [],
        'categories': [
            {'id': number, 'name': name}
            for number, name in zip(CATEGORIES, CLASS_NAMES[1:], strict=True)
        ],
    }
    labels = {}
    for i in range(len(classes)):
        pair = classes[i], classes[(i + 1) % len(classes)]
        label = np.zeros(SIZE, np.uint8)
        for corners, class_id in zip((LEFT, RIGHT), pair, strict=True):
            _fill(label, corners, class_id)
            _annotate(content, i, class_id, _polygon(corners))
        if part == 'val2014' and i == 1:  # the right object as compressed runs
            content['annotations'][-1]['segmentation'] = _runs(label == pair[1], compressed=True)
        if part == 'train2014' and i == 0:  # a small object on top, and a crowd below all
            _fill(label, SMALL, pair[0])
            _annotate(content, i, pair[0], _polygon(SMALL))
            crowd = np.zeros(SIZE, bool)
            crowd[60:95, :110] = True
            content['annotations'].insert(
                0, {'id': 7, 'image_id': i, 'category_id': 1, 'iscrowd': 1, 'area': 1}
            )
            content['annotations'][0]['segmentation'] = _runs(crowd)
            label[crowd & (label == 0)] = 255
        if part == 'train2014' and i == 1:  # too small to be listed
            _fill(label, SMALL, 1)
            _annotate(content, i, 1, _polygon(SMALL))
        name = f'COCO_{part}_{i:012d}'
        labels[name] = label
        _add_image(root, content, part, i, label)
    if part == 'train2014':
        _add_image(root, content, part, 900, np.zeros(SIZE, np.uint8))  # nothing annotated
        _add_image(root, content, part, 901, np.zeros(SIZE, np.uint8))  # a crowd alone
        _annotate(content, 901, 1, _runs(np.ones(SIZE, bool)), crowd=1)
    path = root / 'annotations' / f'instances_{part}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return labels


def _add_image(root, content, part, number, label):
    name = f'COCO_{part}_{number:012d}.jpg'
    height, width = label.shape
    content['images'].append({'id': number, 'file_name': name, 'height': height, 'width': width})
    colours = np.vstack([[[128] * 3], COLOURS[1:]])[np.where(label == 255, 0, label)]
    path = root / part / name
    path.parent.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    Image.fromarray(colours.astype(np.uint8)).convert('L' if number == 2 else 'RGB').save(
        file, 'JPEG'
    )
    path.write_bytes(file.getvalue())


def _annotate(content, image, class_id, segmentation, crowd=0):
    content['annotations'].append(
        {
            'id': 100 + len(content['annotations']),
            'image_id': image,
            'category_id': CATEGORIES[class_id - 1],
            'iscrowd': crowd,
            'segmentation': segmentation,
            'area': 1.0,
        }
    )


def _polygon(corners):
    left, top, right, bottom = (x + 0.7 for x in corners)  # cut to whole pixels
    return [[left, top, right, top, right, bottom, left, bottom]]


def _fill(label, corners, class_id):
    left, top, right, bottom = corners
    label[top : bottom + 1, left : right + 1] = class_id  # the outline belongs to it


def _runs(mask, compressed=False):
    if compressed:
        runs = library.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {'size': list(mask.shape), 'counts': runs['counts'].decode()}
    flat = np.concatenate([[0], mask.T.ravel().astype(int), [0]])
    edges = np.flatnonzero(np.diff(flat))
    ends = np.concatenate([[0], edges, [mask.size]])
    return {'size': list(mask.shape), 'counts': np.diff(ends).tolist()}
