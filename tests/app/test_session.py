"""What happens to examples and pictures, without a browser: hostile ones end in one sentence and change nothing."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.app import outline, uploads
from simpropnet_jax.app import session as sessions
from simpropnet_jax.app.about import trained_on
from simpropnet_jax.app.session import DETAIL, Session
from simpropnet_jax.app.uploads import (
    drawn_support,
    painted_mask,
    read_picture,
    read_support_files,
)
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.io.labels import FOREGROUND
from tests.small_checkpoint import write_checkpoint

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('small')
    write_checkpoint(workdir)
    return Segmenter.from_checkpoint(workdir)


@pytest.fixture
def save(tmp_path):
    """save(name, picture): a file of an array or a picture, of whatever format the ending or `format` says."""

    def write(name, picture=None, **options):
        path = tmp_path / name
        picture = RNG.integers(0, 256, (30, 40, 3), np.uint8) if picture is None else picture
        (Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(
            path, **options
        )
        return path

    return write


def paint(height, width, box=np.s_[5:20, 10:30]):
    """A layer of the editor with a stroke."""
    layer = np.zeros((height, width, 4), np.uint8)
    layer[box] = (40, 200, 80, 153)
    return layer


def painted_support(picture, layers):
    return drawn_support(picture, painted_mask(picture, layers))


@pytest.fixture
def session(segmenter, save):
    """With one painted example."""
    result = Session(segmenter)
    result.set_supports([painted_support(read_picture(save('cat.jpg')), [paint(30, 40)])])
    return result


def test_pictures_get_the_masks_of_the_segmenter_at_their_own_size(
    session, segmenter, save, tmp_path, monkeypatch
):
    (tmp_path / 'more').mkdir()
    paths = [
        save('a.png'),
        save('more/a.jpg'),
        save('wide.png', RNG.integers(0, 256, (50, 1700, 3), np.uint8)),
    ]
    assert session.add_queries(paths) == [] and list(session.segment()) == [2, 1, 0]
    monkeypatch.setattr(
        segmenter, 'segment_with', None
    )  # moving the threshold does not ask the network again
    areas = [
        [mask.sum() for mask in session.masks(threshold)] for threshold in (0.0, 0.3, 0.5, 0.7, 1.0)
    ]
    assert areas[0] == [30 * 40, 30 * 40, 50 * 1700] and areas[-1] == [0, 0, 0]
    assert (np.diff(areas, axis=0) <= 0).all()
    assert [overlay.shape[1] for overlay in session.overlays(0.5)] == [40, 40, uploads.SIDE]
    session.write_zip(tmp_path / 'masks.zip', 0.5)
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / 'masks.zip') as archive:
        assert archive.testzip() is None
        names = ('a', 'a_2', 'wide')
        assert set(archive.namelist()) == {
            f'{n}_{e}' for n in names for e in ('mask.png', 'overlay.jpg')
        }
        masks = [np.asarray(Image.open(io.BytesIO(archive.read(f'{n}_mask.png')))) for n in names]
    support = session.supports[0]
    wanted = segmenter.segment(paths[0], supports=[(support.image, support.label)])
    np.testing.assert_array_equal(masks[0], wanted.mask * 255)
    assert masks[2].shape == (50, 1700)


def test_other_examples_give_other_masks_and_without_any_there_are_none(session, save, tmp_path):
    session.add_queries([save('query.png')])
    assert list(session.segment()) == [0] and list(session.segment()) == []
    (before,) = session.probabilities
    session.set_supports(
        [*session.supports, read_support_files(save('b.png'), save('m.png', np.eye(30, 40) > 0))]
    )
    assert session.probabilities == [] and list(session.segment()) == [0]
    assert np.abs(session.probabilities[0] - before).max() > 0
    session.set_supports([])
    assert list(session.segment()) == [] and session.overlays(0.5) == []
    with pytest.raises(ValueError, match='there is no mask to download yet'):
        session.write_zip(tmp_path / 'masks.zip', 0.5)


def test_pictures_are_looked_at_more_closely(session, save, segmenter):
    session.add_queries([save('one.png')])
    list(session.segment())
    before = session.probabilities[0]
    for detail in list(DETAIL)[1:]:
        session.look(detail)
        assert session.detail == detail and session.probabilities == []
        list(session.segment())
        assert session.probabilities[0].shape == before.shape
        assert np.abs(session.probabilities[0] - before).max() > 1e-4, detail
    session.look('As trained')
    list(session.segment())
    np.testing.assert_array_equal(session.probabilities[0], before)
    assert (segmenter.size, segmenter.tiles) == (33, 1)  # which all visitors share


def test_single_pictures_and_examples_go_and_results_become_examples(session, save):
    session.add_queries([save(f'{name}.png') for name in 'abc'])

    def names():
        return [name for _, name in session.shown(0.5)]

    assert names() == ['a.png', 'b.png', 'c.png']  # shown before they are segmented
    next(session.segment())
    session.chosen['picture'] = 1
    with pytest.raises(ValueError, match='select a picture with a mask first'):
        session.result_as_support(0.5)
    list(session.segment())
    kept = session.probabilities[2]
    support = session.result_as_support(0.0)
    assert support.name == 'b.png' and support.label.all()
    with pytest.raises(ValueError, match='the mask of b.png is empty at this threshold'):
        session.result_as_support(1.0)
    session.remove_query()
    assert names() == ['a.png', 'c.png'] and session.probabilities[1] is kept
    assert session.chosen['picture'] == 1  # as the gallery, which then shows the next one
    session.remove_query()
    assert names() == ['a.png'] and session.chosen['picture'] is None
    session.probabilities = [np.zeros_like(kept)]  # what a Segmenter says of an absent object
    assert names() == ['a.png: no object found']
    first = session.supports[0]
    session.set_supports([first, support])
    session.chosen['example'] = 0
    session.remove_support()
    assert session.supports == [support]
    assert uploads.described(first) == 'cat.jpg: object 25.0 %'
    assert uploads.oddities(support)[0] == 'b.png: the object covers nearly the whole picture'


def test_the_page_says_what_the_network_was_trained_on(segmenter, tmp_path_factory):
    run = tmp_path_factory.getbasetemp() / 'small0'
    assert trained_on(run).startswith(
        'Network: SimPropNet, trained on photographs of PASCAL VOC. Its 15 classes: aeroplane, '
    )


SCENE = np.full((120, 160, 3), (60, 90, 40), np.uint8)
SCENE[30:90, 50:110] = (220, 60, 50)
SCENE = np.clip(SCENE + np.random.default_rng(0).integers(-9, 10, SCENE.shape), 0, 255).astype('u1')
SQUARE = np.zeros((120, 160), bool)
SQUARE[30:90, 50:110] = True


def test_outlines_are_filled_and_snapped_and_boxes_and_clicks_cut_out():
    pytest.importorskip('cv2')
    ring = SQUARE.copy()
    ring[36:84, 56:104] = False
    np.testing.assert_array_equal(outline.filled(ring), SQUARE)
    rough = np.roll(ring, (4, -4), (0, 1))
    box = outline.box_of('25 15, 75 85', 160, 120)
    marks = outline.Marks
    found = {
        'snapped': outline.snapped(SCENE, rough),
        'box': outline.cut_out(SCENE, marks(box)),
        'clicks': outline.cut_out(SCENE, marks((), ((80, 60),), ((20, 20), (140, 100)))),
    }
    for kind, mask in found.items():
        assert (mask & SQUARE).sum() / (mask | SQUARE).sum() > 0.9, kind
    beside = outline.cut_out(SCENE, marks(box, (), ((70, 60),)))
    assert not beside[60, 70]
    for text in ('', '1,2,3', '50,0,20,9', 'a b c d', '0 0 101 9'):
        with pytest.raises(ValueError, match='a box is left, top, right and bottom in percent'):
            outline.box_of(text, 160, 120)
    with pytest.raises(ValueError, match='two corners of a box, or a point'):
        outline.cut_out(SCENE, marks((box[0],)))


def bomb(path):
    """A PNG of some bytes that says that it has 60,000 x 60,000 pixels."""
    header = struct.pack('>4sIIBBBBB', b'IHDR', 60_000, 60_000, 8, 2, 0, 0, 0)
    start = (
        b'\x89PNG\r\n\x1a\n'
        + struct.pack('>I', 13)
        + header
        + struct.pack('>I', zlib.crc32(header))
    )
    path.write_bytes(start + struct.pack('>I4s', 9, b'IDAT'))
    return path


def truncated(path):
    path.write_bytes(path.read_bytes()[:-300])
    return path


def text(path):
    path.write_text(
        '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n'
    )  # what Pillow would hand to another program
    return path


def test_hostile_pictures_end_in_a_mask_or_in_one_sentence(session, save, tmp_path):
    gray = RNG.integers(0, 65536, (30, 40), np.uint16)
    frames = [Image.fromarray(RNG.integers(0, 256, (9, 9), np.uint8)) for _ in range(3)]
    fine = [
        save('one.png', np.zeros((1, 1, 3), np.uint8)),
        save('line.png', np.zeros((1, 3000, 3), np.uint8)),
        save('large.jpg', Image.new('L', (12_000, 9_000), 77)),
        save('animated.gif', frames[0], save_all=True, append_images=frames[1:]),
        save('png_in_truth.txt', format='PNG'),
        save('deep.png', gray),
        save('printed.jpg', Image.new('CMYK', (20, 10), (0, 50, 90, 3))),
        save('clear.png', Image.new('RGBA', (20, 10), (9, 9, 9, 0))),
    ]
    bad = {
        truncated(save('truncated.jpg')): 'truncated.jpg cannot be read as a picture: .*truncated',
        text(tmp_path / 'text.jpg'): 'text.jpg is not a picture of any known format',
        bomb(tmp_path / 'bomb.png'): 'bomb.png is 60000 x 60000 pixels, more than 200 million',
        save(
            'huge.png', Image.new('1', (12_001, 10_000))
        ): 'huge.png has 12001 x 10000 pixels: 120 million are',
    }
    session.add_queries(fine)
    list(session.segment())
    for picture, mask in zip(session.queries, session.masks(0.5), strict=True):
        assert mask.shape == picture.size and max(picture.image.shape) <= uploads.SIDE
    assert session.queries[2].size == (9_000, 12_000)
    for path, sentence in bad.items():
        with pytest.raises(ValueError, match=f'^{sentence}') as refused:
            read_picture(path)
        assert str(tmp_path) not in str(refused.value) and '\n' not in str(refused.value)


def test_hostile_masks_end_in_one_sentence(session, save, tmp_path):
    image = save('image.png')
    before = session.supports
    for mask, sentence in (
        (
            save('small.png', np.ones((3, 4), np.uint8)),
            'small.png is 4 x 3 pixels, but image.png is 40 x 30',
        ),
        (save('empty.png', np.zeros((30, 40), np.uint8)), 'empty.png has no foreground'),
        (
            save('soft.png', (np.arange(1200) % 256).astype(np.uint8).reshape(30, 40)),
            'soft.png has shades of gray',
        ),
        (text(tmp_path / 'mask.png'), 'mask.png is not a picture'),
    ):
        with pytest.raises(ValueError, match=f'^{sentence}') as refused:
            session.set_supports([*before, read_support_files(image, mask)])
        assert str(tmp_path) not in str(refused.value) and '\n' not in str(refused.value)
    nothing = read_picture(image)
    for layers in ([], [np.zeros((30, 40, 4), np.uint8)]):
        with pytest.raises(ValueError, match='^nothing is painted yet'):
            painted_support(nothing, layers)
    dot = np.zeros((2000, 2000), np.uint8)
    dot[1, 1] = 1
    with pytest.raises(
        ValueError, match='foreground'
    ):  # a pixel of an object is lost when the picture is made smaller
        support = read_support_files(save('big.png', np.stack([dot] * 3, -1)), save('dot.png', dot))
        session.set_supports([*before, support])
    with pytest.raises(ValueError, match='^10 examples are the most'):
        session.set_supports(before * 11)
    assert session.supports == before


def test_annotations_are_read_in_place_of_a_mask(save, tmp_path):
    picture = save('a.png', np.zeros((48, 64, 3), np.uint8))
    export = Path(__file__).parent.parent / 'io/exports/cvat/annotations/instances_default.json'
    support = read_support_files(picture, export)
    assert (support.label == FOREGROUND).sum() == 22 * 30
    (tmp_path / 'a.txt').touch()
    with pytest.raises(ValueError, match='^a.txt looks like YOLO'):
        read_support_files(picture, tmp_path / 'a.txt')


def test_painting_follows_the_strokes(save):
    picture = read_picture(save('big.png', np.zeros((500, 1000, 3), np.uint8)))
    support = painted_support(
        picture, [paint(400, 800, np.s_[:100, :200]), paint(200, 400, np.s_[150:, 300:])]
    )
    assert support.label.shape == (400, 800) and support.label.sum() == 100 * 200 * 2
    assert support.label[99, 199] == FOREGROUND and support.label[300, 600] == FOREGROUND


def test_no_more_pictures_are_kept_than_there_is_memory_for(session, save):
    paths = [save('query.png')] * (sessions.MOST_QUERIES + 2)
    assert session.add_queries(paths) == ['50 pictures are the most at once: 2 are left out']
    assert session.add_queries(paths[:1]) == ['50 pictures are the most at once: 1 are left out']
    assert len(session.queries) == sessions.MOST_QUERIES
    session.clear_queries()
    assert session.queries == [] and session.supports
