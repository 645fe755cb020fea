"""How masks of supports are understood, by the command and the Python API: one line each, or a refusal."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.inference import Segmenter, describe_mask, read_support, supports
from simpropnet_jax.io.masks import MaskOptions

HEIGHT, WIDTH = 60, 80
PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8)).resize(
        (WIDTH, HEIGHT), Image.BICUBIC
    )
)
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
DISTANCE = np.hypot(ROWS - 30, COLUMNS - 35)
DISK = DISTANCE < 15
SHARE = f'{100 * DISK.mean():.1f} %'
TRIMAP = np.select([DISTANCE < 14, DISTANCE < 16], [255, 128], 0).astype(np.uint8)
SOFT = np.clip((18 - DISTANCE) * 255 / 6, 0, 255).astype(np.uint8)
TWICE = np.roll(np.kron(DISK, np.full((2, 2), 255)).astype(np.uint8), 1, (0, 1))
HALVED = np.asarray(Image.fromarray(TWICE).resize((WIDTH, HEIGHT), Image.BOX))
NOISE = np.random.default_rng(1).integers(0, 3, DISK.shape).astype(np.uint8)
CLASSES = np.select([DISK, ROWS < 5, ROWS > 55], [8, 15, 255], 0).astype(np.uint8)

REFUSED = {  # the mask, what is said, the flags that read it
    'trimap.png': (TRIMAP, r'shades of gray \(0, 128, 255\)', ['--mask_threshold', '128']),
    'halved.png': (HALVED, r'shades of gray \(0, .*255', ['--mask_threshold', '128']),
    'soft.png': (np.dstack([SOFT] * 3), 'shades of gray', ['--mask_threshold', '128']),
    'photo.png': (PIXELS, 'as a photograph', None),
    'probability.tif': (
        (SOFT / 255).astype(np.float32),
        'has fractions',
        ['--mask_threshold', '0.5'],
    ),
    'one_two.png': (2 - DISK.astype(np.uint8), 'no 0', ['--mask_value', '1']),
}
READ = {  # the mask, flags
    'plain.png': (DISK.astype(np.uint8) * 255, []),
    'cut_out.png': (np.dstack([PIXELS, np.where(DISK, 255, NOISE)]).astype(np.uint8), []),
    'nan.tif': (np.where(DISK, 1, np.nan).astype(np.float32), []),
    'minus.tif': (np.where(DISK, 1, -1).astype(np.float32), []),
    'cells.png': (np.where(DISK, ROWS // 3 * 27 + COLUMNS // 3 + 1, 0).astype(np.uint16), []),
    'white.png': (np.where(DISK, 0, 255).astype(np.uint8), ['--invert']),
    'voc.png#8': (CLASSES, []),
    'voc.png': (CLASSES, ['--mask_value', '8']),
}


class LookedError(Exception):
    """The supports were read: nothing more is to be done."""


class Sized(Segmenter):
    """As far as the supports, without a network."""

    def __init__(self):
        self.size, self.step = 33, 1

    def weights_hash(self):
        raise LookedError


@pytest.fixture
def segment(tmp_path, monkeypatch, capsys):
    """What `simpropnet segment` logs of supports, with more flags."""
    Image.fromarray(PIXELS).save(tmp_path / 'cat1.png')
    monkeypatch.setattr(Segmenter, 'from_checkpoint', lambda path, **how: Sized())
    paths = {'--checkpoint': tmp_path, '--query': tmp_path / 'cat1.png', '--out': tmp_path / 'out'}
    common = [str(word) for pair in paths.items() for word in pair]

    def run(*words):
        capsys.readouterr()
        with pytest.raises(LookedError):
            simpropnet(['segment', *common, *map(str, words)])
        return [line.split('  ', 1)[1] for line in capsys.readouterr().err.splitlines()]

    def fail(*words):
        simpropnet(['segment', *common, *map(str, words)])

    run.fail = fail
    return run


def save(values, path):
    path = path.with_name(path.name.partition('#')[0])
    Image.fromarray(values).save(path)


def keywords(flags):
    """Arguments of the Python API that flags stand for."""
    if flags == ['--invert']:
        return {'invert': True}
    return {flags[0][2:]: float(flags[1])} if flags else {}


@pytest.mark.parametrize('name', REFUSED)
def test_an_unclear_mask_is_refused_until_a_flag_says_how_to_read_it(
    name, segment, tmp_path, capsys
):
    values, sentence, flags = REFUSED[name]
    save(values, tmp_path / name)
    support = ['--support', tmp_path / 'cat1.png', tmp_path / name]
    with pytest.raises(SystemExit):
        segment.fail(*support)
    said = capsys.readouterr().err
    assert re.search(f'error: .*{name} .*{sentence}', said)
    with pytest.raises(ValueError, match=sentence):
        read_support(tmp_path / 'cat1.png', tmp_path / name)
    if values.ndim == 2:
        with pytest.raises(ValueError, match=f'the mask .*{sentence}'):
            read_support(PIXELS, values)
    if flags:
        line = segment(*support, *flags)[0]
        share = float(re.fullmatch(r'cat1.png: object (.*) %, void 0.0 %', line)[1])
        assert abs(share - 100 * DISK.mean()) < 2.5
        _, label = read_support(tmp_path / 'cat1.png', tmp_path / name, **keywords(flags))
        assert describe_mask(label, 'cat1.png') == line


@pytest.mark.parametrize('name', READ)
def test_a_clear_mask_is_read_and_its_line_says_so(name, segment, tmp_path):
    values, flags = READ[name]
    save(values, tmp_path / name)
    (line,) = segment('--support', 'cat', tmp_path / 'cat1.png', tmp_path / name, *flags)
    void = f'{100 * (values == 255).mean():.1f}' if values is CLASSES else '0.0'
    assert line == f'cat1.png: object {SHARE}, void {void} %'
    _, label = read_support(tmp_path / 'cat1.png', tmp_path / name, **keywords(flags))
    np.testing.assert_array_equal(label == 1, DISK)


def test_what_looks_wrong_is_warned_of(segment, tmp_path):
    for name, values in {
        'white.png': np.where(DISK, 0, 255),
        'void.png': np.select([DISK, ROWS < 50], [1, 255], 0),
        'plain.png': DISK * 255,
    }.items():
        save(values.astype(np.uint8), tmp_path / name)
    image = tmp_path / 'cat1.png'
    lines = segment('--support', image, tmp_path / 'white.png')
    assert 'cat1.png: the object covers nearly the whole border; is it the background' in lines[1]
    assert '--invert' in lines[1]
    lines = segment('--support', image, tmp_path / 'void.png')
    assert lines[1] == 'cat1.png: void is larger than the object'
    pair = image, tmp_path / 'plain.png'
    lines = segment('--support', 'cat', *pair, '--support', 'dog', *pair)
    assert lines[2] == 'cat and dog have the same mask'


def test_the_python_api_takes_files_arrays_and_pillow_images():
    _, label = read_support(PIXELS, DISK)
    for image in (Image.fromarray(PIXELS), jnp.asarray(PIXELS)):
        for mask in (
            DISK[..., None],
            DISK * 1.0,
            DISK.astype(np.uint8) * 255,
            jnp.asarray(DISK),
            jnp.asarray(DISK, jnp.bfloat16),
            Image.fromarray(DISK),
        ):
            pixels, found = read_support(image, mask)
            np.testing.assert_array_equal(pixels, PIXELS)
            np.testing.assert_array_equal(found, label)


def test_the_api_reads_coco_json(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / 'a.png')
    box = {
        'id': 1,
        'image_id': 1,
        'category_id': 1,
        'segmentation': [[10, 5, 30, 5, 30, 25, 10, 25]],
    }
    (tmp_path / 'coco.json').write_text(
        json.dumps(
            {
                'images': [{'id': 1, 'file_name': 'a.png', 'height': HEIGHT, 'width': WIDTH}],
                'categories': [{'id': 1, 'name': 'cat'}, {'id': 2, 'name': 'dog'}],
                'annotations': [box],
            }
        )
    )
    for mask in ('coco.json', 'coco.json#cat'):
        assert read_support(tmp_path / 'a.png', tmp_path / mask)[1].sum() == 400
    with pytest.raises(ValueError, match="no annotation of 'dog'"):
        read_support(tmp_path / 'a.png', f'{tmp_path}/coco.json#dog')
    with pytest.raises(ValueError, match='coco.json holds annotations: .* for masks of pixels'):
        read_support(tmp_path / 'a.png', tmp_path / 'coco.json', invert=True)
    with pytest.raises(ValueError, match='coco.json holds annotations: .* for masks of pixels'):
        pairs = supports.parse([(tmp_path / 'a.png', tmp_path / 'coco.json')])
        supports.read_all(pairs, 33, MaskOptions(invert=True))
    with pytest.raises(ValueError, match='by the name of the image: give its file'):
        read_support(PIXELS, tmp_path / 'coco.json')


def test_the_command_says_how_it_found_annotations_and_what_crowds_are(segment, tmp_path):
    outline = {'size': [HEIGHT, WIDTH], 'counts': [600, 1800, 2400]}
    rows = [
        {'id': 1, 'image_id': 1, 'category_id': 1, 'iscrowd': 1, 'segmentation': outline},
        {'id': 2, 'image_id': 1, 'category_id': 1, 'segmentation': [], 'bbox': [1, 2, 3, 4]},
    ]
    name = '/data/upload/4/cb0618f6-cat1.png'
    images = [{'id': 1, 'file_name': name, 'height': HEIGHT, 'width': WIDTH}]
    content = {'images': images, 'categories': [{'id': 1, 'name': 'cat'}], 'annotations': rows}
    (tmp_path / 'result.json').write_text(json.dumps(content))
    support = '--support', 'cat', tmp_path / 'cat1.png', tmp_path / 'result.json'
    with pytest.raises(SystemExit):
        segment.fail(*support)
    found = "2 annotations of cat in result.json, found by the last part of its name, without Label Studio's prefix"
    assert segment(*support, '--crowds', 'object') == [
        f'cat1.png: {found}',
        'cat1.png: 1 x crowd (iscrowd 1), read as an object',
        'cat1.png: 1 x annotation without a mask, but perhaps with a box (not used)',
        'cat1.png: object 37.5 %, void 0.0 %',
    ]


def test_the_segmenter_logs_a_line_for_each_support_and_warns_of_twins(caplog):
    segmenter = Sized()
    segmenter._variables, seen = None, []
    segmenter._encode = lambda variables, picture: picture
    segmenter._probe = lambda variables, encoded, labels: seen.append(labels) or [None] * 4
    segmenter._difference = lambda *given: np.zeros((5, 5), np.float32)
    with caplog.at_level('INFO', 'simpropnet_jax.inference'):
        first = segmenter.probe([(PIXELS, DISK), (PIXELS, TRIMAP)], mask_threshold=1)
        other = segmenter.probe([(PIXELS[::-1].copy(), DISK)])
        third = segmenter.probe([(PIXELS, DISK[::-1])])
        segmenter.look([first, third], PIXELS)
        for _ in range(2):
            segmenter.look([first, third, other], PIXELS)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == f'support 1: object {SHARE}, void 0.0 %' and said[1].startswith(
        'support 2: ob'
    )
    assert said[4:] == ['probes 1 and 3 have the same mask: is one of another class?']
    assert seen[0].shape == (2, 33, 33)
