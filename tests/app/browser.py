"""The page in headless Chromium: a server of its own, and the steps that a person would take."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
from pathlib import Path

from tests.compiling import QUICKLY

ROOT = Path(__file__).parent.parent.parent
BINARIES = {
    name: shutil.which(name) for name in ('chromium', 'chromedriver')
}  # of Debian: nothing is downloaded
WAIT = 180  # seconds, where a machine is very busy


@contextlib.contextmanager
def served(checkpoint, folder, *flags):
    """The address of a page, served by the command in a process of its own, whose every file is to be in `folder`.

    The address is as the page prints it. Its home, its temporary and its working folder are the folders home, temporary
    and working in there.
    """
    for name in ('home', 'temporary', 'working'):
        (folder / name).mkdir()
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    env = {
        'HOME': folder / 'home',
        'TMPDIR': folder / 'temporary',
        'PYTHONPATH': ROOT,
        'XLA_FLAGS': QUICKLY,
    }
    process = subprocess.Popen(
        [
            sys.executable,
            '-m',
            'simpropnet_jax',
            'app',
            '--checkpoint',
            str(checkpoint),
            '--port',
            str(port),
            *flags,
        ],
        cwd=folder / 'working',
        text=True,
        stderr=subprocess.PIPE,
        env=os.environ | {name: str(value) for name, value in env.items()},
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if 'in a browser' in line:
                break
        else:
            raise RuntimeError(f'the page was not served: {"".join(said)}')
        yield re.search(r'http://\S+', line)[0]
    finally:
        process.terminate()
        said += process.communicate(timeout=WAIT)[1].splitlines()
        print(*said, sep='\n')


PALE = (Path(__file__).parent / 'contrast.js').read_text()


class Browser:
    """A person at the page. Files are chosen and not dropped, which Gradio treats alike."""

    def __init__(self, address, downloads, size=(1400, 1200)):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = BINARIES['chromium']
        for flag in (
            'headless=new',
            'no-sandbox',
            'disable-dev-shm-usage',
            'enable-unsafe-swiftshader',
            'hide-scrollbars',
            f'window-size={size[0]},{size[1]}',
        ):
            options.add_argument(f'--{flag}')
        options.set_capability('goog:loggingPrefs', {'performance': 'ALL'})
        options.add_experimental_option('prefs', {'download.default_directory': str(downloads)})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(BINARIES['chromedriver']))
        self.downloads = downloads
        self._zooms = []
        self.driver.get(address)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.driver.quit()

    def until(self, true):
        """Waits until true() is; an element that is drawn anew meanwhile is looked for again."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT, 0.1, [StaleElementReferenceException]).until(
            lambda _: true()
        )

    def find(self, selector):
        """The first element, as soon as there is one."""
        return self.until(lambda: self.all(selector))[0]

    def all(self, selector):
        return self.driver.find_elements('css selector', selector)

    def click(self, name):
        """A button, as soon as it can be clicked."""
        self.until(lambda: self.find(f'#{name}').is_enabled())
        self.find(f'#{name}').click()

    def give(self, name, *paths):
        """Files to the place to drop them."""
        self.find(f'#{name} input[type=file]').send_keys('\n'.join(map(str, paths)))

    def paint(self, size, *strokes):
        """Strokes over a picture of a size: lists of its pixels (x, y)."""
        from selenium.webdriver.common.action_chains import ActionChains

        canvas = self.find('#editor canvas')
        self.until(lambda: not self.all('.loading #editor'))
        zoom = self.until(lambda: self._fitted(canvas, size)) / 100
        hand = ActionChains(self.driver, 30)
        for stroke in strokes:
            points = [
                (round(zoom * (x - size[0] / 2)), round(zoom * (y - size[1] / 2)))
                for x, y in stroke
            ]
            hand.move_to_element_with_offset(canvas, *points[0]).click_and_hold()
            for point in points[1:]:
                hand.move_to_element_with_offset(canvas, *point)
            hand.release()
        hand.perform()

    def add_painted(self, size, *strokes):
        """Paints and adds the example."""
        self.paint(size, *strokes)
        self.click('add')
        self.until(lambda: self.shown('examples'))

    def slow_down(self, milliseconds):
        """Delays all that the page asks for."""
        limits = dict(
            offline=False, latency=milliseconds, downloadThroughput=-1, uploadThroughput=-1
        )
        self.driver.execute_cdp_cmd('Network.enable', {})
        self.driver.execute_cdp_cmd('Network.emulateNetworkConditions', limits)

    def _fitted(self, canvas, size, polls=5):
        """The zoom in percent, once the picture fills the editor and has kept its place for some polls; else 0."""
        said = self.find('#editor .zoom-number').text.strip(' %')
        self._zooms = [*self._zooms, said][-polls:]
        room = canvas.size
        fit = 100 * min(room['width'] / size[0], room['height'] / size[1])
        filled = 0.7 * fit < float(said or 0) <= fit + 1
        return float(said) if filled and self._zooms == [said] * polls else 0

    def shown(self, name):
        """Addresses of the pictures in a gallery."""
        return [image.get_attribute('src') for image in self.all(f'#{name} img')]

    def set_threshold(self, value):
        before, number = self.shown('results'), self.find('#threshold input[type=number]')
        number.clear()
        number.send_keys(f'{value}\n')
        self.until(lambda: self.shown('results') and self.shown('results') != before)

    def download(self):
        """The file, when it is there as a whole."""
        self.click('download')
        self.until(lambda: (self.downloads / 'masks.zip').exists())
        return self.downloads / 'masks.zip'

    def screen(self, width, height, dark=False):
        """Another size of the window, down to a phone's, and light or dark colours."""
        tell = self.driver.execute_cdp_cmd
        size = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 500)
        tell('Emulation.setDeviceMetricsOverride', size)
        theme = dict(name='prefers-color-scheme', value='dark' if dark else 'light')
        tell('Emulation.setEmulatedMedia', dict(features=[theme]))

    def pale(self):
        """Texts with a contrast below 4.5."""
        return self.driver.execute_script(PALE)

    def warning(self):
        """What the page says went wrong."""
        return self.until(lambda: self.find('.toast-body').text.strip())

    def hosts(self):
        """All hosts that the browser asked for anything."""
        messages = [
            json.loads(entry['message'])['message'] for entry in self.driver.get_log('performance')
        ]
        addresses = [
            message['params']['request']['url']
            for message in messages
            if message['method'] == 'Network.requestWillBeSent'
        ]
        return {
            urllib.parse.urlsplit(address).netloc
            for address in addresses
            if address.startswith(('http', 'ws'))
        }
