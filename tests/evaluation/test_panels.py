"""Which episodes are drawn, by hand."""

import pytest

from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.panels import cases


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
