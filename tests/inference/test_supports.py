"""What --support may be, and COCO's files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.inference import supports
from simpropnet_jax.inference.annotations import Annotations
from simpropnet_jax.io import run_lengths

OBJECT, CROWD = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
OBJECT[5:12, 8:20], CROWD[10:18, 15:30] = True, True
SIZE = {'height': 20, 'width': 30}
RECTANGLE = [[8, 5, 20, 5, 20, 12, 8, 12]]  # OBJECT's corners


def compressed(mask):
    return run_lengths.encode(mask)['segmentation']


def counted(mask):
    """Runs as numbers, background first, down the columns."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return {'size': list(mask.shape), 'counts': np.diff([0, *edges, flat.size]).tolist()}


def write(path, segmentation, file_name='a.jpg', **changes):
    content = {
        'images': [
            {'id': 7, 'file_name': file_name, **SIZE},
            {'id': 8, 'file_name': 'other.jpg', **SIZE},
        ],
        'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'car'}],
        'annotations': [
            {'id': 1, 'image_id': 7, 'category_id': 1, 'segmentation': segmentation, 'iscrowd': 0},
            {
                'id': 2,
                'image_id': 7,
                'category_id': 2,
                'segmentation': compressed(CROWD),
                'iscrowd': 1,
            },
            {'id': 3, 'image_id': 8, 'category_id': 1, 'segmentation': RECTANGLE},
        ],
    }
    path.write_text(json.dumps(content | changes))
    return Annotations(path)


@pytest.mark.parametrize('segmentation', [RECTANGLE, counted(OBJECT), compressed(OBJECT)], ids=str)
def test_polygons_and_both_kinds_of_runs_are_the_same_mask(segmentation, tmp_path):
    file = write(tmp_path / 'coco.json', segmentation)
    np.testing.assert_array_equal(file.label(Path('photos/a.jpg'), 'cat', (20, 30)), OBJECT)
    both = np.where(OBJECT, 1, np.where(CROWD, 255, 0))  # a crowd is void, and below objects
    np.testing.assert_array_equal(file.label(Path('a.jpg'), None, (20, 30)), both)


def test_two_images_of_one_name_are_told_apart_by_their_folders(tmp_path):
    same = [
        {'id': i, 'file_name': f'{folder}/a.jpg', **SIZE}
        for i, folder in ((7, 'north'), (8, 'south'))
    ]
    file = write(tmp_path / 'coco.json', RECTANGLE, images=same)
    assert file.label(tmp_path / 'south' / 'a.jpg', 'cat', (20, 30)).sum() == OBJECT.sum()
    with pytest.raises(
        ValueError, match='coco.json has 2 images called a.jpg: just one file_name must fit a.jpg'
    ):
        file.label(Path('a.jpg'), 'cat', (20, 30))


@pytest.mark.parametrize(
    'segmentation,sentence',
    [
        (
            [[0, 0, 5, 5, 5, 0, 0]],
            'coco.json: annotation 1 of a.jpg has a segmentation that cannot be decoded',
        ),
        ([], 'coco.json has no object for a.jpg .what is there: 1 x annotation without a mask'),
        ([[0, 0, 5, 5]], 'no object for a.jpg .what is there: 1 x polygon of fewer than three'),
        ({'size': [20, 30], 'counts': [600]}, 'no object .* 1 x empty annotation .not used.'),
    ],
)
def test_a_damaged_annotation_is_refused(segmentation, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        write(tmp_path / 'coco.json', segmentation).label(Path('a.jpg'), 'cat', (20, 30))


def test_what_does_not_fit_is_refused(tmp_path):
    path = tmp_path / 'coco.json'
    file = write(path, RECTANGLE)
    for arguments, sentence in (
        ((Path('b.jpg'), 'cat', (20, 30)), 'coco.json has no image called b.jpg'),
        (
            (Path('a.jpg'), 'dog', (20, 30)),
            "no annotation of 'dog' for a.jpg .those it has: car, cat",
        ),
        (
            (Path('a.jpg'), 'cat', (30, 20)),
            'does not fit a.jpg: it is annotated as 30 x 20 pixels, but it is 20 x 30',
        ),
    ):
        with pytest.raises(ValueError, match=sentence):
            file.label(*arguments)


def test_a_crowd_is_void_or_an_object_and_the_log_says_so(tmp_path, caplog):
    file = write(tmp_path / 'coco.json', RECTANGLE)
    with pytest.raises(ValueError, match='1 x crowd .iscrowd 1., read as void: --crowds object'):
        file.label(Path('a.jpg'), 'car', (20, 30))
    assert file.label(Path('a.jpg'), 'car', (20, 30), 'object').sum() == CROWD.sum()
    assert 'a.jpg: 1 x crowd (iscrowd 1), read as an object' in caplog.text
    file.label(Path('a.jpg'), None, (20, 30))
    assert 'a.jpg: 1 x crowd (iscrowd 1), read as void: --crowds object' in caplog.text


def test_the_values_of_support():
    two = supports.parse(
        [('car', 'a.jpg', 'a.png'), ('cat', 'b.jpg', 'b.png'), ('car', 'c.jpg', 'c.png')]
    )
    assert supports.categories(two) == ['car', 'cat']  # in the order named
    for given, sentence in (
        ([], 'there is no support'),
        ([('a', 'b', 'c', 'd')], 'takes IMAGE MASK, or CLASS IMAGE MASK, got 4 values: a b c d'),
        (
            [('a.jpg', 'a.png'), ('cat', 'b.jpg', 'b.png')],
            'a.jpg a.png has no class, but others have: name',
        ),
        ([(' ', 'b.jpg', 'b.png')], 'a class of --support has no name'),
        ([(str(i), 'b.jpg', 'b.png') for i in range(255)], 'there are 255 classes, more than 254'),
    ):
        with pytest.raises(ValueError, match=sentence):
            supports.parse(given)


def test_two_entries_of_one_name_are_one_image(tmp_path):
    same = [{'id': i, 'file_name': 'a.jpg', **SIZE} for i in (7, 8)]
    file = write(tmp_path / 'coco.json', compressed(CROWD), images=same)
    np.testing.assert_array_equal(file.label(Path('a.jpg'), 'cat', (20, 30)), OBJECT | CROWD)


def test_supports_of_a_coco_file_are_as_those_of_pictures(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(
        tmp_path / 'a.jpg'
    )
    Image.fromarray(OBJECT).save(tmp_path / 'a.png')
    write(tmp_path / 'coco.json', RECTANGLE)
    given = [('cat', tmp_path / 'a.jpg', tmp_path / mask) for mask in ('a.png', 'coco.json')]
    one, other = (supports.read_all(supports.parse([pair]), 17)['cat'] for pair in given)
    assert supports.fingerprint(one) == supports.fingerprint(other) and one[0][1].shape == (17, 17)
