"""Exports of annotation tools, unchanged: read alike by the folder command and as masks of supports, or refused.

`tests/io/exports/README.md` says how they were made.
"""

import json
import re
import shutil
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets.folder import annotated
from simpropnet_jax.datasets.folder.draw import draw
from simpropnet_jax.datasets.folder.findings import Findings
from simpropnet_jax.datasets.folder.inputs import class_names
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.inference import read_support
from tests.fakes import decoded

EXPORTS = Path(__file__).parent.parent / 'io' / 'exports'
HEIGHT, WIDTH = 48, 64
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
CAT, CUP = (np.zeros((HEIGHT, WIDTH), bool) for _ in range(2))
CAT[8:30, 10:40] = True
CUP[10:40, 30:60], CUP[20:30, 40:50] = True, False
FILLED = CUP | np.pad(np.ones((10, 10), bool), ((20, 18), (40, 14)))


class Export(NamedTuple):
    """A file of annotations, where its picture lies, and the masks in it; each may be smaller by a rim of one pixel."""

    file: str
    picture: str
    masks: dict[str, np.ndarray]
    said: tuple[str, ...] = ('found by its whole name',)
    crowds: str = 'void'


BOX = 'without a mask, but perhaps with a box (not used)'
ACCEPTED = {
    'CVAT': Export(
        'cvat/annotations/instances_default.json',
        'images/default/street/a.png',
        {'cat': CAT},
        ('crowd (iscrowd 1), read as void: --crowds object', BOX),
    ),
    'CVAT, brush': Export(
        'cvat/annotations/instances_default.json',
        'images/street/a.png',
        {'cat': CAT, 'cup': CUP},
        ('crowd (iscrowd 1), read as an object',),
        'object',
    ),
    'Datumaro': Export(
        'datumaro/coco/annotations/instances_train.json',
        'images/train/pets/a b.png',
        {'cat': CAT, 'cup': CUP},
        crowds='object',
    ),
    'supervision': Export('supervision/a.json', 'a b.png', {'cat': CAT}),
    'supervision, a hole': Export(
        'supervision/a.json', 'images/a b.png', {'cat': CAT, 'cup': CUP}, crowds='object'
    ),
    'Label Studio, upload': Export(
        'label_studio/coco/result.json',
        'images/cb0618f6-my photo.png',
        {'cat': CAT},
        ('by the last part of its name, percent signs decoded', BOX),
    ),
    'Label Studio, own picture': Export(
        'label_studio/coco/result.json',
        'my photo.png',
        {'cat': CAT},
        ("without Label Studio's prefix",),
    ),
    'Label Studio, local': Export(
        'label_studio/coco/result.json', 'photos/sub/street.png', {'cat': CAT}
    ),
    'Label Studio, cloud': Export(
        'label_studio/coco/result.json', 'sky.png', {'cat': CAT}, ('by the last part of its name',)
    ),
    'Label Studio, brush': Export(
        'label_studio/brush_to_coco/result_coco.json',
        'cb0618f6-my photo.png',
        {'cat': CAT, 'cup': FILLED},
        (BOX,),
    ),
    'labelme': Export('labelme/cat one.json', 'cat one.png', {'cat': CAT, 'cup': CUP}, (BOX,)),
    'Roboflow': Export(
        'roboflow/valid/_annotations.coco.json',
        'valid/cat0_png.rf.11111111222222223333333344444440.png',
        {'cat': CAT},
    ),
}
REFUSED = {
    'label_studio/tasks.json': "is Label Studio's own JSON: export as COCO",
    'datumaro/own/annotations/train.json': "is Datumaro's own JSON: export as coco_instances",
    'cvat/annotations.xml': "is XML, as CVAT's own format, which is not read: export it as COCO",
    'supervision/yolo/a b.txt': "looks like YOLO's labels, which is not read: convert them to COCO",
    'panoptic.json': "is COCO's panoptic JSON: export instances",
    'results.json': "is a list of COCO's results: give the JSON with images",
    'via.json': "is VIA's own project: export as COCO",
    'export.zip': 'is an archive, which is not read: unpack it',
}
OTHERS = {
    'panoptic.json': {'images': [], 'categories': [], 'annotations': [{'segments_info': []}]},
    'results.json': [{'image_id': 1, 'category_id': 1, 'segmentation': []}],
    'via.json': {'_via_settings': {}, '_via_img_metadata': {}},
    'export.zip': 'PK',
}


