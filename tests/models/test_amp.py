"""AMP against PyTorch, its classes against the fold's, and what a step of it minimises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import amp as amp_config
from simpropnet_jax import models
from simpropnet_jax.backbones.resnet import ResNet
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.models.amp import AMP, Levels
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import loop, objectives
from simpropnet_jax.training.state import TrainState
from tests.fakes import SMALL

NOVEL = (6, 7, 8, 9, 10)
KNOWN = [c for c in range(21) if c not in NOVEL]
SIZE, SHOTS, HIDDEN = 33, 5, 20


def count(tree):
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ('words', 'backbone', 'head'), [('', 8_528_000, 3_889_155), ('vgg16', 14_714_688, 152_835)]
)
def test_the_configs_are_valid_and_their_networks_as_large_as_the_docstring_says(
    words, backbone, head
):
    config = amp_config.get_config(f'fold=1,{words}')
    config_rules.validate(config, devices=1)
    config.model.convention = 'keras'
    method = Method.from_config(config)
    variables = method.abstract()
    params = variables['params']
    assert (count(params['backbone']), count(params) - count(params['backbone'])) == (
        backbone,
        head,
    )
    assert method.module.novel == NOVEL
    image = jax.ShapeDtypeStruct((1, 65, 65, 3), jnp.float32)
    levels = jax.eval_shape(
        lambda v, x: method.module.apply(v, x, method='encode'), variables, image
    )
    shallow = (9, 9, 256) if words == 'vgg16' else (17, 17, 256)
    assert [x.shape[1:] for x in levels] == [(9, 9, 256), (9, 9, 512), shallow]


@pytest.mark.parametrize(
    ('words', 'episodic'), [('', False), ('crc', True), ('tpc', True), ('tpc_mixed', True)]
)
def test_it_is_trained_on_episodes_where_a_constraint_needs_them(words, episodic):
    config = amp_config.get_config(f'cpu,{words}')
    config.model.update(convention='keras', dtype='float32')
    method = Method.from_config(config)
    assert method.episodic == episodic and method.supervised and method.few_shot


@pytest.fixture(scope='module')
def found():
    """What a narrow network on a ResNet makes of six images, the last one being the query; and what it was given."""
    module = AMP(width=4, features=6, novel=NOVEL, encoder='resnet14')
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(SHOTS + 1, SIZE, SIZE, 3)), jnp.float32)
    masks = jnp.asarray(rng.uniform(size=(SHOTS, SIZE, SIZE)) < 0.3, jnp.float32)
    valid = jnp.asarray(rng.uniform(size=(SHOTS, SIZE, SIZE)) < 0.9, jnp.float32)
    given = {'masks': masks, 'valid': valid, 'images': images}

    @jax.jit
    def run():
        params = module.init(jax.random.key(0), images[:1], masks[:1])['params']
        # Classes that matter: rows near features, and scales that differ.
        params |= {'scales': jnp.array([20.0, 15.0, 10.0])}
        params |= {name: jnp.abs(params[name]) for name in ('deep', 'middle', 'shallow')}

        def call(name, *args):
            return module.apply({'params': params}, *args, method=name)

        backbone = ResNet(width=4, stride_on='3x3', depths=(1, 1, 1)).apply(
            {'params': params['backbone']}, images
        )
        features = call('encode', images)
        query = jax.tree.map(lambda x: x[SHOTS:], features)
        result = {'params': params, 'backbone': backbone, 'classes': call('logits', images)}
        for shots in (1, SHOTS):
            supports = jax.tree.map(lambda x, shots=shots: x[None, :shots], features)
            probe = call('probe', supports, masks[None, :shots], valid[None, :shots])
            hidden = module.as_novel(probe, jnp.array([HIDDEN]))
            result[f'{shots}-shot'] = call('decode', query, probe), call('decode', query, hidden)
        return result | {'maps': call('maps', query, probe)}

    return jax.device_get(run()), jax.device_get(given)


@pytest.fixture(scope='module')
def theirs(found):
    """The same network in PyTorch: (scores of the images' pixels by any rows, rows, features)."""
    torch = pytest.importorskip('torch')
    f = torch.nn.functional
    ours, _ = found
    params, tensor = ours['params'], lambda x: torch.tensor(np.asarray(x))
    layers = {name: tensor(x).permute(0, 3, 1, 2) for name, x in ours['backbone'].items()}

    def layer(name, x, **how):
        own = params[name]
        return f.relu(
            f.conv2d(x, tensor(own['kernel']).permute(3, 2, 0, 1), tensor(own['bias']), **how)
        )

    both = torch.cat([layers['layer2'], layers['layer3']], 1)
    features = (
        layer('project', both, padding=2, dilation=2),
        layer('project_middle', layers['layer2']),
        layer('project_shallow', layers['layer1']),
    )
    rows = [
        f.normalize(tensor(params[name])[KNOWN], dim=1) for name in ('deep', 'middle', 'shallow')
    ]

    def scores(features, rows):
        total = None
        for level, row, scale in zip(features, rows, (20.0, 15.0, 10.0), strict=True):
            found = scale * f.conv2d(f.normalize(level, dim=1), row[:, :, None, None])
            if total is not None:
                found += f.interpolate(total, found.shape[2:], mode='bilinear', align_corners=True)
            total = found
        return total

    return scores, rows, features


def test_names_of_classes_are_a_softmax_of_sixteen_as_pytorchs(found, theirs):
    ours, (scores, rows, features) = found[0]['classes'], theirs
    np.testing.assert_allclose(
        ours[..., KNOWN], scores(features, rows).permute(0, 2, 3, 1).numpy(), rtol=1e-3, atol=1e-3
    )
    shares = np.asarray(jax.nn.softmax(ours))
    assert (shares[..., list(NOVEL)] == 0).all()
    np.testing.assert_allclose(shares[..., KNOWN].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize('shots', [1, SHOTS])
def test_imprinting_is_that_of_an_independent_pytorch_version(found, theirs, shots):
    import torch

    f, alpha = torch.nn.functional, 0.25821
    ours, given = found
    scores, rows, features = theirs
    masks, valid = (torch.tensor(given[name][:shots]) for name in ('masks', 'valid'))
    imprinted = []
    for level, row in zip(features, rows, strict=True):
        full = f.interpolate(level[:shots], (SIZE, SIZE), mode='bilinear', align_corners=True)

        def mean(m, full=full):
            return ((full * m[:, None]).sum((2, 3)) / m.sum((1, 2))[:, None]).mean(0)

        background = f.normalize((1 - alpha) * row[0] + alpha * mean((1 - masks) * valid), dim=0)
        imprinted.append(
            torch.stack([background, *row[1:], f.normalize(mean(masks * valid), dim=0)])
        )
    all_scores = scores([level[SHOTS:] for level in features], imprinted)[0].numpy()
    hidden = KNOWN.index(HIDDEN)
    answers = all_scores[:-1], np.delete(all_scores[:-1], hidden, 0)
    for decoded, others in zip(ours[f'{shots}-shot'], answers, strict=True):
        np.testing.assert_allclose(decoded[0, ..., 0], others.max(0), rtol=1e-3, atol=2e-3)
        np.testing.assert_allclose(decoded[0, ..., 1], all_scores[-1], rtol=1e-3, atol=2e-3)
        np.testing.assert_array_equal(  # the sign is the released code's argmax
            decoded[0, ..., 1] > decoded[0, ..., 0],
            np.concatenate([others, all_scores[-1:]]).argmax(0) == len(others),
        )
    assert (all_scores[:-1].argmax(0) == hidden).any()  # hiding it makes a difference
    if shots == SHOTS:
        shares = np.exp(all_scores - all_scores.max(0)) / np.exp(
            all_scores - all_scores.max(0)
        ).sum(0)
        np.testing.assert_allclose(ours['maps']['novel class'][0], shares[-1], atol=2e-3)
        np.testing.assert_allclose(ours['maps']['base classes'][0], shares[1:-1].sum(0), atol=2e-3)


class AMPOnPixels(AMP):
    """In place of the backbone: every eighth and every fourth pixel."""

    def encode(self, images, train=False):
        wide = jnp.concatenate([images, -images, images[..., :2]], -1)
        pixels = jax.nn.relu(wide)
        return Levels(
            jax.nn.relu(self.project(wide[:, ::8, ::8])),
            pixels[:, ::8, ::8],
            pixels[:, ::4, ::4, :4],
        )


def small(**fields):
    return AMPOnPixels(width=1, features=6, novel=NOVEL, **fields)


def test_the_losses_of_labels_and_episodes_add_and_reach_all_that_is_trained():
    config = amp_config.get_config('fold=1,crc,cpu')
    config.train.size = SIZE
    module, rng = small(dropout=0.5), np.random.default_rng(0)
    params = module.init(
        jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )['params']

    def square(*shape):
        return (2, *shape, SIZE, SIZE)

    classes = rng.choice([0, 3, 7, 12, 255], square()).astype(np.uint8)
    batch = {
        'support_image': rng.integers(0, 256, (*square(1), 3), np.uint8),
        'class_id': np.array([3, 12], np.int32),
        'support_label': rng.choice([0, 1], square(1)).astype(np.uint8),
        'query_classes': classes,
        'query_image': rng.integers(0, 256, (*square(), 3), np.uint8),
        'query_label': (classes == np.array([3, 12])[:, None, None]).astype(np.uint8),
    }
    batch['support_label'][0] = 0  # nothing to imprint
    batch = jax.tree.map(jnp.asarray, batch)
    shared = dict(convention='torchvision')
    labels = objectives.supervised(module, hidden=NOVEL, episodes=True, **shared)
    of_episodes = objectives.episodic(module, config.train, void='ignore', steps=5, **shared)
    both = objectives.add_objectives(labels, of_episodes)

    @jax.jit
    def run(params):
        def state(p):
            return TrainState(jnp.zeros((), jnp.int32), p, {}, ())

        (loss, (metrics, _)), gradients = jax.value_and_grad(
            lambda p: both(state(p), batch, jax.random.key(1)), has_aux=True
        )(params)
        keys = jax.random.split(jax.random.key(1))
        alone = [
            one(state(params), batch, key)[0]
            for one, key in zip((labels, of_episodes), keys, strict=True)
        ]
        return gradients, metrics, loss, alone

    gradients, metrics, loss, alone = run(params)
    assert float(loss) == pytest.approx(float(sum(alone)))
    assert {name for name in metrics if name.startswith('loss_')} == {
        'loss_classes',
        'loss_query',
        'loss_cycle',
    }
    assert float(loss) == pytest.approx(
        float(sum(v for name, v in metrics.items() if name.startswith('loss_')))
    )
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
    for name in ('deep', 'middle', 'shallow'):
        moved = np.abs(gradients[name]).max(1) > 0
        assert moved[KNOWN].all() and not moved[list(NOVEL)].any()
    assert all(np.any(g != 0) for g in (*gradients['project'].values(), gradients['scales']))


def test_a_training_with_both_constraints_selects_by_novel_classes_and_segments_pictures(
    prepared_data, tmp_path, monkeypatch, one_device
):
    monkeypatch.setattr(models, 'build', lambda model, *_: small(dropout=model.dropout))
    config = amp_config.get_config('fold=1,crc,tpc')
    config.update_from_flattened_dict(
        SMALL
        | {
            'data.dir': str(prepared_data),
            'tpc.steps': 2,
            'train.steps': 2,
            'select.every': 2,
            'train.frozen': (),
        }
    )
    state = loop.train_and_evaluate(config, tmp_path / 'run')
    assert int(state.step) == 4
    metrics = (tmp_path / 'run' / 'metrics.jsonl').read_text()
    assert 'novel_val_miou' in metrics and 'loss_classes' in metrics and 'loss_cycle' in metrics
    picture = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    segmenter = Segmenter.from_checkpoint(tmp_path / 'run')
    mask, probability = segmenter.segment(picture, [(picture, picture[..., 0] > 127)])
    assert mask.shape == (40, 50) and ((probability > 0.5) == mask).all()
    config.train.classes = 'all'
    with pytest.raises(ValueError, match="config.train.classes must be 'base' for amp, got 'all'"):
        loop.train_and_evaluate(config, tmp_path / 'all')
