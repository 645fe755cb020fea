"""Work directories and data sets in a cloud's storage, which a file system in memory stands for."""

import fsspec
import numpy as np
import pytest
from etils import epath
from etils.epath import backend

from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.io import overlay
from simpropnet_jax.runtime import checkpoint, errors, paths, records
from simpropnet_jax.runtime.workdir import only_run
from simpropnet_jax.training.writer import Writer


@pytest.fixture
def bucket(monkeypatch):
    """The URL of an empty bucket."""
    monkeypatch.setenv('EPATH_USE_TF', '0')
    epath.gpath._is_tf_installed.cache_clear()
    memory = fsspec.filesystem('memory', skip_instance_cache=True)
    memory.store, memory.pseudo_dirs = {}, ['']
    monkeypatch.setattr(backend.fsspec_backend, 'fs', lambda path: memory)
    yield 'gs://bucket'
    epath.gpath._is_tf_installed.cache_clear()


def test_local_paths_stay_pathlibs_own_and_strange_urls_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert paths.parse('~/runs') == tmp_path / 'runs' and type(paths.parse(tmp_path)) is type(
        tmp_path
    )
    with pytest.raises(
        ValueError, match='^ftp://host/runs cannot be read or written: of URLs only gs:// and s3://'
    ):
        paths.parse('ftp://host/runs')


def test_a_work_directory_may_be_a_url(bucket, caplog, monkeypatch):
    workdir = paths.parse(f'{bucket}/runs/fold2')
    monkeypatch.setattr(
        'importlib.util.find_spec', lambda name: None
    )  # TensorBoard's files are TensorFlow's
    with only_run(workdir):
        checkpoint.write_json(workdir / 'config.json', {'fold': 2})
        writer = Writer(workdir, 0)
        for step in (1, 2, 3):
            writer.scalars(step, {'loss': 0.5})
        Writer(workdir, 2).scalars(3, {'loss': 0.25})  # a resumed run's
        overlay.save(np.zeros((2, 2, 3), np.uint8), workdir / 'figures' / 'a.png')
    assert 'without locks: do not start a second training there' in caplog.text
    assert (workdir / 'config.json').read_text() == '{\n "fold": 2\n}\n'
    lines = (workdir / 'metrics.jsonl').read_bytes().splitlines()
    assert [records.of_line(line) for line in lines] == [
        {'step': step, 'loss': loss} for step, loss in ((1, 0.5), (2, 0.5), (3, 0.25))
    ]
    assert (workdir / 'figures' / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_a_checkpoint_in_a_bucket_counts_when_orbax_has_finished_it(bucket):
    workdir = paths.parse(f'{bucket}/runs/fold2')
    assert not checkpoint.exist(workdir)
    (workdir / 'checkpoints' / '3').mkdir(parents=True)
    (workdir / 'checkpoints' / '3' / 'data').write_text('half')
    assert not checkpoint.exist(workdir)
    (workdir / 'checkpoints' / '3' / 'commit_success.txt').write_text('')
    assert checkpoint.exist(workdir)


def test_a_data_set_in_a_bucket_is_copied_once_and_read_here(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv('SIMPROPNET_CACHE', str(tmp_path / 'cache'))
    shapes5i.load(tmp_path, {'trainaug': 3, 'val': 2})
    local = {
        path.relative_to(tmp_path): path.read_bytes()
        for path in tmp_path.rglob('*')
        if path.is_file()
    }
    for name, content in local.items():
        there = paths.parse(f'{bucket}/data/{name.as_posix()}')
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(content)
    source = open_source('shapes5i', f'{bucket}/data')
    paths.parse(f'{bucket}/data').rmtree()
    again = open_source('shapes5i', f'{bucket}/data')
    assert [again.example(i) for i in range(5)] == [source.example(i) for i in range(5)]
    assert (
        source.example(0)[0]
        == local[next(name for name in local if name.name == f'{source.ids[0]}.jpg')]
    )
    with pytest.raises(
        FileNotFoundError, match='^pascal5i/sbd is not prepared in gs://bucket/data'
    ):
        open_source('pascal5i/sbd', f'{bucket}/data')


def test_the_home_of_nobody_is_refused():
    with pytest.raises(ValueError, match=r'^~no_such_user/x.jpg begins with ~no_such_user, but'):
        paths.parse('~no_such_user/x.jpg')


def test_a_link_that_leads_to_itself_ends_a_command_in_one_sentence(tmp_path, refused):
    (tmp_path / 'loop').symlink_to('loop')
    with refused('.*loop is a link that leads to itself'), errors.plain_errors():
        raise RuntimeError(f"Symlink loop from '{tmp_path / 'loop'}'")  # as pathlib says it
