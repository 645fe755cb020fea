"""Transformed pairs: image and mask move together, as strongly as is asked, each sample by its own key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict
from PIL import Image

from configs import shapes
from simpropnet_jax.config import common
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.episodes.transform import OFF, transform_pairs
from simpropnet_jax.report.pairs import draw

COUNT, SIDE = 64, 65  # in nearly all tests, since another shape is another compilation
ALL = common.base().tpc


def only(**strengths):
    """These transforms for certain, and no other."""
    return ConfigDict({**OFF, 'probability': 1.0, **strengths})


@jax.jit
def change(key, images, labels, strengths):
    """Strengths are an argument here, so that few compilations serve all tests."""
    return transform_pairs(key, images, labels, ConfigDict(strengths))


def run(images, labels, strengths, key=0):
    strengths = {name: jnp.float32(strengths[name]) for name in (*OFF, 'probability')}
    moved = change(
        jax.random.key(key), jnp.asarray(images, jnp.float32), jnp.asarray(labels), strengths
    )
    return np.asarray(moved[0]), np.asarray(moved[1])


def scenes():
    """Noise of 0 to 255, and labels of squares with a void frame."""
    rng = np.random.default_rng(0)
    images, labels = (
        rng.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8),
        np.zeros((COUNT, SIDE, SIDE), np.uint8),
    )
    for label in labels:
        top, left = rng.integers(8, 24, 2)
        label[top : top + 32, left : left + 32] = 255
        label[top + 1 : top + 31, left + 1 : left + 31] = 1
    return images, labels


def coordinates(strengths):
    """Where each pixel comes from, from the centre, [COUNT, S, S, 2]; nan where from outside."""
    grid = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = np.broadcast_to(np.stack([*grid, grid[0]], -1), (COUNT, SIDE, SIDE, 3))
    moved, labels = run(image, np.zeros((COUNT, SIDE, SIDE), np.uint8), strengths)
    assert set(np.unique(labels)) <= {0, 255}
    places = np.where((labels == 255)[..., None], np.nan, moved[..., :2] - (SIDE - 1) / 2)
    places[:, [0, -1]] = places[:, :, [0, -1]] = np.nan  # clipped to the edge
    return places


CENTRED = (np.stack(np.mgrid[:SIDE, :SIDE], -1) - (SIDE - 1) / 2).reshape(-1, 2)


def affine(places):
    """[COUNT, 3, 2]: the matrix (rows of the input: row, column, 1) that fits each sample's places."""
    known, fits = np.concatenate([CENTRED, np.ones((len(CENTRED), 1))], 1), []
    for sample in places.reshape(len(places), -1, 2):
        inside = np.isfinite(sample[:, 0]) & (np.abs(sample) < SIDE / 2 - 1).all(1)
        fit, *_ = np.linalg.lstsq(known[inside], sample[inside], rcond=None)
        np.testing.assert_allclose(known[inside] @ fit, sample[inside], atol=1e-3)
        fits.append(fit)
    return np.array(fits)


def test_nothing_changes_where_all_strengths_are_zero():
    images, labels = scenes()
    for strengths in (only(), ConfigDict({**ALL.to_dict(), 'probability': 0.0, 'flip': 0.0})):
        moved, moved_labels = run(images, labels, strengths)
        np.testing.assert_array_equal(moved, images.astype(np.float32))
        np.testing.assert_array_equal(moved_labels, labels)


def test_image_and_mask_move_together_and_labels_stay_labels():
    labels = scenes()[1]
    images = np.repeat(np.where(labels == 1, 230, 60)[..., None], 3, -1)
    moved, moved_labels = run(
        images, labels, ConfigDict({**ALL.to_dict(), 'probability': 1.0, 'pepper': 0.0})
    )
    assert moved.dtype == np.float32 and moved_labels.dtype == np.uint8
    assert set(np.unique(moved_labels)) == {0, 1, 255}
    bright, mask, known = moved.mean(-1) > 145, moved_labels == 1, moved_labels != 255

    def iou(a, b):
        return (a & b).sum((1, 2)) / (a | b).sum((1, 2))

    assert iou(bright & known, mask).min() > 0.97
    assert iou(labels == 1, mask).max() < 0.97  # it did move


