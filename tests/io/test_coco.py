"""COCO's annotations: the same object as polygon and as run lengths of both kinds; sentences about broken ones."""

import copy
import json

import numpy as np
import pytest
from pycocotools import mask as runs
from scipy import ndimage

from simpropnet_jax.io import coco, outlines, run_lengths
from simpropnet_jax.io.annotation_files import read

PICTURE = coco.AnnotatedPicture('dogs/a.jpg', height=10, width=20)
SQUARE = np.zeros((10, 20), np.uint8)
SQUARE[2:6, 3:9] = 1
POLYGON = [[3, 2, 9, 2, 9, 6, 3, 6]]


def annotation(segmentation) -> coco.Annotation:
    return coco.Annotation(17, 1, 1, False, segmentation)


def test_polygons_and_run_lengths_give_the_same_mask():
    counts = [32, 4, 6, 4, 6, 4, 6, 4, 6, 4, 6, 4, 114]  # by columns, background first
    packed = runs.encode(np.asfortranarray(SQUARE))['counts'].decode()
    two = [[3, 2, 6, 2, 6, 6, 3, 6], [6, 2, 9, 2, 9, 6, 6, 6]]
    for one in (
        POLYGON,
        two,
        {'size': [10, 20], 'counts': counts},
        {'size': [10, 20], 'counts': packed},
    ):
        np.testing.assert_array_equal(coco.mask(annotation(one), PICTURE), SQUARE)


def test_what_is_no_mask_is_told_apart_from_what_is_damaged():
    flat, short = POLYGON[0], [1, 2, 3, 4]
    for given, drawn, phrases in (
        (None, None, [coco.NO_MASK]),
        ([], None, [coco.NO_MASK]),
        (short, None, [coco.TOO_SHORT]),
        ([[], short], None, [coco.TOO_SHORT]),
        ([short, flat], [flat], [coco.TOO_SHORT]),
        (flat, [flat], [coco.FLAT]),
        (POLYGON, POLYGON, []),
    ):
        assert coco.outline(annotation(given)) == (drawn, phrases)
    np.testing.assert_array_equal(coco.mask(annotation(flat), PICTURE), SQUARE)
    unsized = coco.AnnotatedPicture('a.jpg')
    assert coco.sized(unsized, (10, 20))[1:] == (10, 20)
    with pytest.raises(ValueError, match='annotated as 20 x 10 pixels, but it is 10 x 20'):
        coco.sized(PICTURE, (20, 10))


def test_polygons_are_drawn_alike_in_a_box_and_as_a_whole():
    """Also those that leave the picture, and of fractions of pixels."""
    rng = np.random.default_rng(0)
    for number in range(200):
        corners = rng.normal(30, 5 * (1 + number % 5), (rng.integers(3, 9), 2)).ravel()
        polygons = [corners.tolist(), (corners * 0.5 + 3).tolist()]
        picture = coco.AnnotatedPicture('a.jpg', 50, 70)
        whole = runs.decode(runs.merge(runs.frPyObjects(polygons, 50, 70)))
        np.testing.assert_array_equal(coco.mask(annotation(polygons), picture), whole)


def test_runs_are_those_of_the_library():
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (60, 81)):
        for share in (0, 0.1, 0.9, 1):
            mask = np.repeat(rng.random((height, width)) < share, 9, 0)
            found = run_lengths.encode(mask)
            np.testing.assert_array_equal(runs.decode(found['segmentation']), mask)
            picture = coco.AnnotatedPicture('a.jpg', *mask.shape)
            np.testing.assert_array_equal(
                coco.mask(annotation(found['segmentation']), picture), mask
            )
            assert found['area'] == mask.sum()


@pytest.mark.parametrize('sigma', [0, 1, 4])
def test_polygons_are_drawn_as_the_mask_that_they_are_of(sigma):
    """From noise to round shapes with holes."""
    rng = np.random.default_rng(0)
    values = ndimage.gaussian_filter(rng.normal(size=(60, 81)), sigma)
    mask = values > values.std() * 0.4
    picture = coco.AnnotatedPicture('a.jpg', *mask.shape)
    drawn = coco.mask(annotation(outlines.polygons(mask)), picture)
    np.testing.assert_array_equal(drawn, mask)
    parts = list(outlines.components(mask))
    np.testing.assert_array_equal(np.sum(parts, 0), mask)
    assert outlines.polygons(np.zeros((3, 4), bool)) == []


