"""The page as a person uses it, in headless Chromium, and as a hostile program does."""

import importlib.util
import json
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.app.start import start
from simpropnet_jax.samples import samples
from tests.app import browser
from tests.small_checkpoint import write_checkpoint


def here(name):
    return importlib.util.find_spec(name) is not None


needs_gradio = pytest.mark.skipif(
    not here('gradio'), reason="gradio is missing: pip install -e '.[app]'"
)
needs_browser = pytest.mark.skipif(
    not (here('selenium') and all(browser.BINARIES.values())),
    reason="missing: selenium (pip install -e '.[dev]'), or chromium, chromium-driver (apt-get install)",
)


def test_without_gradio_it_says_what_to_install(monkeypatch, refused):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda name: None if name == 'gradio' else found(name)
    )
    with pytest.raises(ImportError, match=r"pip install -e '\.\[app\]'"):
        start(Path('runs/none'), 'best', '127.0.0.1', 7860, 20)
    with pytest.raises(ValueError, match='--port must be from 1 to 65535, got 0'):
        start(Path('runs/none'), 'best', '127.0.0.1', 0, 20)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """(address, folder) of a page whose network is small and random."""
    folder = tmp_path_factory.mktemp('page')
    write_checkpoint(folder / 'run')
    with browser.served(folder / 'run', folder) as address:
        yield address, folder
    left = [
        path
        for name in ('home', 'temporary', 'working')
        for path in (folder / name).rglob('*')
        if path.is_file()
    ]
    assert left == []  # nothing is written outside its folder, and that is deleted at the end


@needs_gradio
@needs_browser
def test_paint_segment_move_the_threshold_download(page, tmp_path):
    address, _ = page
    rng = np.random.default_rng(0)
    for name, size in (
        ('cat.jpg', (300, 400, 3)),
        ('one.jpg', (120, 90, 3)),
        ('two.png', (60, 1000, 3)),
    ):
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / name)
    (tmp_path / 'text.jpg').write_text('no picture')
    with browser.Browser(address, tmp_path) as person:
        person.give('queries', tmp_path / 'one.jpg', tmp_path / 'two.png', tmp_path / 'text.jpg')
        assert 'text.jpg is not a picture' in person.warning()
        person.until(lambda: '2 of your pictures' in person.find('#said').text)
        person.until(lambda: len(person.shown('results')) == 2)  # without masks yet
        person.give('example', tmp_path / 'cat.jpg')
        person.add_painted((400, 300), [(160, 150), (240, 150)], [(160, 180), (240, 180)])
        person.until(lambda: person.find('#download').is_enabled())
        (example,) = person.shown('examples')
        blue = tint(example)  # where it was painted alone
        assert blue[145:155, 160:240].mean() > 100 > 20 > blue[:100].mean()
        person.driver.switch_to.new_window('tab')  # another person
        person.driver.get(address)
        person.until(
            lambda: person.find('#said').text == '' and not person.find('#download').is_enabled()
        )
        assert not person.shown('examples') and not person.shown('results')
        person.driver.close()
        person.driver.switch_to.window(person.driver.window_handles[0])
        person.set_threshold(0)
        with zipfile.ZipFile(person.download()) as archive:
            masks = {
                name: np.asarray(Image.open(archive.open(name)))
                for name in archive.namelist()
                if 'mask' in name
            }
        assert {name: mask.shape for name, mask in masks.items()} == {
            'one_mask.png': (120, 90),
            'two_mask.png': (60, 1000),
        }
        assert all((mask == 255).all() for mask in masks.values())
        person.click('clear_queries')
        person.until(
            lambda: not person.shown('results') and 'drop the pictures' in person.find('#said').text
        )
        assert person.hosts() == {address.split('/')[2]}


@needs_gradio
@needs_browser
def test_strokes_are_taken_as_soon_as_the_editor_has_loaded_the_picture(page, tmp_path):
    strokes = [(160, 150), (240, 150)], [(160, 180), (240, 180)]
    Image.new('RGB', (400, 300), 'gray').save(tmp_path / 'cat.png')
    with browser.Browser(page[0], tmp_path) as person:
        person.find('#example input[type=file]')
        person.slow_down(2000)
        person.give('example', tmp_path / 'cat.png')
        editor = person.find('.loading #editor')  # shown before its picture is there
        assert editor.value_of_css_property('pointer-events') == 'none'
        person.add_painted((400, 300), *strokes)
        (example,) = person.shown('examples')
        assert tint(example)[145:155, 160:240].mean() > 100


