"""Files of decoded images give the loader's batches, byte for byte, whatever happens to the files."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import re
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.episodes import augment, decoded, loader
from simpropnet_jax.episodes.sampler import TrainSampler
from tests.fakes import fake_source

SIZES = (33, 50)


@pytest.fixture(scope='module')
def source():
    return fake_source(80)


@pytest.fixture(scope='module')
def sampler(source):
    pairs = listed_pairs(source.index, 'trainaug', range(1, 21), 'none')
    return TrainSampler(pairs, shot=2, seed=0, fold=0, batch=4)


def files_of(source, folder, sizes=SIZES):
    return decoded.DecodedFiles(
        source, np.flatnonzero(source.index.lists['trainaug']), sizes, folder
    )


def opened(source, folder, sizes=SIZES):
    return files_of(source, folder, sizes).open(backend='threads', workers=2)


def written(folder):
    return {path.name: path.read_bytes() for path in folder.glob('*.u8')}


def assert_same_batches(batches, stream):
    with contextlib.closing(batches), contextlib.closing(stream):
        for one, expected in itertools.islice(zip(batches, stream, strict=True), 6):
            assert list(one) == list(expected)
            for name, array in expected.items():
                assert one[name].dtype == array.dtype, name
                np.testing.assert_array_equal(one[name], array, err_msg=name)


# Sides that training reads: of queries, and of supports at the scale 1.5 and without one.
@pytest.mark.parametrize(
    ('size', 'scale', 'backend'),
    [
        (225, 1.0, 'threads'),
        (225, 1.5, 'tfdata'),
        (321, 1.0, 'threads'),
        (321, 1.5, 'threads'),
    ],
)
def test_episodes_are_the_loaders(source, sampler, tmp_path, size, scale, backend):
    if backend == 'tfdata':
        pytest.importorskip('tensorflow')
    sizes = dict(query_size=size, support_size=augment.support_size(size, scale))
    shared = dict(batch=4, first_step=7)  # past the end of an epoch
    files = opened(source, tmp_path, tuple(sizes.values()))
    numbers = loader.train_numbers(sampler, **shared)
    batches = decoded.episode_batches(files, numbers, workers=3, **sizes)
    assert_same_batches(
        batches, loader.train_batches(source, sampler, backend=backend, **sizes, **shared)
    )


def test_labelled_images_are_the_loaders(source, sampler, tmp_path):
    shared = dict(batch=4, first_step=7)
    numbers = loader.supervised_numbers(sampler, **shared)
    batches = decoded.labelled_batches(opened(source, tmp_path, (65,)), numbers, size=65)
    assert_same_batches(
        batches,
        loader.supervised_batches(source, sampler, size=65, backend='threads', **shared),
    )


def test_the_files_have_the_size_that_was_stated_and_are_written_once(source, tmp_path, caplog):
    files = files_of(source, tmp_path)
    assert files.missing_bytes == files.bytes
    files.open(backend='threads')
    assert sum(len(content) for content in written(tmp_path).values()) == files.bytes
    assert files.bytes == 40 * 4 * (33**2 + 50**2) + 2 * (64 + 4 * 40)
    assert files_of(source, tmp_path).missing_bytes == 0
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.u8')}
    opened(source, tmp_path)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.glob('*.u8')}
    assert 'damaged' not in caplog.text


@pytest.mark.parametrize('damage', ['cut short', 'head', 'checksums', 'empty'])
def test_a_damaged_file_is_written_again(source, tmp_path, caplog, damage):
    opened(source, tmp_path)
    whole = written(tmp_path)
    name = next(iter(whole))
    content = bytearray(whole[name])
    if damage == 'cut short':
        del content[-1:]
    elif damage == 'empty':
        content.clear()
    else:
        content[{'head': 5, 'checksums': decoded.HEADER + 5}[damage]] ^= 1
    (tmp_path / name).write_bytes(content)
    opened(source, tmp_path)
    assert f'{name} is damaged or of other images: it is written again' in caplog.text
    assert written(tmp_path) == whole


def test_images_that_changed_are_decoded_again(source, tmp_path, caplog):
    opened(source, tmp_path)
    encoded = list(source.encoded)
    encoded[3] = encoded[23][0], encoded[3][1]
    changed = dataclasses.replace(source, encoded=tuple(encoded))
    files = opened(changed, tmp_path)
    assert 'is damaged or of other images' in caplog.text
    image, label = np.empty((33, 33, 3), np.uint8), np.empty((33, 33), np.uint8)
    files[33].read(3, image, label)
    expected = next(loader.image_batches(changed, [3], size=33, batch=1, backend='threads'))
    np.testing.assert_array_equal(image, expected['image'][0])


def test_a_damaged_image_is_refused_in_one_sentence(source, sampler, tmp_path):
    files = opened(source, tmp_path)
    path = next(tmp_path.glob('*_33px_*.u8'))
    with path.open('r+b') as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    image, label = np.empty((33, 33, 3), np.uint8), np.empty((33, 33), np.uint8)
    files[33].read(38, image, label)
    sentence = (
        rf'{re.escape(str(path))} is damaged: image fake_000039 is not as it was written\. Delete'
    )
    with pytest.raises(ValueError, match=sentence):
        files[33].read(39, image, label)
    os.truncate(path, path.stat().st_size - 33 * 33 * 4 - 1)
    with pytest.raises(ValueError, match='image fake_000038 is not as it was written'):
        files[33].read(38, image, label)


def test_a_file_that_is_half_written_is_not_used(source, tmp_path):
    broken = list(source.encoded)
    broken[39] = b'garbage', broken[39][1]
    with pytest.raises(ValueError, match='image fake_000039 cannot be decoded'):
        opened(dataclasses.replace(source, encoded=tuple(broken)), tmp_path)
    assert not list(tmp_path.glob('*.u8')) and not list(tmp_path.glob('*.unfinished'))
    files = files_of(source, tmp_path)
    left = tmp_path / f'{next(iter(files._paths.values())).stem}.unfinished'
    left.write_bytes(bytes(1000))  # of a killed process: its room is used again
    assert files_of(source, tmp_path).missing_bytes == files.bytes - 1000
    files.open(backend='threads')
    assert not left.exists() and files_of(source, tmp_path).missing_bytes == 0


def _write_and_die(folder):
    """Kill the process while it writes the second file."""
    source = fake_source(80)

    def progress(stage, done, total):
        if '50' in stage:
            os.kill(os.getpid(), signal.SIGKILL)

    files_of(source, folder).open(backend='threads', progress=progress)


def test_a_killed_process_leaves_nothing_wrong_behind(source, tmp_path):
    process = multiprocessing.get_context('fork').Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob('*.unfinished'))) == 1
    before = written(tmp_path)
    assert len(before) == 1
    opened(source, tmp_path)
    after = written(tmp_path)
    assert len(after) == 2 and before.items() <= after.items()
    assert not list(tmp_path.glob('*.unfinished'))
    opened(source, tmp_path / 'other')
    assert written(tmp_path / 'other') == after


def test_one_process_writes_while_the_other_waits(source, tmp_path, monkeypatch):
    """Both begin without a file; the second finds what the first wrote."""
    context = multiprocessing.get_context('fork')
    writing, counted = context.Event(), context.Value('i', 0)
    write = decoded.DecodedFiles._write

    def slow(self, *args):
        with counted.get_lock():
            counted.value += 1
        writing.set()
        assert waiting.wait(20)
        return write(self, *args)

    waiting = context.Event()
    monkeypatch.setattr(decoded.DecodedFiles, '_write', slow)
    monkeypatch.setattr(
        decoded.logger, 'info', lambda text, *_: 'waiting' in text and waiting.set()
    )

    def first():
        opened(source, tmp_path, (33,))

    process = context.Process(target=first)
    process.start()
    assert writing.wait(20)
    files = opened(source, tmp_path, (33,))
    process.join()
    assert process.exitcode == 0 and counted.value == 1
    image, label = np.empty((33, 33, 3), np.uint8), np.empty((33, 33), np.uint8)
    files[33].read(0, image, label)


def disk(monkeypatch, platform, free):
    monkeypatch.setattr(decoded.shutil, 'disk_usage', lambda place: SimpleNamespace(free=free))
    monkeypatch.setattr(jax, 'local_devices', lambda: [SimpleNamespace(platform=platform)])


@pytest.mark.parametrize(
    ('platform', 'share', 'wanted'),
    [('gpu', 0.25, True), ('gpu', 0.26, False), ('cpu', 0.01, False)],
)
def test_they_are_for_accelerators_where_a_quarter_of_the_free_disk_holds_them(
    source, tmp_path, monkeypatch, platform, share, wanted
):
    files = files_of(source, tmp_path / 'new')
    disk(monkeypatch, platform, files.bytes / share)
    assert decoded.is_wanted('auto', files) == wanted
    assert decoded.is_wanted('always', files) and not decoded.is_wanted('never', files)


def test_too_little_room_is_refused_with_the_bytes(source, tmp_path, monkeypatch):
    files = files_of(source, tmp_path / 'new')
    disk(monkeypatch, 'gpu', files.bytes - 1)
    sentence = f'take {files.bytes:,} bytes and {tmp_path}/new has {files.bytes - 1:,} free. Set it'
    with pytest.raises(ValueError, match=re.escape(sentence)):
        decoded.is_wanted('always', files)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(source, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match=r'px_.*\.u8 cannot be written \(No space left on device\)'):
        opened(source, tmp_path)
    assert not list(tmp_path.glob('*.u8')) and not list(tmp_path.glob('*.unfinished'))
