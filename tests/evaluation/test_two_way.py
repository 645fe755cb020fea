"""PANet's two-way test at one and five shots, for every method, by the rule for overlaps of `segment`."""

from dataclasses import replace

import numpy as np
import pytest

from simpropnet_jax import models
from simpropnet_jax.config import recipes
from simpropnet_jax.episodes.protocols import PRESETS, episodes
from simpropnet_jax.evaluation.engine import device_functions
from simpropnet_jax.evaluation.engine.evaluator import Evaluator
from simpropnet_jax.evaluation.engine.image_bank import load_bank
from simpropnet_jax.inference import combine
from simpropnet_jax.setup.method import Method
from tests.fakes import SMALL, fake_source
from tests.small_checkpoint import random_weights

SIDE, SHOTS, COUNT = 33, (1, 5), 13  # as many as show each class of the fold in a query
FEW_SHOT = sorted(
    name
    for name, one in models.registered().items()
    if one.module.few_shot and one.module.__module__.startswith('simpropnet_jax.')  # not a test's
)


@pytest.fixture(scope='module')
def drawn():
    """(images of a fake data set, episodes of two classes)."""
    source = fake_source(n=120)
    protocol = replace(PRESETS['panet_2way'], episodes=COUNT)
    sets = {(shot, 0): episodes(protocol, source.index, 1, shot, 0) for shot in SHOTS}
    sizes = {'label_sizes': ('square',), 'backend': 'threads'}
    return source, sets, load_bank(source, sets, size=SIDE, **sizes)


@pytest.mark.slow
@pytest.mark.parametrize('name', FEW_SHOT)
def test_every_method_is_scored_on_two_classes(name, drawn, mesh_of):
    source, sets, bank = drawn
    config = recipes.get(models.find(name).recipe, 'fold=1')
    given = SMALL | {'model.convention': 'torchvision', 'model.dtype': 'float32'}
    lacking = {one for one in given if one[:6] == 'model.' and one[6:] not in config.model}
    known = {field: value for field, value in given.items() if field not in lacking}
    config.update_from_flattened_dict(known)
    method = Method.from_config(config)
    evaluator = Evaluator(
        method.module,
        bank,
        sets,
        classes=source.index.novel_classes(1),
        convention='torchvision',
        mesh=mesh_of(1),
        label_sizes=('square',),
        batch=4,
        ways=2,
    )
    shots = evaluator.run(random_weights(method, 0))['shots']
    assert list(shots) == ['1', '5']
    for shot, result in shots.items():
        counts = evaluator.episode_counts[int(shot)]
        assert result['episodes'] == {'0': COUNT} and len(counts.query) == 2 * COUNT
        assert counts.supports.shape == (2 * COUNT, int(shot))
        assert 0 <= result['square']['miou'] <= 1 and counts.counts['square'].union.sum() > 0


def test_a_pixel_goes_to_the_class_to_which_segment_gives_it():
    """Scores of an evaluation are differences of logits, which are `segment`'s log odds; some are equal."""
    scores = np.random.default_rng(0).normal(size=(2, 9, 11)).round(1).astype(np.float32)
    assert (scores[0] == scores[1]).any() and (scores == 0).any()
    label, _ = combine.winners(scores, scores.shape[1:])
    np.testing.assert_array_equal(device_functions.winners(scores[None])[0], label)
    assert set(np.unique(label)) == {0, 1, 2}
