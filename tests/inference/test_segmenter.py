"""The Segmenter against encode -> probe -> decode done by hand, and the files of `predict`."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import deeplabv3plus, shapes
from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.inference import Segmenter, read_support
from simpropnet_jax.inference import segmenter as segmenter_module
from simpropnet_jax.inference.run import output_names, predict
from simpropnet_jax.inference.segmenter import resize_aligned
from simpropnet_jax.models.self_support import confident
from simpropnet_jax.ops.resize import resize_bilinear
from simpropnet_jax.setup.run import store_config
from tests.fakes import SMALL
from tests.small_checkpoint import write_checkpoint

SIZE = 33  # of tests.fakes.SMALL
RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(work directory, method, weights): two checkpoints, the first the best, the second the latest."""
    workdir = tmp_path_factory.mktemp('small')
    return workdir, *write_checkpoint(workdir, steps=(1, 2))


@pytest.fixture(scope='module')
def segmenter(trained):
    return Segmenter.from_checkpoint(trained[0])


def picture(height, width):
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def mask(height, width):
    """Object in the middle, a void border on its left."""
    label = np.zeros((height, width), np.uint8)
    label[height // 4 : -height // 4, width // 3 :] = 1
    label[:, width // 4 : width // 3] = 255
    return label


def by_hand(method, variables, query, supports, rounds=0):
    """Probability of the foreground, one step after the other; rounds of self-support."""

    def run(name, *args):
        return method.module.apply(variables, *args, method=name)

    def square(x, how):
        return np.asarray(Image.fromarray(x).resize((SIZE, SIZE), how))

    image = square(query, Image.BILINEAR)[None]
    images = np.stack([square(image, Image.BILINEAR) for image, _ in supports])
    labels = np.stack([square(label, Image.NEAREST) for _, label in supports])
    masks, valid = (labels == 1).astype(np.float32), (labels != 255).astype(np.float32)
    encode = jax.jit(lambda images: run('encode', normalise(images, 'torchvision')))
    probe = run('probe', encode(images)[None], jnp.asarray(masks[None]), jnp.asarray(valid[None]))
    features, decode = (
        encode(image),
        jax.jit(lambda features, probe: run('decode', features, probe)),
    )
    logits = decode(features, probe)
    for _ in range(rounds):
        own = run('probe', features[None], *(mask[None] for mask in confident(logits)))
        logits = decode(features, jax.tree.map(lambda one, other: (one + other) / 2, probe, own))
    return jax.nn.softmax(resize_bilinear(logits, query.shape[:2]), -1)[0, ..., 1]


@pytest.mark.parametrize('shots', [1, 3])
def test_a_segmentation_is_encode_probe_decode(trained, segmenter, shots):
    query, supports = (
        picture(50, 71),
        [(picture(40 + k, 60), mask(40 + k, 60)) for k in range(shots)],
    )
    found, probability = segmenter.segment(query, supports)
    expected = np.asarray(by_hand(trained[1], trained[2][1], query, supports))
    assert np.ptp(expected) > 1e-4  # else the comparison says nothing
    np.testing.assert_allclose(probability, expected, atol=1e-5)
    sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(found[sure], expected[sure] > 0.5)
    assert (
        found.dtype == bool
        and probability.dtype == np.float32
        and found.shape == probability.shape == (50, 71)
    )


def test_a_query_becomes_its_own_support(trained, segmenter):
    query, supports = picture(50, 71), [(picture(40, 60), mask(40, 60))]
    found = (
        Segmenter.from_checkpoint(trained[0], self_support=2).segment(query, supports).probability
    )
    np.testing.assert_allclose(
        found, by_hand(trained[1], trained[2][1], query, supports, rounds=2), atol=1e-4
    )
    assert np.abs(found - segmenter.segment(query, supports).probability).max() > 1e-3


def test_several_classes_need_one_look_at_the_query(segmenter, monkeypatch):
    seen, encode, query = [], segmenter._encode, picture(50, 71)
    probes = [segmenter.probe([(picture(40, 60), mask(40, 60))]) for _ in range(3)]
    monkeypatch.setattr(segmenter, '_encode', lambda *given: seen.append(1) or encode(*given))
    log_odds = segmenter.log_odds(probes, query)
    assert len(seen) == 1 and len({one.tobytes() for one in log_odds}) == 3
    for probe, one in zip(probes, log_odds, strict=True):
        np.testing.assert_array_equal(
            resize_aligned(one, (50, 71)) > 0, segmenter.segment_with(probe, query).mask
        )


def test_void_is_neither_foreground_nor_background(segmenter):
    image, label = picture(40, 60), mask(40, 60)
    probes = [
        segmenter.probe([(image, np.where(label == 255, other, label))]).probe
        for other in (255, 0, 1)
    ]
    assert not np.allclose(probes[0].background, probes[1].background)
    assert not np.allclose(probes[0].foreground, probes[2].foreground)
    np.testing.assert_allclose(probes[0].foreground, probes[1].foreground, rtol=1e-5)
    np.testing.assert_allclose(probes[0].background, probes[2].background, rtol=1e-5)


def test_one_compilation_serves_queries_of_any_size_and_any_number_of_shots(trained, monkeypatch):
    traced = []
    monkeypatch.setattr(
        segmenter_module, 'normalise', lambda x, how: traced.append(x.shape) or normalise(x, how)
    )
    segmenter = Segmenter.from_checkpoint(trained[0])
    supports = [(picture(40, 60), mask(40, 60)), (picture(61, 30), mask(61, 30))]
    for shots in (1, 2, 1, 2):
        probe = segmenter.probe(supports[:shots])
        for size in ((20, 30), (33, 33), (1, 7)):
            assert segmenter.segment_with(probe, picture(*size)).mask.shape == size
    segmenter.fit, segmenter.tiles = 'pad', 3
    probe = segmenter.probe(supports)
    for size in ((20, 30), (200, 300)):
        assert segmenter.segment_with(probe, picture(*size)).mask.shape == size
    assert traced == [(1, SIZE, SIZE, 3)]  # supports, tiles and queries go through one program


def test_a_class_that_is_not_there_has_an_empty_mask(trained, segmenter):
    query, supports = picture(50, 71), [(picture(40, 60), mask(40, 60))]
    expected, probability = segmenter.segment(query, supports)
    scored = Segmenter.from_checkpoint(trained[0], absent_below=1e-6)
    found = scored.segment(query, supports)
    np.testing.assert_array_equal(found.mask, expected)
    assert 1e-6 < found.presence <= 1 and expected.any()
    scored.absent_below = 1.01  # more than any score
    again = scored.segment(query, supports)
    assert not again.mask.any() and again.probability.max() == 0
    assert again.presence == found.presence


def test_which_checkpoint(trained):
    query, supports = picture(33, 33), [(picture(33, 33), mask(33, 33))]
    for which, step in (('best', 1), ('latest', 2), ('2', 2)):
        _, probability = Segmenter.from_checkpoint(trained[0], which).segment(query, supports)
        np.testing.assert_allclose(
            probability, by_hand(trained[1], trained[2][step], query, supports), atol=1e-5
        )
    with pytest.raises(
        ValueError, match=r"the checkpoint must be .* a step that is there \(1, 2\), got '7'"
    ):
        Segmenter.from_checkpoint(trained[0], '7')


def test_the_host_resizes_as_the_device_does():
    values = RNG.normal(size=(5, 9)).astype(np.float32)
    for size in ((5, 9), (1, 1), (3, 4), (64, 41)):
        expected = resize_bilinear(jnp.asarray(values)[..., None], size)[..., 0]
        np.testing.assert_allclose(resize_aligned(values, size), expected, atol=1e-5)


def test_inference_needs_neither_tensorflow_nor_the_training(trained):
    script = (
        'import sys\n'
        'sys.modules["tensorflow"] = None\n'
        'import numpy as np\n'
        'from simpropnet_jax.inference import Segmenter\n'
        'image, mask = np.zeros((9, 9, 3), np.uint8), np.eye(9, dtype=bool)\n'
        'Segmenter.from_checkpoint(sys.argv[1]).segment(image, [(image, mask)])\n'
        'assert not [name for name in sys.modules if name.startswith("simpropnet_jax.training")]\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script, trained[0]],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def given(tmp_path, trained):
    """Arguments of `predict`: two supports, and a folder with three pictures, two of one stem, and a damaged one."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, size in (('a.png', (30, 40)), ('a.jpg', (50, 20)), ('b.png', (33, 33))):
        Image.fromarray(picture(*size)).save(folder / name)
    (folder / 'bad.jpg').write_text('no picture')
    supports = []
    for i in range(2):
        pair = tmp_path / f'support{i}.png', tmp_path / f'support{i}_mask.png'
        Image.fromarray(picture(40, 60)).save(pair[0])
        Image.fromarray(mask(40, 60)).save(pair[1])
        supports.append(pair)
    return {'checkpoint': trained[0], 'given': supports, 'query': [folder], 'out': tmp_path / 'out'}


def test_a_folder_of_queries(given, segmenter, monkeypatch, capsys):
    made = []
    probe = Segmenter.probe
    monkeypatch.setattr(
        Segmenter,
        'probe',
        lambda self, supports, **how: made.append(1) or probe(self, supports, **how),
    )
    assert [path.name for path in predict(**given)] == ['bad.jpg']
    assert len(made) == 1
    out = given['out']
    assert (
        capsys.readouterr().out == f'3 of 4 pictures segmented: masks and overlays are in {out}\n'
    )
    names = {'a.jpg', 'a.png', 'b'}
    masks = {f'{n}{e}' for n in names for e in ('_mask.png', '_overlay.jpg')}
    assert {path.name for path in out.iterdir()} == masks | {'run.json', 'done.jsonl'}
    for query, name in (('a.jpg', 'a.jpg'), ('a.png', 'a.png'), ('b.png', 'b')):
        expected, _ = segmenter.segment(given['query'][0] / query, given['given'])
        written = Image.open(out / f'{name}_mask.png')
        assert written.mode == 'L'
        np.testing.assert_array_equal(np.asarray(written), expected * np.uint8(255))
        assert Image.open(out / f'{name}_overlay.jpg').size == written.size


def test_no_two_queries_have_one_output():
    names = ['a.jpg', 'A.png', 'a.jpg.png', 'b.png', 'b.jpg']
    assert output_names([Path(name) for name in names]) == [
        'a.jpg_',
        'A.png',
        'a.jpg',
        'b.png',
        'b.jpg',
    ]


def rewrite(path, array):
    Image.fromarray(array).save(path)


MISTAKES = {
    r'none is not a checkpoint: it has no config.json; give a folder that `simpropnet train` wrote': lambda g: (
        g.update(checkpoint=Path('none'))
    ),
    r'empty has no checkpoints: train there first': lambda g: g.update(
        checkpoint=without_checkpoints(g)
    ),
    r'there is no support: give at least one image with its mask': lambda g: g.update(given=[]),
    r'support0_mask.png has no foreground: every pixel is 0; mark the object': lambda g: rewrite(
        g['given'][0][1], np.zeros((40, 60), np.uint8)
    ),
    r'support0_mask.png is 40 x 60 pixels, but .*support0.png is 60 x 40; a mask must have': lambda g: (
        rewrite(g['given'][0][1], mask(60, 40))
    ),
    r'support0_mask.png is too small: the network sees 33 x 33 of its 400 x 400 pixels, none of them': lambda g: [
        rewrite(g['given'][0][0], picture(400, 400)),
        rewrite(g['given'][0][1], speck(400)),
    ],
    r'there is no file .*missing.png': lambda g: g.update(
        given=[(Path('missing.png'), g['given'][0][1])]
    ),
    r'there is no file or folder .*missing to segment': lambda g: g.update(query=[Path('missing')]),
    r'bad.jpg is not a picture of any known format': lambda g: g.update(
        query=[g['query'][0] / 'bad.jpg']
    ),
    r'there are no pictures in .*checkpoints': lambda g: g.update(
        query=[g['checkpoint'] / 'checkpoints']
    ),
    r'photos is the folder of the queries: the output needs another': lambda g: g.update(
        out=g['query'][0]
    ),
    r'config.json is a file: the output needs a folder': lambda g: g.update(
        out=g['checkpoint'] / 'config.json'
    ),
    r'the output would replace .*support0_mask.png: give another folder': lambda g: g.update(
        query=[g['given'][0][0]], out=g['out'].parent
    ),
}


def without_checkpoints(given):
    folder = given['out'].parent / 'empty'
    folder.mkdir()
    (folder / 'config.json').write_bytes((given['checkpoint'] / 'config.json').read_bytes())
    return folder


def speck(size):
    label = np.zeros((size, size), np.uint8)
    label[12, 12] = 1  # between the pixels that the network sees
    return label


@pytest.mark.parametrize('sentence', MISTAKES)
def test_a_mistake_is_refused_in_one_sentence_before_anything_is_written(sentence, given):
    MISTAKES[sentence](given)
    before = sorted(given['out'].parent.rglob('*'))
    with pytest.raises((ValueError, OSError), match=sentence):
        predict(**given)
    assert sorted(given['out'].parent.rglob('*')) == before


@pytest.mark.parametrize('name', ['deeplab', 'classifier'])
def test_a_supervised_network_takes_no_examples(name, tmp_path):
    config = deeplabv3plus.get_config() if name == 'deeplab' else shapes.get_config('backbone')
    fields = {
        field: value
        for field, value in SMALL.items()
        if field != 'model.features' or name == 'deeplab'
    }
    config.update_from_flattened_dict(fields | {'model.convention': 'torchvision'})
    store_config(config, tmp_path)
    with pytest.raises(
        ValueError, match=f'holds {name}, which was trained to name classes and not to follow exam'
    ):
        Segmenter.from_checkpoint(tmp_path)


def test_a_mask_fits_its_image_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(picture(40, 60)).save(tmp_path / 'turned.jpg', exif=exif)
    assert read_support(tmp_path / 'turned.jpg', mask(60, 40))[0].shape == (60, 40, 3)
    with pytest.raises(ValueError, match='the mask is 60 x 40 pixels, but .*turned.jpg is 40 x 60'):
        read_support(tmp_path / 'turned.jpg', mask(40, 60))


def test_an_array_that_is_no_image_is_refused(segmenter):
    with pytest.raises(
        ValueError, match=r'an image must be uint8 RGB, \[H, W, 3\], got float32 \[4, 5, 3\]'
    ):
        segmenter.segment(np.zeros((4, 5, 3), np.float32), [(picture(9, 9), mask(9, 9))])
