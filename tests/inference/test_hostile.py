"""Files that nobody would give on purpose, to a small network: each gives a mask or one plain sentence."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.inference import Segmenter, read_support, supports
from simpropnet_jax.inference.run import predict
from simpropnet_jax.io import images
from tests.small_checkpoint import write_checkpoint

WIDTH, HEIGHT = 40, 30
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
OBJECT = np.zeros((HEIGHT, WIDTH), np.uint8)
OBJECT[5:20, 10:30] = 255


def save(array, path, ending=None, **options):
    Image.fromarray(array).save(path, ending, **options)


def cut(path):
    save(PIXELS, path, 'jpeg', quality=95)
    path.write_bytes(path.read_bytes()[:-900])


def animated(path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


FILES = {  # name: how it is made, and its size or what is said of it
    'one.png': (lambda path: save(PIXELS[:1, :1], path), (1, 1)),
    'line.png': (lambda path: save(np.repeat(PIXELS[:1], 2000, 1), path), (80_000, 1)),
    'animated.gif': (animated, (WIDTH, HEIGHT)),
    'png_called.jpg': (lambda path: save(PIXELS, path, 'png'), (WIDTH, HEIGHT)),
    'deep.png': (lambda path: save(PIXELS[..., 0].astype(np.uint16) * 257, path), (WIDTH, HEIGHT)),
    'cmyk.jpg': (lambda path: Image.fromarray(PIXELS).convert('CMYK').save(path), (WIDTH, HEIGHT)),
    'cut.jpg': (cut, 'cut.jpg cannot be read as a picture: .*truncated'),
    'text.png': (
        lambda path: path.write_text('no picture'),
        'text.png is not a picture of any known format',
    ),
    'nothing.jpg': (lambda path: path.touch(), 'nothing.jpg is not a picture of any known format'),
    'folder.jpg': (lambda path: path.mkdir(), 'folder.jpg is a folder, not a picture'),
    'pipe.jpg': (os.mkfifo, 'pipe.jpg is not a file'),
    'huge.png': (
        lambda path: save(np.zeros((15_000, 14_000), bool), path),
        'huge.png is 14000 x 15000 pixels, more than 200 million: make it smaller',
    ),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The files, a checkpoint, and a good support (image.png, mask.png)."""
    root = tmp_path_factory.mktemp('hostile')
    for name, (make, _) in FILES.items():
        make(root / name)
    save(PIXELS, root / 'image.png')
    save(OBJECT, root / 'mask.png')
    write_checkpoint(root / 'run')
    return root


@pytest.fixture(scope='module')
def segmenter(folder):
    return Segmenter.from_checkpoint(folder / 'run')


@pytest.fixture
def run(folder, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Segmenter, 'from_checkpoint', lambda path, **how: segmenter
    )  # it is compiled once
    pair = folder / 'image.png', folder / 'mask.png'
    return lambda query, **more: predict('run', [('cat', *pair)], query, tmp_path / 'out', **more)


def test_as_queries(folder, run, tmp_path, caplog):
    names = [name for name in FILES if name not in ('folder.jpg',)]
    unreadable = run([folder / name for name in names])
    bad = {
        name: said for name, (_, said) in FILES.items() if isinstance(said, str) and name in names
    }
    assert {path.name for path in unreadable} == set(bad)
    said = [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith('left out')
    ]
    assert len(said) == len(bad) and all('\n' not in one for one in said)
    for name in names:
        if name not in bad:
            mask, overlay = (
                Image.open(tmp_path / 'out' / f'{name[:-4]}_{end}')
                for end in ('mask.png', 'overlay.jpg')
            )
            assert mask.size == FILES[name][1] and overlay.width == min(mask.width, 65_500)


@pytest.mark.parametrize('name', FILES)
def test_as_the_image_of_a_support(name, folder, segmenter):
    expected = FILES[name][1]
    if not isinstance(expected, str):
        mask = folder / f'mask_of_{name}.png'
        save(np.full(expected[::-1], 255, np.uint8), mask)
        probe = segmenter.probe(
            supports.read_all(supports.parse([(folder / name, mask)]), segmenter.size)[None]
        )
        assert segmenter.segment_with(probe, PIXELS).mask.shape == (HEIGHT, WIDTH)
        expected = 'mask.png is 40 x 30 pixels, but .* a mask must have the size of its image'
        if FILES[name][1] == (WIDTH, HEIGHT):
            return
    with pytest.raises((ValueError, OSError), match=expected) as error:
        supports.read_all(supports.parse([(folder / name, folder / 'mask.png')]), segmenter.size)
    assert '\n' not in str(error.value)


MASKS = {
    name: said if isinstance(said, str) else 'a mask must have the size of its image'
    for name, (_, said) in FILES.items()
    if said != (WIDTH, HEIGHT)
}
MASKS['line.png'] = 'as a photograph'
EMPTY = {
    'empty.png': OBJECT * 0,
    'empty_16.png': OBJECT.astype(np.uint16) * 0,
    'soft.png': PIXELS[..., 0],
}


@pytest.mark.parametrize('name', [*MASKS, *EMPTY])
def test_as_the_mask_of_a_support(name, folder, segmenter):
    if name in EMPTY:
        save(EMPTY[name], folder / name)
    sentence = MASKS.get(name) or (
        'shades of gray' if name == 'soft.png' else f'{name} has no foreground: every pixel'
    )
    with pytest.raises((ValueError, OSError), match=sentence) as error:
        supports.read_all(
            supports.parse([('cat', folder / 'image.png', folder / name)]), segmenter.size
        )
    assert '\n' not in str(error.value)


def test_masks_of_a_photograph_that_exif_turns(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(PIXELS, tmp_path / 'phone.jpg', exif=exif)
    save(OBJECT, tmp_path / 'same.png', exif=exif)
    save(OBJECT, tmp_path / 'without.png')
    _, label = read_support(tmp_path / 'phone.jpg', tmp_path / 'same.png')
    np.testing.assert_array_equal(label, np.rot90(OBJECT > 0, -1))
    with pytest.raises(ValueError, match='turned by its EXIF data: turn the mask too'):
        read_support(tmp_path / 'phone.jpg', tmp_path / 'without.png')


def test_masks_of_16_bits_colours_and_alpha_are_read(folder, segmenter):
    inked = np.dstack([OBJECT] * 3)
    kinds = {
        'deep': OBJECT.astype(np.uint16) * 257,
        'colour': inked,
        'alpha': np.dstack([inked, OBJECT]),
    }
    for name, array in kinds.items():
        save(array, folder / f'{name}_mask.png')
        pair = supports.parse([(folder / 'image.png', folder / f'{name}_mask.png')])
        (square,) = supports.read_all(pair, segmenter.size)[None]
        assert set(np.unique(square.label)) == {0, 1}


@pytest.mark.slow
def test_a_picture_of_12000_by_9000_pixels(folder, run, tmp_path):
    Image.new('RGB', (12_000, 9_000), 'green').save(folder / 'large.png', compress_level=1)
    with warnings.catch_warnings(action='error'):  # Pillow's, of a decompression bomb
        assert run([folder / 'large.png'], write=('mask',)) == []
    with images.opened(tmp_path / 'out' / 'large_mask.png') as mask:
        assert mask.size == (12_000, 9_000)
