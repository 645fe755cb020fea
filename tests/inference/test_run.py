"""A folder of pictures from beginning to end, with a segmenter that needs no network."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from simpropnet_jax.inference import combine, outputs
from simpropnet_jax.inference.presence import ABSENT
from simpropnet_jax.inference.queries import Query
from simpropnet_jax.inference.results import Results
from simpropnet_jax.inference.run import predict, segment_all
from simpropnet_jax.inference.segmenter import Answer, Segmenter
from simpropnet_jax.io import overlay


class Fake(Segmenter):
    """Class i is where channel i of the picture is bright; after `calls` pictures, somebody presses Ctrl+C."""

    def __init__(self, weights='w', calls=10**9):
        self.size, self.step, self.calls, self.seen, self._weights = 8, 1, calls, 0, weights

    def weights_hash(self):
        return self._weights

    def probe(self, supports):
        return None

    def look(self, probes, query):
        if self.seen == self.calls:
            raise KeyboardInterrupt
        self.seen += 1
        small = np.asarray(Image.fromarray(query).resize((5, 4)), np.float32)
        return Answer(np.moveaxis(small, -1, 0)[: len(probes)] / 32 - 4)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """`predict`'s arguments: two classes, 30 pictures in two folders; and run(segmenter, **changes)."""
    rng = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / 'photos' / ('deep' if i % 2 else '') / f'{i:02d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).resize((40 + i, 30)).save(path)
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    Image.fromarray(np.eye(8, dtype=bool)).save(tmp_path / 'mask.png')
    pair = tmp_path / 'a.png', tmp_path / 'mask.png'
    arguments = {
        'checkpoint': 'run',
        'given': [('cat', *pair), ('car', *pair)],
        'query': [f'{tmp_path}/photos/**/*'],
        'out': tmp_path / 'out',
        'write': outputs.KINDS,
    }

    def run(segmenter, **changes):
        monkeypatch.setattr(Segmenter, 'from_checkpoint', lambda path, **how: segmenter)
        return predict(**arguments | changes)

    return arguments, run


def test_everything_that_can_be_written(given, capsys):
    arguments, run = given
    assert run(Fake()) == []
    out, query = arguments['out'], Path(arguments['query'][0]).parent.parent / 'deep' / '01.png'
    said = (
        f'30 of 30 pictures segmented: masks, overlays, predictions.json and sheets are in {out}\n'
    )
    assert capsys.readouterr().out == said
    image = np.asarray(Image.open(query))
    label, scores = combine.winners(Fake().look([0, 0], image).log_odds, image.shape[:2])
    assert set(np.unique(label)) == {0, 1, 2}
    mask = Image.open(out / 'deep' / '01_mask.png')
    np.testing.assert_array_equal(np.asarray(mask), label)
    assert mask.mode == 'P' and mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # VOC's
    assert [one['name'] for one in json.loads((out / 'classes.json').read_text())] == [
        'background',
        'cat',
        'car',
    ]
    assert Image.open(out / 'deep' / '01_overlay.jpg').size == mask.size
    sheets = sorted(path.name for path in out.glob('sheet*'))
    assert sheets == ['sheet_001.jpg', 'sheet_002.jpg']  # 24 and 6
    coco = COCO(out / 'predictions.json')
    (entry,) = [one for one in coco.dataset['images'] if one['file_name'] == 'deep/01.png']
    assert (entry['width'], entry['height']) == mask.size and len(coco.dataset['images']) == 30
    for number, name in enumerate(('cat', 'car'), 1):
        (found,) = coco.loadAnns(coco.getAnnIds(entry['id'], coco.getCatIds([name])))
        np.testing.assert_array_equal(coco.annToMask(found), label == number)
        assert found['area'] == (label == number).sum() and found['score'] == round(
            float(scores[number - 1]), 4
        )


