"""Downloads from a server on this machine that fails as real ones do, up to a prepared data set."""

import hashlib
import io
import re
import shutil
import tarfile
import threading
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets.index import Index, counts
from simpropnet_jax.datasets.pascal5i import archives, builder, find_inputs
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.runtime import download
from simpropnet_jax.runtime.download import Remote, fetch, unpack
from tests.datasets.voc_files import write_files

CONTENT = np.random.default_rng(0).bytes(300_000)
SIZE = len(CONTENT)


class Server(ThreadingHTTPServer):
    """Serves `files`; what it is told to do wrong is in its attributes."""

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files = {'/file': CONTENT}
        self.requests = []  # (path, Range header)
        self.cut = []  # bytes after which each of the next responses ends
        self.ranges = True
        self.shift = 0  # of the bytes sent, against those asked for
        self.length = None  # Content-Length to send; '': none at all
        self.endless = False  # sends without end
        self.before = lambda: None

    def url(self, name='file'):
        return f'http://127.0.0.1:{self.server_port}/{name}'

    def handle_error(self, request, client_address):
        """A client that turns away is no news."""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get('Range')
        server.requests.append((self.path, asked))
        server.before()
        if self.path not in server.files:
            return self.send_error(404)
        content, start = server.files[self.path], 0
        if asked and server.ranges:
            start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1]) + server.shift
            if start >= len(content):
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{len(content)}')
                return self.end_headers()
            self.send_response(206)
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        else:
            self.send_response(200)
        length = str(len(content) - start) if server.length is None else server.length
        if length:
            self.send_header('Content-Length', length)
        self.end_headers()
        while server.endless:  # until the client goes away
            self.wfile.write(content)
        end = start + server.cut.pop(0) if server.cut else None
        self.wfile.write(content[start:end])

    def log_message(self, *args):
        """Silent."""


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(download, 'PAUSE_S', 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(*urls, content=CONTENT, size=SIZE, name='file.bin'):
    return Remote(name, urls, hashlib.md5(content).hexdigest(), size)


@pytest.mark.parametrize('size', [SIZE, None])
def test_a_complete_file_is_fetched_once(server, tmp_path, size):
    for _ in range(2):
        path = fetch(remote(server.url(), size=size), tmp_path / 'new')
        assert path.read_bytes() == CONTENT
    assert server.requests == [('/file', None)]
    assert [p.name for p in path.parent.iterdir()] == ['file.bin']


@pytest.mark.parametrize('size', [SIZE, None])
def test_a_broken_connection_goes_on_where_it_broke(server, tmp_path, size):
    server.cut = [100_000, 50_000]
    assert fetch(remote(server.url(), size=size), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, 'bytes=100000-', 'bytes=150000-']


def test_a_server_that_is_gone_leaves_what_came(server, tmp_path):
    server.cut = [100_000] + [0] * 20
    with pytest.raises(
        OSError, match=r'file.bin could not .* 100,000 of 300,000 bytes are there, and the same'
    ):
        fetch(remote(server.url()), tmp_path)
    assert (tmp_path / 'file.bin.part').read_bytes() == CONTENT[:100_000]
    server.cut = []
    del server.requests[:]
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert server.requests == [('/file', 'bytes=100000-')]


def test_no_server_at_all(server, tmp_path):
    with Server() as gone:
        pass
    with pytest.raises(OSError, match=r'127\.0\.0\.1:\d+: .*refused\); 0 of 300,000 bytes'):
        fetch(remote(gone.url()), tmp_path)
    assert not [*tmp_path.iterdir()]
    assert (
        fetch(remote(gone.url(), server.url('nowhere'), server.url()), tmp_path).read_bytes()
        == CONTENT
    )


def test_a_wrong_checksum_is_refused_and_the_part_deleted(server, tmp_path):
    wanted = remote(server.url(), content=b'other')
    found = hashlib.md5(CONTENT).hexdigest()
    with pytest.raises(
        OSError, match=f'file.bin was downloaded, but .* MD5 is {found}, expected {wanted.md5}'
    ):
        fetch(wanted, tmp_path)
    assert not [*tmp_path.iterdir()]
    (tmp_path / 'file.bin').write_bytes(CONTENT)
    with pytest.raises(
        OSError, match=f'{tmp_path}/file.bin is not .* {found}, expected {wanted.md5}; delete it'
    ):
        fetch(wanted, tmp_path)


@pytest.mark.parametrize('length', ['many', '-1', '1e5', '9' * 5000, '\xb2'])
@pytest.mark.parametrize('size', [SIZE, None])
def test_a_content_length_that_is_no_number(server, tmp_path, length, size):
    server.length = length
    with pytest.raises(OSError, match='its Content-Length is .*, which is no number'):
        fetch(remote(server.url(), size=size), tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize('part', [b'', CONTENT[:1000]])
def test_an_endless_response_is_cut_off(server, tmp_path, part, monkeypatch):
    (tmp_path / 'file.bin.part').write_bytes(part)
    server.length, server.endless = '', True
    monkeypatch.setattr(download, 'MOST_BYTES', 2 * SIZE)
    sentence = f'it sends more than {SIZE if part else 2 * SIZE:,} bytes'
    with pytest.raises(OSError, match=sentence):
        fetch(remote(server.url(), size=None), tmp_path)
    assert (tmp_path / 'file.bin.part').exists() == bool(part)
    if part:
        assert (tmp_path / 'file.bin.part').read_bytes() == part


def test_after_wrong_bytes_of_the_right_size_comes_the_next_mirror(server, tmp_path):
    server.files['/bad'] = bytes(SIZE)
    mirrors = remote(server.url('bad'), server.url())
    assert fetch(mirrors, tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ['/bad', '/file']
    (tmp_path / 'file.bin').unlink()
    with pytest.raises(OSError, match='is not the file that was published: its MD5 .*; 127'):
        fetch(remote(server.url('bad'), server.url('bad')), tmp_path)
    assert not [*tmp_path.iterdir()]


def test_wrong_bytes_that_were_there_are_downloaded_again(server, tmp_path):
    (tmp_path / 'file.bin.part').write_bytes(bytes(1000))
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ['bytes=1000-', None]


def test_a_server_that_ignores_range_starts_anew(server, tmp_path):
    server.ranges = False
    server.cut = [200_000]
    (tmp_path / 'file.bin.part').write_bytes(b'x' * 1000)
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == ['bytes=1000-', 'bytes=200000-']


def test_what_is_complete_or_too_long_already(server, tmp_path):
    part = tmp_path / 'file.bin.part'
    part.write_bytes(CONTENT)
    fetch(remote(server.url()), tmp_path).unlink()
    assert not server.requests
    part.write_bytes(CONTENT)
    fetch(remote(server.url(), size=None), tmp_path).unlink()
    part.write_bytes(CONTENT + b'more')
    assert fetch(remote(server.url()), tmp_path).read_bytes() == CONTENT


def test_wrong_answers_do_not_touch_what_is_there(server, tmp_path):
    part = tmp_path / 'file.bin.part'
    part.write_bytes(CONTENT[:1000])
    server.shift = -500
    with pytest.raises(
        OSError, match=r"asked for the bytes from 1000 on, it sent 'bytes 500-299999/300000'"
    ):
        fetch(remote(server.url()), tmp_path)
    server.shift, server.ranges = 0, False
    server.files['/file'] = b'<html>We are sorry'
    with pytest.raises(OSError, match='its file has 18 bytes, expected 300000'):
        fetch(remote(server.url()), tmp_path)
    with pytest.raises(OSError, match='HTTP status 404'):
        fetch(remote(server.url('moved')), tmp_path)
    assert part.read_bytes() == CONTENT[:1000] and len(server.requests) == 3


def test_two_at_once_download_once(server, tmp_path, monkeypatch):
    waits = threading.Event()
    monkeypatch.setattr(download.logger, 'warning', lambda *_: waits.set())
    server.before = lambda: waits.wait(20)
    paths = []
    threads = [
        threading.Thread(target=lambda: paths.append(fetch(remote(server.url()), tmp_path)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert paths == [tmp_path / 'file.bin'] * 2 and len(server.requests) == 1
    assert [*tmp_path.iterdir()] == [tmp_path / 'file.bin']


def write_tar(path, files):
    with tarfile.open(path, 'w:gz') as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_unpacking_is_whole_or_not_there(tmp_path):
    target = tmp_path / 'top'
    archive = write_tar(tmp_path / 'a.tgz', {'top/a': b'a' * 100_000, 'top/b': CONTENT})
    whole = archive.read_bytes()
    archive.write_bytes(whole[:100_000])
    with pytest.raises(OSError, match='a.tgz cannot be unpacked'):
        unpack(archive, target, lambda name: True)
    assert not target.exists()
    archive.write_bytes(whole)
    unpack(archive, target, lambda name: name == 'top/b')
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {'b': CONTENT}
    assert {p.name for p in tmp_path.iterdir()} == {'a.tgz', 'top'}


def test_unpacking_stays_inside(tmp_path):
    archive = write_tar(tmp_path / 'a.tgz', {'top/a': b'a', 'top/../../../evil': b'evil'})
    with pytest.raises(OSError, match='a.tgz cannot be unpacked: .*outside'):
        unpack(archive, tmp_path / 'in' / 'top', lambda name: True)
    assert not [*tmp_path.rglob('evil')] and not (tmp_path / 'in' / 'top').exists()


def main(flags):
    """`simpropnet prepare pascal5i` with flags."""
    simpropnet(['prepare', 'pascal5i', *flags])


@pytest.fixture
def published(server, tmp_path, monkeypatch):
    """Tiny archives of the real format on the server, known by the package as if they were the real ones."""
    files = write_files(tmp_path / 'in')
    (files.sbd / 'dataset' / 'img').mkdir()
    (files.sbd / 'dataset' / 'img' / 'large.jpg').write_bytes(CONTENT)
    for archive, mode, tree in (('VOC', 'w', files.voc.parent), ('SBD', 'w:gz', files.sbd)):
        name = getattr(archives, archive).name
        with tarfile.open(tmp_path / name, mode) as tar:
            tar.add(tree, tree.name)
        content = server.files[f'/{name}'] = (tmp_path / name).read_bytes()
        tiny = remote(server.url(name), content=content, size=len(content), name=name)
        monkeypatch.setattr(archives, archive, tiny)
    monkeypatch.setattr(archives, 'UNPACKED', 200_000)
    monkeypatch.setattr(archives, 'PREPARED', 200_000)
    inputs = find_inputs(files.voc, sbd=files.sbd)
    stand_in = counts(Index.build(inputs.labelled(), inputs.lists))
    monkeypatch.setattr(builder, 'reference_counts', lambda: stand_in)
    return files


def test_from_nothing_to_the_data_set(server, published, tmp_path, capsys, refused):
    flags = ['--download', '--data_dir', str(tmp_path / 'out')]
    server.cut = [20_000] + [0] * 20
    with refused('VOCtrainval_11-May-2012.tar could not be downloaded .* 20,000 of'):
        main(flags)
    server.cut = []
    main(flags)
    downloads = tmp_path / 'out' / 'downloads'
    assert f'benchmark.tgz, in {downloads}\n' in capsys.readouterr().out
    assert ('/VOCtrainval_11-May-2012.tar', 'bytes=20000-') in server.requests
    assert not (downloads / 'benchmark_RELEASE' / 'dataset' / 'img').exists()
    source = open_source('pascal5i/sbd', tmp_path / 'out')
    assert source.ids == tuple(sorted(published.labels))
    assert source.example(0)[0] == published.jpeg(source.ids[0]).read_bytes()

    del server.requests[:]
    shutil.rmtree(downloads)
    main(flags)
    assert not server.requests and 'is already prepared' in capsys.readouterr().out


def test_labels_once_unpacked_need_no_archive(server, published, tmp_path, capsys):
    places = ['--download_dir', str(tmp_path / 'here'), '--data_dir', str(tmp_path / 'out')]
    shutil.copytree(published.sbd, tmp_path / 'here' / 'benchmark_RELEASE')
    main(['--download', *places])
    assert {path for path, _ in server.requests} == {'/VOCtrainval_11-May-2012.tar'}
    assert 'benchmark.tgz' not in capsys.readouterr().out


def test_not_enough_disk(server, published, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(archives, 'PREPARED', 1_500_000_000)
    monkeypatch.setattr(
        archives.shutil, 'disk_usage', lambda path: namedtuple('usage', 'free')(1_400_000_000)
    )
    with refused(r'1\.5 GB are needed in .*/downloads and .*/out, but only 1\.4 GB'):
        main(['--download', '--data_dir', str(tmp_path / 'out')])
    assert not server.requests and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (
            ['--download', '--voc', 'VOCdevkit'],
            '--download fetches VOC 2012 and SBD itself: leave out --voc',
        ),
        (
            ['--download', '--aug', 'Aug'],
            '--download fetches VOC 2012 and SBD itself: leave out --voc',
        ),
        (
            ['--voc', 'V', '--sbd', 'S', '--download_dir', 'D'],
            '--download_dir is only for --download',
        ),
        (['--voc', 'VOCdevkit'], 'give --download, or --voc and one of --sbd and --aug'),
        ([], 'give --download, or --voc and one of --sbd and --aug'),
    ],
)
def test_flags_that_do_not_fit(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit, match='2'):
        main([*flags, '--data_dir', str(tmp_path / 'out')])
    assert message in capsys.readouterr().err


def test_the_published_archives():
    """What the sources of the addresses say of them; a slip of the keyboard would cost a download of gigabytes."""
    assert (archives.VOC.size, archives.VOC.md5) == (
        1_999_639_040,
        '6cd6e144f989b92b3379bac3b3de84fd',
    )
    assert (archives.SBD.size, archives.SBD.md5) == (
        1_419_539_633,
        '82b4d87ceb2ed10f6038a1cba92111cb',
    )
    assert all(url.endswith(f'/{a.name}') for a in (archives.VOC, archives.SBD) for url in a.urls)