@needs_gradio
@needs_browser
def test_samples_boxes_results_as_examples_and_single_ones_removed(page, tmp_path):
    pytest.importorskip('cv2')
    with browser.Browser(page[0], tmp_path) as person:
        person.screen(1440, 900)
        person.click('samples')
        person.until(lambda: person.find('#download').is_enabled())
        assert len(person.shown('results')) == 4
        for name in ('example', 'queries', 'threshold', 'detail', 'download', 'use', 'results'):
            assert person.find(f'#{name}').rect['y'] + person.find(f'#{name}').rect['height'] <= 900
        assert 'trained on photographs of PASCAL VOC' in person.find('#about').text
        before = person.shown('results')
        person.find('#detail input').click()
        person.find('[role=option][aria-label="2 x 2 tiles"]').click()
        person.until(lambda: person.shown('results') != before)
        person.give('example', samples()[3].image)
        person.until(lambda: person.all('#editor canvas'))
        person.find('#marks-button').click()
        person.find('#typed textarea, #typed input').send_keys('28, 3, 70, 78\n')
        person.until(lambda: tint(person.shown('clicks')[0])[50:90, 200:300].mean() > 0)
        person.click('add')
        person.until(lambda: len(person.shown('examples')) == 2)
        for dark, width in ((False, 1440), (True, 1440), (False, 390)):
            person.screen(width, 900, dark)
            person.until(lambda: person.pale() == [])
        assert all(image.size['width'] > 130 for image in person.all('#results img'))
        person.screen(1440, 900)
        person.find('#results button.thumbnail-lg').click()
        person.set_threshold(0)
        person.click('use')
        person.until(lambda: len(person.shown('examples')) == 3)
        person.click('remove_query')
        person.until(lambda: 'cat.jpg' in person.find('#results .caption').text)
        person.find('#examples button.thumbnail-lg').click()
        person.click('remove')
        person.until(lambda: 'cup.jpg' in person.find('#examples .caption').text)


def tint(address):
    """How much bluer than red a picture is: masks of examples are blue."""
    pixels = np.asarray(Image.open(urllib.request.urlopen(address)).convert('RGB'), int)
    return pixels @ (-1, 0, 1)


def status(address):
    """Of an answer."""
    try:
        return urllib.request.urlopen(address, timeout=browser.WAIT).status
    except urllib.error.HTTPError as error:
        return error.code


@needs_gradio
def test_no_file_outside_its_folder_and_no_other_host(page):
    address, folder = page
    (folder / 'working' / 'secret.txt').write_text('secret')
    assert status(address) == 200
    for path in (
        '/etc/hostname',
        folder / 'run' / 'config.json',
        folder / 'working' / 'secret.txt',
        '../secret.txt',
        'secret.txt',
        folder / 'temporary' / '..' / 'run' / 'config.json',
        'http://127.0.0.1:9/',
    ):
        assert status(f'{address}gradio_api/file={path}') in (403, 404), path
    config = json.loads(urllib.request.urlopen(f'{address}config').read())
    given = next(
        one['id'] for one in config['components'] if one['props'].get('elem_id') == 'queries'
    )
    event = next(one['id'] for one in config['dependencies'] if [given, 'upload'] in one['targets'])
    events = [name for one in config['dependencies'] for _, name in one['targets']]
    assert 'load' not in events  # it would forget what is dropped on a page that has not loaded
    file = {'path': str(folder / 'working' / 'secret.txt'), 'meta': {'_type': 'gradio.FileData'}}
    request = {'data': [None, [file]], 'fn_index': event, 'session_hash': 'crafted'}
    asked = urllib.request.Request(
        f'{address}gradio_api/queue/join',
        json.dumps(request).encode(),
        {'Content-Type': 'application/json'},
    )
    urllib.request.urlopen(asked, timeout=browser.WAIT)
    with urllib.request.urlopen(
        f'{address}gradio_api/queue/data?session_hash=crafted', timeout=browser.WAIT
    ) as told:
        done = next(line for line in told if b'process_completed' in line)
    assert b'"success":false' in done and b'secret' not in done
    (folder / 'working' / 'secret.txt').unlink()
