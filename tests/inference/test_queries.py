"""What --query may be, and how the output is called."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.inference.queries import find, output_names, read_ahead


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in (
        'photos/a.jpg',
        'photos/deep/a.jpg',
        'photos/deep/b.png',
        'more/a.jpg',
        'photos/out/a_mask.png',
        'photos/.hidden.jpg',
        'photos/notes.txt',
        'photos/x[1].jpg',
        'photos/dir.jpg/c.png',
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (3, 2), 'red').save(tmp_path / name, 'png')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def places(*given, out='photos/out'):
    return [query.place.as_posix() for query in find(given, Path(out))]


def test_files_folders_and_patterns(photos):
    assert places('photos') == ['a.jpg', 'x[1].jpg']
    everything = ['a.jpg', 'deep/a.jpg', 'deep/b.png', 'dir.jpg/c.png', 'x[1].jpg']
    assert (
        places('photos/**/*') == everything
    )  # neither hidden, nor text, nor what was written there
    assert places('photos/*/*.png') == ['deep/b.png', 'dir.jpg/c.png']
    assert places('photos/x[1].jpg') == ['x[1].jpg']  # a file, though it reads like a pattern
    assert places('photos/notes.txt') == [
        'notes.txt'
    ]  # what is named is taken, whatever its ending
    each_once = ['a.jpg', 'x[1].jpg', *everything[1:4]]
    assert places('photos', 'photos/**/*', 'more') == [
        *(f'photos/{one}' for one in each_once),
        'more/a.jpg',
    ]
    assert places('photos/a.jpg', 'photos/deep/a.jpg', 'more/a.jpg') == [
        'a.jpg',
        'deep/a.jpg',
        'more/a.jpg',
    ]
    (photos / 'photos/link.jpg').symlink_to(
        'a.jpg'
    )  # a second name of a picture, and so a second mask
    assert places('photos') == ['a.jpg', 'link.jpg', 'x[1].jpg']
    (photos / 'photos/link.jpg').unlink()
    assert places('photos/deep/../*.jpg') == ['a.jpg', 'x[1].jpg']
    assert places('photos/*/../a.jpg') == ['a.jpg']  # nothing climbs out of the output's folder
    (photos / 'photos').rename('photos [2024]')
    assert places('photos [2024]/*.jpg') == ['a.jpg', 'x[1].jpg']
    assert places('photos [2024]/**/*')[1:3] == ['deep/a.jpg', 'deep/b.png']
    (photos / 'photos [2024]' / 'gone.jpg').symlink_to('nothing.jpg')
    (photos / 'photos [2024]' / 'loop.jpg').symlink_to('loop.jpg')
    found = find(['photos [2024]/*o*.jpg'], Path('out'))
    for query, error in zip(found, read_ahead([one.path for one in found]), strict=True):
        assert str(error).startswith(f'{query.path} is a link to ')


def test_nothing_to_segment(photos):
    for given, error, sentence in (
        ('none', FileNotFoundError, 'there is no file or folder none to segment'),
        (
            'photos/*.tif',
            ValueError,
            r'no picture fits photos/\*.tif: no file that it means ends in .avif',
        ),
        ('photos/*.txt', ValueError, 'no picture fits'),
        ('photos [x]/*.jpg', ValueError, r'for a bracket itself write \[\[\]$'),
    ):
        with pytest.raises(error, match=sentence):
            places(given)


def test_no_two_queries_have_one_output():
    names = [
        Path(name)
        for name in ('a.jpg', 'A.png', 'a.jpg.png', 'b.png', 'b.jpg', 'deep/b.jpg', 'deep/c.jpg')
    ]
    assert output_names(names) == ['a.jpg_', 'A.png', 'a.jpg', 'b.png', 'b.jpg', 'deep/b', 'deep/c']
    kept = {Path('b.png'): 'b'}  # by an earlier run, of a folder in which it was alone
    assert output_names([Path('b.png'), Path('b.jpg')], kept) == ['b', 'b.jpg']
    assert output_names([Path('c.png')], others=['C']) == ['c.png']
    (long,) = output_names([Path(f'{"ä" * 120}.jpg')])
    assert len(f'{long}_overlay.jpg'.encode()) < 230


def test_reading_ahead_keeps_the_order_and_goes_on_after_a_damaged_file(tmp_path):
    for i in range(9):
        Image.new('RGB', (i + 1, 2)).save(tmp_path / f'{i}.png')
    (tmp_path / '4.png').write_text('no picture')
    found = list(read_ahead([tmp_path / f'{i}.png' for i in range(9)]))
    assert [one.shape[1] for one in found if isinstance(one, np.ndarray)] == [
        1,
        2,
        3,
        4,
        6,
        7,
        8,
        9,
    ]
    assert '4.png is not a picture' in str(found[4])


def test_links_that_lead_back_are_followed_once(tmp_path):
    """Two of them are 2 ** 40 folders to a pattern that follows every link."""
    for name in ('dir/1.jpg', 'dir/sub/2.jpg', 'other/3.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (2, 2)).save(tmp_path / name)
    for link, target in (('a', '.'), ('b', '.'), ('sub/up', '..'), ('there', '../other')):
        (tmp_path / 'dir' / link).symlink_to(target)
    for pattern in ('dir/**', 'dir/**/*.jpg', '**/*.jpg'):
        found = find([tmp_path / pattern], tmp_path / 'out')
        names = {query.path.relative_to(tmp_path).as_posix() for query in found}
        inside = {'dir/1.jpg', 'dir/sub/2.jpg', 'dir/there/3.jpg'}
        assert names == (inside if pattern != '**/*.jpg' else inside | {'other/3.jpg'})