def test_annotations_are_polygons_and_connected_parts_if_asked(given):
    """What COCO's tools draw of them is the mask, with its holes, as 30 times 40 pixels of noise have many."""
    arguments, run = given
    out = arguments['out']
    query = [Path(arguments['query'][0]).parent.parent / '00.png']
    run(Fake(), query=query, write=('mask', 'coco'), polygons=True, components=True)
    label, coco = np.asarray(Image.open(out / '00_mask.png')), COCO(out / 'predictions.json')
    for number in (1, 2):
        rows = coco.loadAnns(coco.getAnnIds(catIds=[number]))
        masks = [coco.annToMask(row) for row in rows]
        assert all(isinstance(row['segmentation'], list) for row in rows)
        assert [row['area'] for row in rows] == [mask.sum() for mask in masks]
        assert len(rows) == ndimage.label(label == number, np.ones((3, 3)))[1]
        np.testing.assert_array_equal(np.sum(masks, 0), label == number)
    with pytest.raises(ValueError, match='out has masks made with another --polygons or --compon'):
        run(Fake(), query=query, write=('mask', 'coco'), polygons=True)
    with pytest.raises(ValueError, match='--polygons and --components are for COCO annotations'):
        run(Fake(), query=query, write=('mask',), polygons=True, overwrite=True)


def test_a_picture_without_the_object_has_an_empty_mask_and_a_reason(given, caplog):
    arguments, run = given

    class Scored(Fake):
        absent_below = 0.3

        def look(self, probes, query):
            log_odds, present = super().look(probes, query).log_odds, [0.25, 0.75]
            log_odds[0] = ABSENT
            return Answer(log_odds, present)

    with caplog.at_level('INFO', 'simpropnet_jax'):
        run(Scored(), query=[f'{arguments["out"].parent}/photos/deep/01.png'], absent_below=0.3)
    assert '01: no cat found (presence 0.250 is below --absent_below 0.3)' in caplog.text
    assert 'no car found' not in caplog.text
    assert set(np.unique(np.asarray(Image.open(arguments['out'] / '01_mask.png')))) == {0, 2}
    (line,) = (arguments['out'] / 'done.jsonl').read_text().splitlines()
    assert json.loads(line)['presence'] == {'cat': 0.25, 'car': 0.75}
    for changed in ({'size': 417}, {'fit': 'pad'}, {'tiles': 2}):
        with pytest.raises(ValueError, match=f'masks made with another --{[*changed][0]}'):
            other = Scored()
            vars(other).update(changed)
            run(other, **changed)


def test_supports_in_the_folder_of_the_queries_are_named_and_segmented(given, caplog):
    arguments, run = given
    folder = arguments['out'].parent
    with caplog.at_level('INFO', 'simpropnet_jax'):
        run(Fake(), query=[str(folder)])
    assert (
        'supports among the queries are segmented like the others: a.png, mask.png' in caplog.text
    )
    assert (arguments['out'] / 'a_mask.png').exists()


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(given):
    arguments, run = given
    out = arguments['out']
    run(Fake(), out=out.parent / 'whole')
    with pytest.raises(KeyboardInterrupt):
        run(Fake(calls=11))
    with (out / 'done.jsonl').open('a') as file:
        file.write('{"path": "/half a li')
    (out / '00_mask.png').unlink()
    changed = Path(arguments['query'][0]).parent.parent / '02.png'
    changed.write_bytes((changed.parent / '04.png').read_bytes())
    second = Fake()
    assert run(second) == [] and second.seen == 30 - 11 + 2
    again = Fake()
    assert run(again) == [] and again.seen == 0
    changed_too = Image.open(out / '02_mask.png').size == Image.open(out / '04_mask.png').size
    assert changed_too and not [path for path in out.rglob('*') if 'unfinished' in path.name]
    run(again, out=out.parent / 'whole')
    assert (out / 'predictions.json').read_bytes() == (
        out.parent / 'whole' / 'predictions.json'
    ).read_bytes()


def test_other_queries_in_the_same_folder_join_those_of_the_first_run(given, caplog):
    arguments, run = given
    first = Path(arguments['query'][0]).parent.parent / '00.png'
    second = first.parent / 'deep' / first.name
    second.write_bytes(first.read_bytes())
    run(Fake(), query=[first])
    assert 'earlier runs' not in caplog.text
    with caplog.at_level('INFO', 'simpropnet_jax'):
        run(Fake(), query=[second])
    assert (
        'predictions.json and sheets in' in caplog.text and '1 pictures of earlier' in caplog.text
    )
    found = json.loads((arguments['out'] / 'predictions.json').read_text())['images']
    assert {one['file_name'] for one in found} == {str(first), str(second)}


