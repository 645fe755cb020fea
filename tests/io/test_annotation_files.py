"""Names of pictures as tools write them, and labelme's own JSON with mistakes in it."""

import copy
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from simpropnet_jax.io import annotation_files, coco
from simpropnet_jax.io.file_names import FileNames, parts
from tests.io.test_coco import at, mistyped, places

LABELME = Path(__file__).parent / 'exports' / 'labelme' / 'cat one.json'
UMLAUT = unicodedata.normalize('NFC', 'dög.jpg')


@pytest.mark.parametrize(
    'name, picture, how',
    [
        ('a.jpg', 'photos/a.jpg', 'by its whole name'),
        ('pets/a.jpg', 'photos/pets/a.jpg', 'by its whole name'),
        (r'pets\a.jpg', 'photos/pets/a.jpg', 'by its whole name'),
        (r'C:\me\pets\a.jpg', 'photos/pets/a.jpg', 'by the end of its name'),
        ('/home/me/pets/a.jpg', 'photos/a.jpg', 'by the last part of its name'),
        ('../../etc/a.jpg', 'photos/a.jpg', 'by the last part of its name'),
        ('s3://bucket/my#1.jpg', 'my#1.jpg', 'by the last part of its name'),
        ('https://host/x/a%20b.jpg?X-Amz-Signature=0f#p', 'a b.jpg', '.* percent signs decoded'),
        ('/data/upload/4/cb0618f6-my%20photo.jpg', 'my photo.jpg', ".* Label Studio's prefix"),
        ('images/8db1e807__a.jpg', 'a.jpg', ".* Label Studio's prefix"),
        ('a.jpg', 'cb0618f6-a.jpg', ".* Label Studio's prefix"),
        ('/data/local-files/?d=photos%2Fpets/a.jpg', 'photos/pets/a.jpg', 'by its whole name'),
        (UMLAUT, unicodedata.normalize('NFD', UMLAUT), '.* another Unicode form'),
        ('100%.jpg', '100%.jpg', 'by its whole name'),
        ('IMG_1.JPG', 'IMG_1.jpg', '.* but for upper and lower case'),
        ('a.jpg', 'aa.jpg', None),
        ('//', 'a.jpg', None),
        ('[a', 'a', None),
    ],
)
def test_a_picture_is_found_by_the_name_that_a_tool_wrote(name, picture, how, tmp_path):
    index = FileNames({1: name, 2: 'other.jpg'}, {1: tmp_path, 2: tmp_path})
    found = index.find(Path('/elsewhere') / picture)
    if how is None:
        assert not found
    else:
        (match,) = found
        assert match.key == 1
        assert match.how == how or match.how.endswith(how.removeprefix('.* '))


def test_the_name_that_shares_most_folders_is_meant_and_equal_ones_are_all_returned():
    folder = Path('/e/train')
    names = {'north': 'north/a.jpg', 'south': 'south/a.jpg', 'bare': 'a.jpg', 'b1': 'x/b.jpg'}
    index = FileNames(names | {'b2': 'y/b.jpg'}, dict.fromkeys([*names, 'b2'], folder))
    assert [match.key for match in index.find('/p/south/a.jpg')] == ['south']
    assert [match.key for match in index.find('/e/train/a.jpg')] == ['bare']
    assert {match.key for match in index.find('/p/b.jpg')} == {'b1', 'b2'}
    assert parts('gs://bucket/a/../b.jpg') == ('bucket', 'a', 'b.jpg')


def test_any_value_of_a_wrong_type_in_labelmes_json_ends_in_one_sentence_or_in_a_mask(tmp_path):
    content = json.loads(LABELME.read_text()) | {'imageData': None}
    content['shapes'] = [content['shapes'][0], content['shapes'][3]]
    path, tried = tmp_path / 'a.json', 0
    for place in places(content):
        for wrong in mistyped(at(content, place)):
            changed = copy.deepcopy(content)
            at(changed, place[:-1])[place[-1]] = wrong
            path.write_text(json.dumps(changed))
            tried += 1
            try:
                annotated = annotation_files.read(path)
                for one in annotated.annotations:
                    if coco.outline(one)[0] is not None:
                        picture = coco.sized(annotated.images[0], (48, 64))
                        assert coco.mask(one, picture).shape == (48, 64)
            except ValueError as error:
                sentence = str(error)
                starts = str(path), 'annotation ', 'it is annotated as '
                assert '\n' not in sentence and sentence.startswith(starts), sentence
    assert tried > 300


def test_labelmes_shapes_are_drawn(tmp_path):
    annotated = annotation_files.read(LABELME)
    masks = [
        coco.mask(one, annotated.images[0]) if coco.outline(one)[0] else None
        for one in annotated.annotations
    ]
    areas = [mask if mask is None else int(mask.sum()) for mask in masks]
    assert areas[:2] == [22 * 30, 10 * 10] and abs(areas[2] - np.pi * 36) < 4
    assert areas[3:] == [30 * 30 - 10 * 10, None]
    ignored = json.loads(LABELME.read_text())
    ignored['shapes'][0]['label'] = '__ignore__'
    (tmp_path / 'a.json').write_text(json.dumps(ignored))
    assert annotation_files.read(tmp_path / 'a.json').annotations[0].crowd