def test_rotation_is_a_turn_about_the_centre_by_up_to_the_degrees():
    fits = affine(coordinates(only(rotation=30.0)))
    turns = fits[:, :2]
    np.testing.assert_allclose(
        turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(2), turns.shape), atol=1e-4
    )
    np.testing.assert_allclose(fits[:, 2], 0, atol=1e-3)
    degrees = np.rad2deg(np.arctan2(turns[:, 0, 1], turns[:, 0, 0]))
    assert -30 <= degrees.min() < -25 and 25 < degrees.max() <= 30 and abs(degrees.mean()) < 7


def test_rotation_agrees_with_pillow_and_outside_is_void_in_the_mean_colour():
    rows, columns = np.mgrid[:SIDE, :SIDE]
    image = np.stack(
        [128 + 90 * np.sin(rows / 7), 128 + 90 * np.cos(columns / 5), 2.0 * rows + columns], -1
    )
    label = ((rows - 20) ** 2 + (columns - 30) ** 2 < 200).astype(np.uint8)
    fits = affine(coordinates(only(rotation=30.0)))
    degrees = np.rad2deg(np.arctan2(fits[:, 0, 1], fits[:, 0, 0]))
    sample = np.abs(degrees).argmax()
    many = [np.broadcast_to(array, (COUNT, *array.shape)) for array in (image, label)]
    moved, moved_label = (array[sample] for array in run(*many, only(rotation=30.0)))

    def pillow(array, method, fill):
        return np.asarray(Image.fromarray(array).rotate(-degrees[sample], method, fillcolor=fill))

    expected = np.stack(
        [pillow(image[..., i].astype(np.float32), Image.BILINEAR, -1) for i in range(3)], -1
    )
    expected_label = pillow(label, Image.NEAREST, 255)
    inside = moved_label != 255
    assert (inside == (expected_label != 255)).mean() > 0.995 and 0.02 < (~inside).mean() < 0.3
    inner = inside & (expected[..., 0] >= 0)
    np.testing.assert_allclose(moved[inner], expected[inner], atol=0.02)
    assert (moved_label == expected_label)[inner].mean() > 0.998
    assert np.abs(moved[~inside] - image.mean((0, 1))).max() < 0.01


def test_zoom_magnifies_a_window_that_lies_within_the_image():
    places = coordinates(only(zoom=1.5))
    fits = affine(places)
    zooms = 1 / fits[:, 0, 0]
    np.testing.assert_allclose(fits[:, :2], np.eye(2) / zooms[:, None, None], atol=1e-4)
    assert 0.9999 <= zooms.min() < 1.03 and 1.47 < zooms.max() <= 1.5
    room = SIDE / 2 * (1 - 1 / zooms)
    assert (np.abs(fits[:, 2]) <= room[:, None] + 1e-3).all() and np.abs(
        fits[:, 2] / room[:, None]
    ).max() > 0.9
    assert np.isfinite(places[:, 1:-1, 1:-1]).all()  # nothing from outside


def test_flips_are_exact_and_as_frequent_as_asked():
    images, labels = scenes()
    moved, moved_labels = run(images, labels, only(flip=0.5))
    flipped = (moved == images[:, :, ::-1]).all((1, 2, 3))
    assert 0.35 < flipped.mean() < 0.65
    expected = np.where(flipped[:, None, None], labels[:, :, ::-1], labels)
    np.testing.assert_array_equal(moved_labels, expected)
    np.testing.assert_array_equal(moved[~flipped], images[~flipped].astype(np.float32))


def test_distortion_is_smooth_of_the_stated_size_and_never_folds():
    shifts = coordinates(only(distortion=0.04)) - CENTRED.reshape(SIDE, SIDE, 2)
    assert (
        0.015 < np.nanstd(shifts) / SIDE < 0.03 and 0.03 < np.nanmax(np.abs(shifts)) / SIDE < 0.06
    )
    assert (
        np.nanmax(np.abs(np.diff(shifts, axis=1))) < 1 > np.nanmax(np.abs(np.diff(shifts, axis=2)))
    )


