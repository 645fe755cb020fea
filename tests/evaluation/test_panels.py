"""Which episodes are drawn, by hand, and what a panel shows."""

import numpy as np
import pytest

from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.panels import SegmentedEpisode, cases
from simpropnet_jax.io import overlay


def scored(class_id, *ious):
    """Episodes of a class with these IoUs; the query's number is the place, from 0."""
    return [(Episode(place, (90,), class_id, -1), iou) for place, iou in enumerate(ious)]


def queries(chosen):
    return {name: [(e.class_id, e.query) for e in episodes] for name, episodes in chosen.items()}


def test_best_median_and_worst_of_each_class():
    """Classes come in the order that is asked for, and one's IoUs do not count in another."""
    both = [*scored(12, 0.3, 0.9, 0.5, 0.1, 0.4), *scored(11, 0.99, 0.0, 0.7)]
    assert queries(cases(both, (11, 12))) == {
        'best': [(11, 0), (12, 1)],
        'median': [(11, 2), (12, 4)],
        'worst': [(11, 1), (12, 3)],
    }


@pytest.mark.parametrize(
    ('ious', 'median'), [((0.2, 0.8), 1), ((0.4, 0.1, 0.3, 0.2), 2), ((0.6,), 0)]
)
def test_of_an_even_number_the_median_is_the_better_of_the_middle_two(ious, median):
    assert queries(cases(scored(3, *ious), (3,)))['median'] == [(3, median)]


def test_a_gain_may_be_negative():
    """Return the difference of two methods' IoU, by which report.pictures ranks."""
    chosen = queries(cases(scored(3, -0.2, 0.1, -0.7), (3,)))
    assert chosen == {'best': [(3, 1)], 'median': [(3, 0)], 'worst': [(3, 2)]}


def test_a_panel_has_headings_titles_and_both_outlines():
    gray, truth = np.full((40, 40, 3), 90, np.uint8), np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    maps = {'background attention': np.eye(5), 'foreground attention': np.eye(5)}
    one = SegmentedEpisode(gray, truth, gray, truth, np.roll(truth == 1, 8, 1), maps)
    row = overlay.panel(*one, scale=2)
    assert list(row) == [
        'support',
        'truth',
        'foreground attention',
        'background attention',
        'prediction',
    ]
    colours = {tuple(pixel) for pixel in row['prediction'].reshape(-1, 3)}
    assert {overlay.TRUTH, overlay.PREDICTION} <= colours
    picture = overlay.headed([row, row], ['cat: IoU 42.9 %', 'dog: IoU 42.9 %'])
    assert picture.shape == (
        3 * overlay.CAPTION + 2 * 80 + 2 * overlay.GAP,
        5 * 80 + 4 * overlay.GAP,
        3,
    )
    headings = picture[: overlay.CAPTION]
    for column in range(5):
        start = column * (80 + overlay.GAP)
        assert (headings[:, start : start + 79] < 128).any()  # a heading over each
        assert (headings[:, start + 78 : start + 84] == 255).all()  # none is cut