@pytest.mark.parametrize(
    'segmentation, sentence',
    [
        ([], 'annotation 17 of dogs/a.jpg has no segmentation; a box is not enough'),
        ([[1, 2, 3, 4]], 'annotation 17 of dogs/a.jpg has no segmentation'),
        ([[1, 2, 3, 4, 5, 6, 7]], 'a polygon needs three points or more'),
        ([[0, 0, 1e12, 0, 0, 5]], 'far outside the picture'),
        ([[0, 0, float('nan'), 0, 0, 5]], 'far outside the picture'),
        (
            {'size': [20, 10], 'counts': [200]},
            r'its size is \[20, 10\], the picture has height 10 and width 20',
        ),
        (
            {'size': [10, 20], 'counts': [150, 20]},
            r'its runs are not whole numbers that sum up to 10 \* 20 pixels',
        ),
        ({'size': [10, 20], 'counts': [5, -5, 200]}, 'its runs are not whole numbers'),
        ({'size': [10, 20], 'counts': '5'}, 'its runs are not whole numbers'),
        ({'size': [10, 20], 'counts': 'o' * 100_000}, 'its compressed runs are damaged'),
    ],
)
def test_a_broken_outline_is_named(segmentation, sentence):
    with pytest.raises(ValueError, match=sentence):
        coco.mask(annotation(segmentation), PICTURE)


def test_a_file_is_read_and_held_against_itself(tmp_path):
    path = tmp_path / 'instances.json'
    image = {'id': 1, 'file_name': 'dogs/a.jpg', 'height': 10, 'width': 20}
    row = {'id': 17, 'image_id': 1, 'category_id': 3, 'iscrowd': 1, 'segmentation': POLYGON}
    good = {'images': [image], 'categories': [{'id': 3, 'name': 'dog'}], 'annotations': [row]}
    path.write_text(json.dumps(good))
    assert read(path) == ({1: PICTURE}, {3: 'dog'}, [coco.Annotation(17, 1, 3, True, POLYGON)])

    def refused(content, sentence):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(ValueError, match=sentence):
            read(path)

    refused('{', "cannot be read as COCO's JSON")
    refused([1], "cannot be read as COCO's JSON")
    refused('[' * 100_000, "cannot be read as COCO's JSON")
    refused({'images': [image], 'categories': []}, "lacks 'annotations'")
    refused(good | {'images': {}}, 'images must be a list, got {}')
    for size in (10**12, 0, -1, 1.5, float('inf'), float('nan'), '10', [], True):
        refused(
            good | {'images': [image | {'height': size}]}, r'images\[0\].height must be a whole'
        )
    refused(good | {'images': [image, image]}, '2 entries of image ids, but only 1')
    refused(
        good | {'annotations': [row | {'category_id': 4}]},
        'annotation 17 names the category 4, which',
    )
    with pytest.raises(FileNotFoundError, match='there is no file'):
        read(tmp_path / 'other.json')


def mistyped(value):
    """Values of all other types, and a number that is too large for C."""
    others = [None, True, 10**30, -1, 1.5, float('nan'), 'text', [], [1], [[]], {}, {'a': 1}]
    return [other for other in others if type(other) is not type(value) or other in (10**30, -1)]


@pytest.mark.parametrize('outline', [POLYGON, {'size': [10, 20], 'counts': [200]}])
def test_any_value_of_a_wrong_type_ends_in_one_sentence_or_in_a_mask(tmp_path, outline):
    path = tmp_path / 'instances.json'
    image = {'id': 1, 'file_name': 'dogs/a.jpg', 'height': 10, 'width': 20}
    row = {'id': 17, 'image_id': 1, 'category_id': 3, 'iscrowd': 1, 'segmentation': outline}
    content = {'images': [image], 'categories': [{'id': 3, 'name': 'dog'}], 'annotations': [row]}
    tried = 0
    for place in places(content):
        for wrong in mistyped(at(content, place)):
            changed = copy.deepcopy(content)
            at(changed, place[:-1])[place[-1]] = wrong
            path.write_text(json.dumps(changed))
            tried += 1
            try:
                annotated = read(path)
                for one in annotated.annotations:
                    picture = coco.sized(annotated.images[one.image], (10, 20))
                    assert coco.mask(one, picture).shape == (10, 20)
            except ValueError as error:
                sentence = str(error)
                starts = str(path), 'annotation ', 'it is annotated as '
                assert '\n' not in sentence and sentence.startswith(starts)
    assert tried > 200


def places(value, before=()):
    """Paths of all entries of a JSON value."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*before, key)
            yield from places(item, (*before, key))


def at(value, place):
    for key in place:
        value = value[key]
    return value


def test_a_size_that_does_not_fit_into_memory_is_refused_before_it_is_drawn():
    huge = coco.AnnotatedPicture('a.jpg', 10**6, 10**6)
    for outline in (POLYGON, {'size': [10**6, 10**6], 'counts': [10**12]}):
        with pytest.raises(ValueError, match='1000000 x 1000000 pixels; at most 200 million'):
            coco.mask(annotation(outline), huge)
