"""Whose is a pixel: the rule, said again in plain NumPy on full probabilities."""

import numpy as np
import pytest

from simpropnet_jax.inference import combine
from simpropnet_jax.inference.segmenter import resize_aligned

RNG = np.random.default_rng(0)


@pytest.mark.parametrize('threshold', [0.5, 0.9])
def test_the_most_probable_class_above_the_threshold_has_the_pixel(threshold, monkeypatch):
    monkeypatch.setattr(combine, 'BAND', 100)  # of two rows
    log_odds, size = RNG.normal(scale=3, size=(3, 5, 4)).astype(np.float32), (37, 41)
    probability = np.stack(
        [1 / (1 + np.exp(-resize_aligned(one, size).astype(np.float64))) for one in log_odds]
    )
    expected = np.where(probability.max(0) > threshold, 1 + probability.argmax(0), 0)
    label, scores = combine.winners(log_odds, size, threshold)
    np.testing.assert_array_equal(label, expected)
    assert set(np.unique(label)) == {0, 1, 2, 3} and label.dtype == np.uint8
    means = [probability[i][expected == i + 1].mean() for i in range(3)]
    np.testing.assert_allclose(scores, means, atol=1e-5)


def test_of_two_equal_classes_the_first_has_it_and_one_that_wins_nowhere_scores_nothing():
    one = np.full((1, 3, 3), 2, np.float32)
    label, scores = combine.winners(np.concatenate([one - 5, one, one]), (6, 7))
    assert (label == 2).all() and scores[0] == scores[2] == 0 < scores[1]


def test_what_is_just_as_probable_as_the_threshold_is_background():
    label, scores = combine.winners(np.zeros((2, 3, 3), np.float32), (4, 4))
    assert not label.any() and not scores.any()
