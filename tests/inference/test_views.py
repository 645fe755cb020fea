"""How the network sees a picture: every position in its answer is a position of the picture."""

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.inference import tiles
from simpropnet_jax.inference.geometry import GRAY, Geometry, cut
from simpropnet_jax.inference.reading import stretched_support
from simpropnet_jax.io.labels import VOID

SHAPES = [
    Geometry(65, 'pad'),
    Geometry(225, 'pad', 2),
    Geometry(65, 'stretch', 3),
    Geometry(65, 'pad', 5),
]


def answer(view, size, step=8):
    """What a perfect network says: at each point, its own position in the picture; columns, then rows."""
    (left, top, right, bottom), (x, y, width, height) = view
    at = np.arange(0, size, step) + 0.5  # the middle of pixels 0, 8, 16, ...
    columns = left + (at - x) * (right - left) / width
    rows = top + (at - y) * (bottom - top) / height
    return np.stack(np.broadcast_arrays(columns, rows[:, None])).astype(np.float32)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('picture', [(300, 500), (1000, 700), (90, 90)])
def test_the_answer_lies_where_the_picture_was_seen(shape, picture):
    height, width = picture
    views = [shape.whole(height, width), *tiles.tile_views(height, width, shape)]
    seen = [(answer(view, shape.size), view) for view in views]
    merged = tiles.merge(seen[0], seen[1:], shape, picture)
    rows, columns = (
        np.linspace(0.5, n - 0.5, points)
        for n, points in zip(picture, merged.shape[1:], strict=True)
    )
    # At the border of the picture half a pixel of the network is not seen, and its edge goes on.
    near = max(picture) / shape.size
    inner = (
        np.s_[(rows > near) & (rows < height - near)],
        (columns > near) & (columns < width - near),
    )
    np.testing.assert_allclose(merged[0][inner[0]][:, inner[1]] - columns[inner[1]], 0, atol=0.01)
    np.testing.assert_allclose(
        merged[1][inner[0]][:, inner[1]] - rows[inner[0]][:, None], 0, atol=0.01
    )


@pytest.mark.parametrize('picture', [(300, 500), (40, 900), (1, 50), (4000, 6000)])
def test_tiles_cover_the_picture_and_overlap(picture):
    shape = Geometry(65, 'pad', 4)
    views = tiles.tile_views(*picture, shape)
    assert len(views) <= 16
    for axis, length in ((1, picture[0]), (0, picture[1])):
        ends = sorted({(view.box[axis], view.box[axis + 2]) for view in views})
        assert ends[0][0] == 0 and ends[-1][1] == pytest.approx(length)
        for (_, end), (start, other) in zip(ends[:-1], ends[1:], strict=True):
            assert end - start >= 0.25 * (other - start) - 1e-6
    found = tiles.merge(
        (np.ones((1, 9, 9), np.float32), shape.whole(*picture)),
        [(np.ones((1, 9, 9), np.float32), view) for view in views],
        shape,
        picture,
    )
    np.testing.assert_allclose(found, 1, rtol=1e-5)  # no seam


def test_a_padded_picture_keeps_its_shape_between_bars():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 100:] = 200
    view = Geometry(65, 'pad').whole(100, 200)
    square = cut(image, view, 65, Image.BILINEAR, GRAY)
    assert view.place == (0, 16, 65, 32)
    assert (square[[0, 15, 48, 64]] == GRAY).all() and (square[16:48, :30] == 0).all()
    assert (square[16:48, 35:] == 200).all()
    stretched = cut(image, Geometry(65).whole(100, 200), 65, Image.BILINEAR, GRAY)
    expected = np.asarray(Image.fromarray(image).resize((65, 65), Image.BILINEAR))
    np.testing.assert_array_equal(stretched, expected)  # as in training


def test_a_support_is_magnified_like_the_tiles():
    image = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
    label = np.zeros((600, 900), np.uint8)
    label[100:140, 700:760] = 1
    label[500:510, 5:15] = 1  # a smaller object, far away
    shape = Geometry(65, 'pad', 4)
    square = stretched_support(image, label, shape)
    side = tiles.tile_side(600, 900, 4)
    left, top, right, bottom = tiles.close_view(label, shape).box
    assert right - left == bottom - top == pytest.approx(side)
    assert (left + right) / 2 == 730 and (top + bottom) / 2 == pytest.approx(max(120, side / 2))
    share = (square.close[1] == 1).mean()
    assert share == pytest.approx(40 * 60 / side**2, rel=0.2)  # whole pixels of 65
    assert (square.label == VOID).sum() == 65 * (65 - round(65 * 600 / 900))  # bars are void
    # An object larger than a tile is still seen as a whole; without tiles nothing is magnified.
    label[50:500, 100:800] = 1
    assert tiles.close_view(label, shape).box == (0, 0, 900, 600)
    assert stretched_support(image, label, 65).close is None


def test_a_speck_is_seen_in_its_tile_only():
    label = np.zeros((400, 400), np.uint8)
    label[12, 12] = 1
    with pytest.raises(ValueError, match='none of them foreground; crop around .* or give --tiles'):
        stretched_support(np.zeros((400, 400, 3), np.uint8), label, 33)
    label[12:20, 12:20] = 1
    square = stretched_support(np.zeros((400, 400, 3), np.uint8), label, Geometry(33, tiles=8))
    assert (square.close[1] == 1).sum() > 10


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        ((400,), '--size must be 8n . 1, from 33 to 2049, got 400: try 401'),
        ((9999,), 'got 9999: try 2049'),
        ((225, 'crop'), "--fit must be one of stretch, pad, got 'crop'"),
        ((225, 'pad', 0), '--tiles must be from 1 to 32, got 0'),
    ],
)
def test_a_wrong_view_is_refused(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        Geometry(*given).check()
