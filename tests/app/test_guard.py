"""Uninvited visitors: requests that the running page refuses, its storage, and what a killed page leaves."""

import http.client
import json
import os
import subprocess
import sys
import urllib.parse

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.app import storage
from simpropnet_jax.app.storage import Storage
from tests.app import browser
from tests.app.test_app_page import needs_browser, needs_gradio
from tests.small_checkpoint import write_checkpoint

pytestmark = needs_gradio
BOUNDARY = 'boundary'


class Answer:
    """Status, headers and body of an answer."""

    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()


def ask(address, path='/', method='GET', body=None, host=None, **headers):
    """One request, with any Host."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=browser.WAIT)
    given = {'Host': host or parts.netloc} | {
        name.replace('_', '-'): value for name, value in headers.items()
    }
    connection.request(method, path, body, given)
    answer = Answer(connection.getresponse())
    connection.close()
    return answer


def upload(address, content, **headers):
    """Upload a file as the page does."""
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    )
    body = start.encode() + content + f'\r\n--{BOUNDARY}--\r\n'.encode()
    kind = f'multipart/form-data; boundary={BOUNDARY}'
    return ask(address, '/gradio_api/upload', 'POST', body, Content_Type=kind, **headers)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    write_checkpoint(folder)
    return folder


@pytest.fixture(scope='module')
def page(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('page')
    flags = ('--allow_host', 'seg.example', '--max_upload', '1', '--max_storage', '8')
    with browser.served(run, folder, *flags) as address:
        yield address, folder


@pytest.fixture(scope='module')
def address(page):
    return page[0]


def test_only_its_own_names_are_answered(address):
    port = urllib.parse.urlsplit(address).port
    for host in (
        'evil.example',
        f'evil.example:{port}',
        '169.254.0.1',
        'localhost.evil.example',
        '[',
        ':',
    ):
        answer = ask(address, host=host)
        assert answer.status == 421, host
        assert not any(name.lower().startswith('access-control') for name in answer.headers)
    for host in (f'localhost:{port}', f'127.0.0.1:{port}', 'LOCALHOST', 'seg.example', '[::1]'):
        assert ask(address, host=host).status == 200, host


def test_no_other_page_may_ask(address):
    own = address.rstrip('/')
    foreign = ('http://evil.example', 'null', 'http://localhost:1', f'{own}.evil.example', '')
    for origin in foreign:
        for method in ('GET', 'POST', 'OPTIONS'):
            headers = {'Origin': origin, 'Access_Control_Request_Method': 'POST'}
            answer = ask(address, '/gradio_api/queue/join', method, **headers)
            assert answer.status == 403, (origin, method)
            assert not any(name.lower().startswith('access-control') for name in answer.headers)
        assert upload(address, b'x', Origin=origin).status == 403
    assert (
        upload(address, b'x', Sec_Fetch_Site='cross-site', Sec_Fetch_Mode='no-cors').status == 403
    )
    answer = upload(address, b'x', Origin=own, Sec_Fetch_Site='same-origin')
    assert answer.status == 200
    assert not any(name.lower().startswith('access-control') for name in answer.headers)
    followed = ask(address, Sec_Fetch_Site='cross-site', Sec_Fetch_Mode='navigate')
    assert followed.status == 200  # a link


UPLOAD = """
const [address, mode, done] = arguments, form = new FormData();
form.append('files', new Blob(['x']), 'evil.png');
fetch(address, {method: 'POST', mode, body: form}).then((one) => done(one.type), () => done('refused'));
"""


@needs_browser
def test_a_page_of_another_origin_uploads_nothing_in_a_browser(page, tmp_path):
    address, folder = page
    (tmp_path / 'evil.html').write_text('<title>Evil</title>')
    with browser.Browser((tmp_path / 'evil.html').as_uri(), tmp_path) as person:
        person.driver.set_script_timeout(browser.WAIT)

        def sent(mode):
            said = person.driver.execute_async_script(UPLOAD, f'{address}gradio_api/upload', mode)
            return said, len(list((folder / 'temporary').rglob('evil.png')))

        assert sent('cors') == ('refused', 0)
        assert sent('no-cors')[1] == 0
        person.driver.get(address)
        assert sent('cors') == ('basic', 1)  # its own


def test_a_visitor_cannot_fill_the_disk(address):
    megabyte = bytes(900_000)
    answers = [upload(address, megabyte).status for _ in range(4)]
    assert answers[0] == 200 and answers[-1] == 413
    assert ask(address).status == 200


def test_storage_of_one_and_of_all(tmp_path):
    now = [0.0]
    kept = Storage(tmp_path, 400, clock=lambda: now[0])
    assert kept.room('a') == 100
    assert kept.add('a', 100) and not kept.add('a', 1)
    assert all(kept.add(visitor, 100) for visitor in 'bcd')
    assert kept.room('e') == 0 and not kept.add('e', 1)
    now[0] = storage.KEPT + 1
    assert kept.room('a') == 100
    (tmp_path / 'file').write_bytes(bytes(350))
    assert kept.room('a') == 50


def test_the_token_is_needed_from_elsewhere(run, tmp_path):
    with browser.served(run, tmp_path, '--host', '0.0.0.0') as address:
        parts = urllib.parse.urlsplit(address)
        assert parts.query.startswith('token=') and len(parts.query) > 30
        for path in ('/', '/config', '/?token=', '/?token=x', '/gradio_api/queue/join'):
            assert ask(address, path).status == 401, path
        assert ask(address, Cookie='simpropnet_token=x').status == 401
        assert upload(address, b'x').status == 401
        welcome = ask(address, f'/?{parts.query}&__theme=dark')
        assert (welcome.status, welcome.headers['Location']) == (303, '/?__theme=dark')
        assert 'HttpOnly' in welcome.headers['Set-Cookie']
        cookie = welcome.headers['Set-Cookie'].partition(';')[0]
        assert ask(address, Cookie=cookie).status == 200
        assert ask(address, Cookie=cookie, host='evil.example').status == 421
        assert upload(address, b'x', Cookie=cookie).status == 200


def test_failing_events_leave_no_traceback_in_the_log(run, tmp_path, capfd):
    with browser.served(run, tmp_path) as address:
        config = json.loads(ask(address, '/config').body)
        for event in config['dependencies']:
            body = {
                'data': [None, {'path': '/etc/hostname'}],
                'fn_index': event['id'],
                'session_hash': 's',
            }
            ask(
                address,
                '/gradio_api/queue/join',
                'POST',
                json.dumps(body),
                Content_Type='application/json',
            )
        ask(address, '/gradio_api/queue/join', 'POST', '{', Content_Type='application/json')
        for body in (b'', b'--x\r\n', b'\xff' * 99):
            kind = f'multipart/form-data; boundary={BOUNDARY}'
            ask(address, '/gradio_api/upload', 'POST', body, Content_Type=kind)
    said = capfd.readouterr().out
    assert 'a request failed' in said
    assert 'Traceback' not in said and '  File "' not in said


def test_what_a_killed_page_leaves_is_deleted_at_the_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(storage.tempfile, 'tempdir', str(tmp_path))
    program = (
        'import os\n'
        'from simpropnet_jax.app import storage\n'
        'with storage.temporary_folder() as folder:\n'
        "    (folder / 'upload.png').write_bytes(b'private')\n"
        '    os.kill(os.getpid(), 9)\n'
    )
    env = os.environ | {'TMPDIR': str(tmp_path), 'PYTHONPATH': str(browser.ROOT)}
    killed = subprocess.run([sys.executable, '-c', program], env=env)
    assert killed.returncode == -9
    (left,) = tmp_path.iterdir()
    with storage.temporary_folder() as first, storage.temporary_folder() as second:
        assert not left.exists()
        assert first.is_dir() and second.is_dir()  # the first is in use
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(first / 'a.png')
    assert list(tmp_path.iterdir()) == []
