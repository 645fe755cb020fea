"""PANet against a plain PyTorch version: prototypes at the masks' size, cosines, and its alignment loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import panet as panet_config
from simpropnet_jax.models.panet import PANet
from simpropnet_jax.setup.method import Method
from simpropnet_jax.training import objectives

SIZE, CELLS = 33, 5


class OnPixels(PANet):
    """In place of the encoder: every eighth pixel, through the layer that is trained."""

    def encode(self, images, train=False):
        return self.project(images[:, ::8, ::8])


@pytest.fixture(scope='module')
def module():
    return OnPixels(features=6)


@pytest.fixture(scope='module')
def params(module):
    params = module.init(
        jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), jnp.zeros((1, SIZE, SIZE))
    )['params']
    return jax.tree.map(lambda x: 30 * x, params)


@pytest.mark.parametrize(
    ('argument', 'trainable', 'whole'),
    [
        ('', 3 * 3 * 1536 * 256 + 256, 12_067_200),
        ('vgg16', 14_714_688, 14_714_688),
    ],
)
def test_parameters_are_the_published_encoder_or_one_layer(argument, trainable, whole):
    config = panet_config.get_config(argument)
    config.model.convention = 'torchvision'
    image = jnp.zeros((1, SIZE, SIZE, 3))
    shapes = jax.eval_shape(
        Method.from_config(config).module.init, jax.random.key(0), image, image[..., 0]
    )['params']
    count = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in shapes.items()}
    assert sum(count.values()) == whole
    assert sum(count[name] for name in count if name not in config.train.frozen) == trainable


def draw(batch=3, shots=5):
    """Images, masks with void, and a query that is nothing but background for the last episode."""
    rng = np.random.default_rng(1)
    supports, queries = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((batch, shots, SIZE, SIZE, 3), (batch, SIZE, SIZE, 3))
    )
    masks = rng.integers(0, 2, (batch, shots, SIZE, SIZE)).astype(np.float32)
    masks[:, :, :, SIZE // 2 :] = 0
    supports += 2 * masks[..., None]
    queries[:, :, : SIZE // 2] += 1
    queries[-1] = -5
    valid = (rng.uniform(size=masks.shape) > 0.1).astype(np.float32)
    return supports, masks * valid, valid, queries


def torch_panet(torch, params, supports, masks, valid, queries):
    """Logits of queries at the features' size, and the alignment loss of each episode, as the paper says them."""
    functional = torch.nn.functional
    kernel = torch.tensor(np.array(params['project']['kernel'])).permute(3, 2, 0, 1)
    bias = torch.tensor(np.array(params['project']['bias']))

    def encode(x):
        return functional.conv2d(
            torch.tensor(x)[:, ::8, ::8].permute(0, 3, 1, 2), kernel, bias, 1, 2, 2
        )

    def larger(x):
        return functional.interpolate(x, size=(SIZE, SIZE), mode='bilinear', align_corners=True)

    def average(features, mask):
        return (larger(features[None]) * mask).sum((2, 3)) / (mask.sum() + 5e-4)

    def cosine(features, one):
        return 20 * torch.cosine_similarity(features, one[..., None, None], dim=1)

    logits, losses = [], []
    for images, mask, known, query in zip(supports, masks, valid, queries, strict=True):
        support = encode(images)
        mask, known = torch.tensor(mask), torch.tensor(known)
        pairs = list(zip(support, mask, known, strict=True))
        foreground = sum(average(f, m) for f, m, _ in pairs) / len(pairs)
        background = sum(average(f, (1 - m) * k) for f, m, k in pairs) / len(pairs)
        feature = encode(query[None])
        logits.append(
            torch.stack([cosine(feature, background), cosine(feature, foreground)], -1)[0]
        )
        chosen = logits[-1].argmax(-1).float()
        if not chosen.any():
            losses.append(None)
            continue
        own = [(feature * m).sum((2, 3)) / (m.sum() + 5e-4) for m in (1 - chosen, chosen)]
        back = larger(torch.stack([cosine(support, one) for one in own], 1))
        label = torch.where(known == 0, 255, mask.long())
        losses.append(
            functional.cross_entropy(back, label.long(), ignore_index=255, reduction='sum')
        )
    return logits, losses


def test_prototypes_cosines_and_the_alignment_loss_are_pytorchs(module, params):
    torch = pytest.importorskip('torch', reason='PyTorch is the reference for PANet')
    supports, masks, valid, queries = draw()
    logits, losses = torch_panet(torch, params, supports, masks, valid, queries)
    assert [loss is None for loss in losses] == [
        False,
        False,
        True,
    ]  # one query predicts no object: it is skipped
    arrays = [jnp.asarray(x) for x in (supports, masks, valid, queries, masks[:, 0], valid[:, 0])]
    episodes = objectives.Episodes(*arrays, jnp.ones(3, jnp.int32))

    @jax.jit
    def ours(params):
        found = module.apply(
            {'params': params}, episodes, None, dual=False, cycle='hard', method=objectives.forward
        )
        flat = [jnp.asarray(x.reshape(-1, SIZE, SIZE)) for x in (masks, valid)]
        seen = objectives._where_predicted(found['query'], flat[1])
        return found, objectives.cross_entropy(found['cycle'], flat[0], seen)

    found, loss = ours(params)
    np.testing.assert_allclose(found['query'], torch.stack(logits).numpy(), rtol=1e-3, atol=1e-4)
    counted = float(valid[:2].sum())
    assert float(loss) == pytest.approx(
        float(sum(loss for loss in losses if loss is not None)) / counted, rel=1e-4
    )


def test_crc_takes_the_place_of_alignment():
    config = panet_config.get_config('crc')
    assert (config.train.crc, config.train.alignment) == (True, False)
    assert panet_config.get_config().train.alignment
