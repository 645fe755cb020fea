"""Augmentation: image and label move together, within the stated ranges, by the key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.episodes.augment import (
    augment_supports,
    ica,
    ica_probability,
    labelled_size,
    scale_crop_flip,
    scale_crop_flip_labelled,
    support_size,
)

SIZE, LOADED = 64, 96


def coordinates(side):
    """Row and column numbers (from 0) as an image, so that the result tells where every pixel came from."""
    rows, columns = np.mgrid[:side, :side].astype(np.float32)
    return jnp.asarray(np.stack([rows, columns, rows + columns], -1))


def many(count=300, **options):
    """Where the pixels of `count` augmented images and of their labels (by rows, by columns) come from."""
    image = coordinates(LOADED)

    def one(key, label):
        return scale_crop_flip(key, image, label, SIZE, **options)

    keys = jax.random.split(jax.random.key(0), count)
    run = jax.jit(jax.vmap(one, (0, None)))
    images, rows = run(keys, image[..., 0].astype(jnp.uint8))
    again, columns = run(keys, image[..., 1].astype(jnp.uint8))
    np.testing.assert_array_equal(images, again)
    return np.asarray(images), np.stack([rows, columns], -1).astype(np.float32)


def test_image_and_label_move_together():
    images, labels = many()
    difference = images[..., :2] - labels
    # Nearest is up to half a pixel from linear, which averages over up to 1.5 pixels, one-sidedly at borders.
    assert np.abs(difference).max() < 1
    assert np.abs(difference.mean()) < 0.01


def test_scale_and_crop_cover_their_ranges():
    images, _ = many(flip=False)
    inner = images[:, 2:-2, 2:-2]
    step = (inner[:, -1, 0, 0] - inner[:, 0, 0, 0]) / (inner.shape[1] - 1)  # loaded pixels a pixel
    scale = LOADED / SIZE / step
    assert 0.995 < scale.min() < 1.02 and 1.48 < scale.max() < 1.505
    assert abs(scale.mean() - 1.25) < 0.03
    across = (inner[:, 0, -1, 1] - inner[:, 0, 0, 1]) / (inner.shape[2] - 1)
    np.testing.assert_allclose(step, across, atol=0.01)
    for axis in (0, 1):
        centre = inner[..., axis].mean((1, 2))
        room = (LOADED - SIZE * step) / 2
        offset = (centre - (LOADED - 1) / 2) / np.maximum(room, 1e-6)
        wide = room > 2
        assert np.abs(offset[wide]).max() < 1.05
        assert (
            offset[wide].min() < -0.9
            and offset[wide].max() > 0.9
            and abs(offset[wide].mean()) < 0.15
        )


def test_a_labelled_image_that_shrinks_lies_anywhere_and_is_void_around():
    count, images = 300, coordinates(LOADED) + 1
    label = jnp.full((LOADED, LOADED), 7, jnp.uint8)

    def repeat(x):
        return jnp.repeat(x[None], count, 0)

    images, labels = jax.jit(scale_crop_flip_labelled, static_argnums=3)(
        jax.random.key(0), repeat(images), repeat(label), SIZE
    )
    images, labels = np.asarray(images), np.asarray(labels)
    np.testing.assert_array_equal(labels == 255, (images == 0).all(-1))
    assert set(np.unique(labels)) == {7, 255}
    seen = (labels == 7).any(2).sum(1)  # rows that show the image
    assert seen.min() < 0.53 * SIZE and np.all((seen >= SIZE // 2) & (seen <= SIZE))
    assert (
        0.25 < (seen < SIZE - 1).mean() < 0.42
    )  # scales of 0.5 to 2 are below 1 in a third of the cases
    magnified = images[seen == SIZE]
    step = np.abs(magnified[:, -3, 0, 0] - magnified[:, 2, 0, 0]) / (SIZE - 5) * SIZE / LOADED
    assert 0.49 < step.min() < 0.53  # twice as large


def test_a_labelled_image_is_loaded_as_large_as_it_can_be_shown_or_as_it_is():
    assert [labelled_size(side) for side in (225, 321, 513)] == [450, 500, 513]


def test_every_other_image_is_mirrored():
    images, _ = many(count=600)
    mirrored = images[:, 0, 0, 1] > images[:, 0, -1, 1]
    assert 0.42 < mirrored.mean() < 0.58


def test_nothing_changes_without_scale_and_flip():
    image = coordinates(SIZE)
    label = (image[..., 2] % 7).astype(jnp.uint8)
    result = scale_crop_flip(jax.random.key(3), image, label, SIZE, max_scale=1.0, flip=False)
    np.testing.assert_array_equal(result[0], image)
    np.testing.assert_array_equal(result[1], label)


def test_the_largest_scale_is_a_plain_crop_of_what_was_loaded():
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(LOADED, LOADED, 3)), jnp.float32)
    label = jnp.asarray(rng.integers(0, 3, (LOADED, LOADED)), jnp.uint8)
    with pytest.MonkeyPatch.context() as patch:

        def largest(key, shape=(), minval=0.0, maxval=1.0):
            return jnp.full(shape, maxval)

        patch.setattr(jax.random, 'uniform', largest)
        cropped, cropped_label = scale_crop_flip(jax.random.key(0), image, label, SIZE, flip=False)
    np.testing.assert_allclose(cropped, image[32:, 32:], atol=1e-5)
    np.testing.assert_array_equal(cropped_label, label[32:, 32:])


def test_void_and_absent_labels_survive():
    label = jnp.zeros((LOADED, LOADED), jnp.uint8).at[:, 48:].set(255)
    _, result = scale_crop_flip(jax.random.key(1), coordinates(LOADED), label, SIZE)
    assert result.dtype == jnp.uint8
    assert set(np.unique(result)) == {0, 255}


def test_each_support_has_its_own_randomness_and_the_key_decides():
    images = jnp.broadcast_to(coordinates(LOADED), (2, 3, LOADED, LOADED, 3))
    labels = images[..., 0].astype(jnp.uint8)
    augment = jax.jit(augment_supports, static_argnums=3)
    first, again, other = (augment(jax.random.key(k), images, labels, SIZE) for k in (0, 0, 1))
    assert first[0].shape == (2, 3, SIZE, SIZE, 3) and first[1].shape == (2, 3, SIZE, SIZE)
    np.testing.assert_array_equal(first[0], again[0])
    corners = np.concatenate(
        [np.asarray(images)[:, :, 0, 0].reshape(6, 3) for images, _ in (first, other)]
    )
    assert len(np.unique(corners, axis=0)) == 12


def test_supports_are_loaded_large_enough():
    assert [support_size(321), support_size(161), support_size(321, 1.0)] == [482, 242, 321]


def test_ica_replaces_whole_samples_by_their_channel_mean():
    query = jax.random.normal(jax.random.key(0), (2000, 2, 3, 3))
    mean = np.broadcast_to(query.mean(-1, keepdims=True), query.shape)
    np.testing.assert_array_equal(ica(jax.random.key(1), query, 0.0), query)
    np.testing.assert_array_equal(ica(jax.random.key(1), query, 1.0), mean)
    result = np.asarray(jax.jit(ica)(jax.random.key(1), query, 0.25))
    averaged = (np.ptp(result, axis=-1) == 0).all((1, 2))
    assert 0.22 < averaged.mean() < 0.28
    np.testing.assert_allclose(
        result, np.where(averaged[:, None, None, None], mean, query), atol=1e-6
    )


def test_ica_probability_decays_to_a_hundredth_however_long_the_training_is():
    for steps in (20, 256_000):
        assert ica_probability(0, steps) == 0.25
        np.testing.assert_allclose(ica_probability(steps // 2, steps), 0.025, rtol=1e-6)
        np.testing.assert_allclose(
            jax.jit(lambda step, n=steps: ica_probability(step, n))(steps), 0.0025, rtol=1e-5
        )
