"""Training a backbone by naming classes: loss, batches, and what another method gets of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import shapes
from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.episodes import augment, loader
from simpropnet_jax.episodes.sampler import TrainSampler
from simpropnet_jax.ops.grid import Grid
from simpropnet_jax.setup.run import prepare_method
from simpropnet_jax.training import loop, objectives
from tests.fakes import SMALL, decoded, fake_source


def test_loss_ignores_void_and_novel_classes(monkeypatch):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 5, 5, 21)).astype(np.float32)
    labels = rng.choice([0, 3, 9, 255], (2, 5, 5)).astype(np.uint8)

    class Fixed:
        grid = Grid()

        def apply(self, variables, images, train, method, rngs):
            return jnp.asarray(logits)

    monkeypatch.setattr(augment, 'turn_and_flip', lambda key, images, labels: (images, labels))
    objective = objectives.supervised(Fixed(), convention='torchvision', hidden=(9, 10))
    state = ConfigDict({'variables': {}})
    batch = {'image': jnp.zeros((2, 5, 5, 3), jnp.uint8), 'label': jnp.asarray(labels)}
    loss, (metrics, _) = objective(state, batch, jax.random.key(0))
    kept = (labels == 0) | (labels == 3)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, np.where(kept, labels, 0)[..., None], -1)[..., 0][
        kept
    ].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        metrics['accuracy_of_objects'], (logits.argmax(-1) == 3)[labels == 3].mean()
    )

    weighed = objectives.supervised(
        Fixed(), convention='torchvision', hidden=(9, 10), foreground_weight=4.0
    )
    losses = -np.take_along_axis(log_p, np.where(kept, labels, 0)[..., None].astype(int), -1)[
        ..., 0
    ]
    expected = np.average(losses[kept], weights=np.where(labels[kept] == 3, 4, 1))
    np.testing.assert_allclose(weighed(state, batch, jax.random.key(0))[0], expected, rtol=1e-5)


def test_image_and_label_turn_together_into_eight_positions():
    label = np.arange(9, dtype=np.uint8).reshape(3, 3)
    labels = jnp.asarray(np.tile(label, (200, 1, 1)))
    images = jnp.repeat(labels[..., None], 3, -1)
    images, labels = augment.turn_and_flip(jax.random.key(0), images, labels)
    np.testing.assert_array_equal(images[..., 0], labels)
    assert len({np.asarray(one).tobytes() for one in labels}) == 8


def test_batches_are_whole_labels_and_go_on_from_any_step():
    source = fake_source()
    pairs = listed_pairs(source.index, 'trainaug', range(1, 21), 'none')
    sampler = TrainSampler(pairs, shot=1, seed=0, fold=0, batch=4)

    def from_step(n, **hosts):
        return loader.supervised_batches(
            source, sampler, batch=4, first_step=n, size=65, backend='threads', **hosts
        )

    first, second = (next(batches) for batches in (from_step(0), from_step(1)))
    assert first['image_id'].tolist() == [sampler(i).query for i in range(4)]
    for number, label in zip(first['image_id'], first['label'], strict=True):
        assert set(np.unique(label)) == set(np.unique(decoded(source.example(number)[1])))
    running = from_step(0)
    next(running)
    for name, array in next(running).items():
        np.testing.assert_array_equal(array, second[name])
    halves = [next(from_step(1, process_index=p, process_count=2))['image'] for p in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), second['image'])


def test_another_method_stands_on_the_backbone_that_was_trained(prepared_data, tmp_path):
    def config(**changes):
        made = shapes.get_config()
        made.update_from_flattened_dict(
            SMALL | {'data.dir': str(prepared_data), 'train.steps': 1} | changes
        )
        return made

    of_backbone = config()
    shapes.backbone(of_backbone)
    state = loop.train_and_evaluate(of_backbone, tmp_path / 'backbone')
    method = prepare_method(
        config(**{'model.weights': str(tmp_path / 'backbone')}), tmp_path / 'new'
    )
    jax.tree.map(
        np.testing.assert_array_equal, method.pretrained['backbone'], state.params['backbone']
    )
    with pytest.raises(ValueError, match='config.model.width is 8, but the backbone in .* has 4'):
        wider = config(**{'model.weights': str(tmp_path / 'backbone'), 'model.width': 8})
        prepare_method(wider, tmp_path / 'new')
    with pytest.raises(ValueError, match='a folder in which nothing was trained'):
        prepare_method(config(**{'model.weights': str(tmp_path)}), tmp_path / 'new')