def is_nearly(found, expected):
    """Whether a mask is the expected one, or lacks a rim of one pixel at its right and bottom, as cv2's contours do."""
    inner = expected & np.roll(expected, -1, 0) & np.roll(expected, -1, 1)
    return not (found & ~expected).any() and not (inner & ~found).any()


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(NOISE).save(path)
    return path


@pytest.mark.parametrize('name', ACCEPTED)
def test_an_export_is_read_by_the_folder_command_and_as_masks_of_supports(name, tmp_path, caplog):
    export = ACCEPTED[name]
    file = tmp_path / export.file
    file.parent.mkdir(parents=True)
    shutil.copy(EXPORTS / export.file, file)
    picture = save(tmp_path / export.picture)
    findings = Findings()
    (entry,) = annotated.find(tmp_path, [file], findings, export.crowds)
    names = class_names([entry], findings)
    drawn, more = draw(entry, names, 0)
    findings.add(more)
    assert not findings.mistakes
    for phrase in export.said:
        assert phrase in str(findings)
    for class_name, expected in export.masks.items():
        others = [mask for other, mask in export.masks.items() if other != class_name]
        hidden = np.any(others, axis=0) if others else np.zeros_like(expected)
        found = drawn.label == names.index(class_name)
        assert is_nearly(found | (expected & hidden), expected)
        with caplog.at_level('INFO', 'simpropnet_jax'):
            _, label = read_support(picture, f'{file}#{class_name}', crowds=export.crowds)
        assert is_nearly(label == 1, expected)
    assert f'{picture.name}: ' in caplog.text and f' of cat in {file.name}, found' in caplog.text


@pytest.mark.parametrize('name', REFUSED)
def test_another_format_is_refused_with_the_way_out(name, tmp_path):
    file = EXPORTS / name
    if name in OTHERS:
        file = tmp_path / name
        file.write_text(OTHERS[name] if isinstance(OTHERS[name], str) else json.dumps(OTHERS[name]))
    picture = save(tmp_path / 'images' / 'a.png')
    for read in (
        lambda: annotated.find(tmp_path, [file], Findings()),
        lambda: read_support(picture, file),
    ):
        with pytest.raises(ValueError, match=re.escape(f'{file.name} {REFUSED[name]}')) as error:
            read()
        assert '\n' not in str(error.value)


def test_the_three_splits_of_roboflow_make_the_lists(tmp_path, capsys):
    shutil.copytree(EXPORTS / 'roboflow', tmp_path / 'cats')
    for file in (tmp_path / 'cats').glob('*/*.json'):
        for image in json.loads(file.read_text())['images']:
            save(file.parent / image['file_name'])
    (tmp_path / 'cats' / 'folds.json').write_text('[["cat"]]')
    (tmp_path / 'cats' / 'notes.json').write_text('[1]')
    words = [str(tmp_path / 'cats'), '--coco', str(tmp_path / 'cats'), '--out', str(tmp_path / 'p')]
    simpropnet(['prepare', 'folder', *words])
    said = capsys.readouterr().out
    assert '6 x image found by its whole name' in said and 'train: 2 images\n' in said
    assert '1 x JSON that has no annotations (not used)' in said and 'folds.json' not in said
    source = open_source('folder', tmp_path / 'p')
    assert source.class_names == ('background', 'cat')  # not "cats", which is no class
    val = [name for name, one in zip(source.ids, source.index.lists['val'], strict=True) if one]
    assert {name.split('__')[0] for name in val} == {'valid', 'test'} and len(val) == 4
    np.testing.assert_array_equal(decoded(source.example(0)[1]), CAT)