def test_results_of_two_kinds_are_never_mixed(given):
    arguments, run = given
    out = arguments['out']
    run(Fake())
    written = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    for changes, other in (
        ({'segmenter': Fake('x')}, 'another checkpoint'),
        ({'threshold': 0.6}, 'another --threshold'),
        ({'self_support': 1}, 'another --self_support'),
        ({'write': ('mask',)}, 'another --write'),
        ({'given': arguments['given'][::-1]}, 'other supports or classes'),
    ):
        with pytest.raises(
            ValueError, match=f'out has masks made with {other}: give another --out, or --overwrite'
        ):
            run(**{'segmenter': Fake()} | changes)
    assert written == {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    only = [Path(arguments['query'][0]).parent.parent / '00.png']
    run(Fake(), query=only, write=('mask',), overwrite=True)
    left = {path.name for path in out.rglob('*') if path.is_file()}
    assert left == {'00_mask.png', 'classes.json', 'run.json', 'done.jsonl'}
    (out / 'run.json').write_text('[')
    with pytest.raises(ValueError, match='run.json is damaged'):
        run(Fake(), query=only, write=('mask',))


def test_what_another_program_wrote_to_the_books_removes_nothing_outside(given):
    arguments, run = given
    out, precious = arguments['out'], arguments['out'].parent / 'precious_mask.png'
    out.mkdir()
    precious.touch()
    (out / 'done.jsonl').write_text('{"path": "/x.png", "name": "../precious", "stamp": [1, 2]}\n')
    run(Fake(), overwrite=True)
    assert precious.exists()


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (
            {'write': ('mask', 'x')},
            '--write must be of mask, overlay, coco, sheet, with commas between, got mask,x',
        ),
        ({'write': ('mask', 'sheet')}, 'a sheet is made of overlays: --write overlay,sheet'),
        ({'threshold': 1.0}, '--threshold must be between 0 and 1, both excluded, got 1.0'),
        ({'self_support': -1}, '--self_support must be a number of rounds, 0 or more, got -1'),
    ],
)
def test_a_mistake_in_a_flag(changes, sentence, given):
    with pytest.raises(ValueError, match=sentence):
        given[1](Fake(), **changes)
    assert not given[0]['out'].exists()


def test_many_pictures_take_no_more_memory_than_few(tmp_path):
    """Of 64 x 64 x 3 bytes; what is kept of each is its line's place in done.jsonl."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / 'one.png')
    for i in range(300):
        (tmp_path / f'{i}.png').symlink_to('one.png')
    results = Results(tmp_path / 'out', {'supports': [['cat', '']], 'write': ['mask']})
    results.begin()

    def peak(numbers):
        todo = [(Query(tmp_path / f'{i}.png', Path(f'{i}.png')), str(i)) for i in numbers]
        tracemalloc.reset_peak()
        assert segment_all(Fake(), [0], todo, results) == {}
        return tracemalloc.get_traced_memory()[1]

    peak(range(20))  # imports
    tracemalloc.start()
    try:
        assert peak(range(20, 300)) < peak(range(20)) + 20 * pixels.nbytes
    finally:
        tracemalloc.stop()


def test_an_overlay_in_bands_is_that_of_the_whole(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (40, 30, 3), np.uint8), np.zeros((40, 30), np.uint8)
    label[5:33, 4:20] = 1
    saved = []
    monkeypatch.setattr(outputs, '_save', lambda image, path: saved.append(np.asarray(image)))
    for band in (10**6, 7 * 30):
        monkeypatch.setattr(outputs, 'BAND', band)
        outputs.write_overlay(image, label, tmp_path / 'x.jpg', named=False)
    np.testing.assert_array_equal(*saved)
    expected = overlay.overlay(image, label > 0, overlay.PREDICTION).astype(int)
    assert np.abs(saved[0] - expected).max() <= 2