def test_noise_and_pepper_are_as_strong_as_asked_and_leave_the_mask():
    gray, label = np.full((COUNT, SIDE, SIDE, 3), 128), scenes()[1]
    noisy, noisy_label = run(gray, label, only(noise=0.05))
    assert abs(noisy.mean() - 128) < 0.2 and abs(noisy.std() - 0.05 * 255) < 0.2
    assert abs(np.corrcoef(noisy.reshape(-1, 3).T)[0, 1]) < 0.02
    peppered, peppered_label = run(gray, label, only(pepper=0.04))
    black = (peppered == 0).all(-1)
    assert abs(black.mean() - 0.04) < 0.003 and (peppered[~black] == 128).all()
    np.testing.assert_array_equal(noisy_label, label)
    np.testing.assert_array_equal(peppered_label, label)
    bright, _ = run(np.full_like(gray, 250), label, only(noise=0.2))
    assert bright.min() >= 0 and bright.max() == 255


def test_each_transform_is_applied_with_its_probability():
    images, labels = scenes()
    moved, _ = run(images, labels, ConfigDict({**OFF, 'noise': 0.05, 'probability': 0.3}))
    assert 0.15 < (moved != images).any((1, 2, 3)).mean() < 0.45


def test_a_mask_that_would_be_lost_stays_where_it_is():
    images, labels = scenes()
    labels[:] = 0
    labels[:, :4, :4] = 1  # a corner that most zooms lose
    moved, moved_labels = run(images, labels, only(zoom=4.0))
    assert ((moved_labels == 1).sum((1, 2)) >= 1.6).all()
    left = (moved == images).all((1, 2, 3))
    assert 0.4 < left.mean() < 1
    np.testing.assert_array_equal(moved_labels[left], labels[left])


def test_a_sample_is_the_same_whatever_is_beside_it_and_on_any_number_of_devices(mesh_of):
    images, labels = scenes()
    moved, moved_labels = run(images, labels, ALL)
    np.testing.assert_array_equal(run(images, labels, ALL)[0], moved)
    assert not np.array_equal(run(images, labels, ALL, key=1)[0], moved)
    spread = [jax.device_put(x, NamedSharding(mesh_of(8), P('data'))) for x in (images, labels)]
    for other, other_labels in (run(images[:3], labels[:3], ALL), run(*spread, ALL)):
        np.testing.assert_allclose(other, moved[: len(other)], atol=0.01)
        np.testing.assert_array_equal(other_labels, moved_labels[: len(other)])
    same = run(
        np.broadcast_to(images[:1], images.shape), np.broadcast_to(labels[:1], labels.shape), ALL
    )[0]
    np.testing.assert_array_equal(same[0], moved[0])
    assert len(np.unique(same.mean((1, 2, 3)))) > COUNT * 0.9  # each has its own randomness


@pytest.fixture
def drawn_shapes(tmp_path):
    shapes5i.load(tmp_path, {'trainaug': 60, 'val': 30})
    config = shapes.get_config('fold=1')
    config.update_from_flattened_dict(
        {'data.dir': str(tmp_path), 'train.size': 65, 'data.loader': 'threads'}
    )
    return config


def test_the_figure_shows_each_transform_and_then_all_together(drawn_shapes):
    picture = draw(drawn_shapes, 7)
    assert picture.dtype == np.uint8 and picture.shape == (4 * (65 + 18) + 3 * 4, 4 * 65 + 3 * 4, 3)
    support, pepper = (
        picture[-83 - 4 - 65 : -83 - 4, 138:203],
        picture[-83 - 4 - 65 : -83 - 4, 207:272],
    )
    differ = (support != pepper).any(-1)
    assert 0.01 < differ.mean() < 0.08  # the sixth pair differs by black pixels alone
    drawn_shapes.tpc.pepper = 1.5
    with pytest.raises(
        ValueError, match=r'config.tpc.pepper must be a number, from 0 to 1, got 1.5'
    ):
        draw(drawn_shapes, 7)
