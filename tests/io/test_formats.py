"""Only documented formats are opened: EPS would start Ghostscript, and other formats other programs."""

import io

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from simpropnet_jax.app.session import read_picture
from simpropnet_jax.episodes import loader
from simpropnet_jax.io import formats, images

EPS = b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n'


@pytest.fixture
def no_program(monkeypatch):
    def start(*args, **options):
        raise AssertionError('a program was to be started')

    monkeypatch.setattr(EpsImagePlugin, 'Ghostscript', start)
    monkeypatch.setattr('subprocess.Popen', start)


def others(tmp_path):
    """Files that Pillow would open, whatever their ending says."""
    gray = Image.fromarray(np.zeros((9, 9), np.uint8))
    for name in ('TGA', 'PCX', 'SGI', 'IM', 'DDS'):
        path = tmp_path / f'{name}.jpg'
        gray.convert('RGB').save(path, name)
        yield path
    path = tmp_path / 'photo.jpg'
    path.write_bytes(EPS)
    yield path


def test_no_other_format_is_opened(tmp_path, no_program):
    for path in others(tmp_path):
        Image.open(path).close()  # Pillow knows it
        for read in (images.read_image, images.read_mask, read_picture):
            with pytest.raises(ValueError, match='is not a picture of '):
                read(path)
    with pytest.raises(OSError, match='cannot identify image'):
        loader._open_image(EPS)
    with pytest.raises(OSError, match='cannot identify image'):
        loader._open_label(EPS)


def test_the_documented_formats_are_those_of_the_endings():
    known = Image.registered_extensions()
    assert {known[ending] for ending in images.ENDINGS if ending in known} == set(
        formats.pictures()
    )


@pytest.mark.parametrize('name', formats.pictures())
def test_each_documented_format_is_read_by_its_content(name, tmp_path):
    stored = io.BytesIO()
    try:
        Image.new('RGB', (40, 30), (10, 200, 30)).save(stored, name)
    except (OSError, KeyError) as error:
        pytest.skip(str(error))
    (tmp_path / 'picture').write_bytes(stored.getvalue())
    assert images.read_image(tmp_path / 'picture').shape == (30, 40, 3)
