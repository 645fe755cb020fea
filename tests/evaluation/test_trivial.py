"""Answers that understand nothing score little on shapes5i, and exactly what they should on a picture made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes import protocols
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation import trivial
from tests.fakes import FakeSource, encode


@pytest.fixture(scope='module')
def validation(tmp_path_factory):
    """The whole validation list."""
    folder = tmp_path_factory.mktemp('shapes')
    return Source(
        'shapes5i', *shapes5i.load(folder, {'val': shapes5i.IMAGES['val']}), shapes5i.CLASS_NAMES
    )


@pytest.mark.parametrize('fold', range(4))
def test_trivial_answers_fail_on_shapes5i(validation, fold):
    protocol = replace(protocols.get_protocol('simpropnet'), episodes=200)
    episodes = protocols.episodes(protocol, validation.index, fold, 1, 0)
    scores = trivial.score(validation, episodes, novel_classes(fold), size=129)
    assert scores.keys() == trivial.PREDICTORS.keys()
    assert 0 < min(scores.values()) and max(scores.values()) < 0.35


def flat(colour, where):
    """A black picture and its label: class 1, in a colour, in some place; one void column at the right."""
    image, label = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    image[where], label[where] = colour, 1
    label[:, 39] = 255
    return image, label


def test_scores_on_a_picture_made_by_hand():
    box, corner = np.s_[10:30, 10:30], np.s_[:20, :20]
    pictures = [flat((250, 0, 0), box), flat((250, 0, 0), corner)]
    index = Index.build(
        ((str(i), label) for i, (_, label) in enumerate(pictures)), {'val': ['0', '1']}
    )
    source = FakeSource('two', ('0', '1'), index, tuple(encode(*picture) for picture in pictures))
    scores = trivial.score(source, [Episode(0, (1,), 1, 0)], (1,), size=40)
    assert scores['all foreground'] == pytest.approx(400 / (40 * 39))
    assert scores['centre box'] == 1
    assert scores['copy of the support'] == pytest.approx(100 / 700)
    assert scores['mean RGB'] > 0.9  # JPEG blurs the border


def test_mean_rgb_of_a_support_without_object_or_without_background_is_nothing():
    image = np.zeros((8, 8, 3), np.uint8)
    for mask in (np.zeros((1, 8, 8), bool), np.ones((1, 8, 8), bool)):
        assert not trivial.mean_rgb(image, image[None], mask).any()