def write(path, names, **annotation):
    """A file in which each picture has one polygon; returns it."""
    images = [
        {'id': i, 'file_name': name, 'height': HEIGHT, 'width': WIDTH}
        for i, name in enumerate(names)
    ]
    row = {'category_id': 1, 'segmentation': [[10, 8, 40, 8, 40, 30, 10, 30]]} | annotation
    rows = [{'id': i, 'image_id': i} | row for i in range(len(names))]
    content = {'images': images, 'categories': [{'id': 1, 'name': 'cat'}], 'annotations': rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_several_files_add_up_and_what_fits_twice_is_a_mistake(tmp_path):
    for name in ('north/1.png', 'south/1.png', '2.png'):
        save(tmp_path / 'images' / name)

    def found(*files):
        findings = Findings()
        entries = annotated.find(tmp_path, files, findings)
        return {entry.id: len(entry.masks) for entry in entries}, findings

    one = write(tmp_path / 'one.json', ['south/1.png', '2.png'])
    two = write(tmp_path / 'two.json', ['north/1.png', '2.png'])
    assert found(one, two)[0] == {'north__1': 1, 'south__1': 1, '2': 2}
    _, findings = found(write(tmp_path / 'three.json', ['1.png']))
    assert 'name in the JSON that several images fit\n      1.png: north/1.png, south/1.png' in str(
        findings
    )
    _, findings = found(write(tmp_path / 'four.json', ['a/2.png', 'b/2.png']))
    assert 'image that several names in the JSON fit\n      2.png: a/2.png, b/2.png' in str(
        findings
    )


def test_folders_that_cannot_be_used_say_why(tmp_path, refused, capsys):
    save(tmp_path / 'images' / 'a.png')
    file = write(tmp_path / 'crowds.json', ['a.png'], iscrowd=1)
    with refused('.* has mistakes'):
        simpropnet(['prepare', 'folder', str(tmp_path), '--coco', str(file)])
    with refused(r'.* has no folder masks/.* or give --coco FILE \(perhaps .*crowds.json\)'):
        simpropnet(['prepare', 'folder', str(tmp_path)])
    with refused('--classes is for index masks: leave it out with --coco'):
        simpropnet(['prepare', 'folder', str(tmp_path), '--coco', str(file), '--classes', 'cat'])
    findings = Findings()
    assert annotated.find(tmp_path, [file], findings, 'object')[0].classes == {'cat'}


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_annotations_of_one_picture_need_little_memory(tmp_path):
    """Each mask at full size would take 0.5 MB; 20 of them are one."""
    size = 500
    Image.new('RGB', (2 * size, size)).save(tmp_path / 'a.png')
    row = {'image_id': 0, 'category_id': 1, 'segmentation': [[0, 0, 9, 0, 9, 9, 0, 9]]}
    content = {
        'images': [{'id': 0, 'file_name': 'a.png', 'height': size, 'width': 2 * size}],
        'categories': [{'id': 1, 'name': 'cat'}],
        'annotations': [row | {'id': i} for i in range(20)],
    }
    (tmp_path / 'a.json').write_text(json.dumps(content))
    (entry,) = annotated.find(tmp_path, [tmp_path / 'a.json'], Findings())
    mask = 2 * size * size
    peaks = [
        peak_of(lambda masks=masks: draw(entry._replace(masks=masks), ('background', 'cat'), 64))
        for masks in (entry.masks[:3], entry.masks)
    ]
    assert peaks[1] < peaks[0] + mask


def test_a_size_in_the_json_that_is_not_the_pictures_is_named_before_anything_is_drawn(tmp_path):
    save(tmp_path / 'a.png')
    file = write(tmp_path / 'a.json', ['a.png'])
    content = json.loads(file.read_text())
    content['images'][0] |= {'height': 1_000_000, 'width': 1_000_000}
    file.write_text(json.dumps(content))
    (entry,) = annotated.find(tmp_path, [file], Findings())
    _, findings = draw(entry, ('background', 'cat'), 0)
    (example,) = findings.mistakes['mask of another size than its image']
    assert 'annotation 0 of a.png is 1000000 x 1000000, a.png 64 x 48' == example
