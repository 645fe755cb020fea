"""Eight virtual CPU devices, set before JAX starts, and the real data where a developer has it."""

import atexit
import contextlib
import logging
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.compiling import for_devices

# Many tests train the same small network: it is compiled once, for all of them and for the commands they start.
if 'PYTEST_XDIST_WORKER' not in os.environ:  # workers inherit it
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='simpropnet_jax_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = (
    '1'  # of machine code: compiling takes a third of the time
)
os.environ['XLA_FLAGS'] = ' '.join([os.environ.get('XLA_FLAGS', ''), for_devices(8)])

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.sharding import AxisType  # noqa: E402

# A worker takes whole files; the longest come first, so that no worker waits for another at the end.
LONGEST_FIRST = (
    'tests/test_notebook.py',
    'tests/test_wheel.py',
    'tests/models/test_bfloat16.py',
    'tests/test_fuzz.py',
    'tests/test_readme.py',
    'tests/training/test_hosts.py',
    'tests/app/test_app_page.py',
    'tests/test_same_bytes.py',
    'tests/training/test_nothing_lost.py',
    'tests/test_running_benchmarks.py',
    'tests/export/test_export.py',
    'tests/evaluation/test_oracle.py',
    'tests/test_commands.py',
    'tests/training/test_phases.py',
    'tests/training/test_state.py',
    'tests/analysis/test_hierarchy.py',
    'tests/backbones/test_weights.py',
    'tests/sweeps/test_sweep.py',
)


def pytest_collection_modifyitems(items):
    """Bring the longest files forward; `make test` keeps workers from sorting files by their number of tests."""
    place = {name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition('::')[0], len(place)))


@pytest.fixture(autouse=True)
def _log_as_before():
    """Commands send the package's messages to a handler of their own; no test begins with another test's handler."""
    package = logging.getLogger('simpropnet_jax')
    package.handlers.clear()
    package.propagate = True
    package.setLevel(logging.NOTSET)


@pytest.fixture
def refused(capsys):
    """refused(pattern): within, a command ends in one sentence that begins like the pattern, and in status 2."""

    @contextlib.contextmanager
    def check(pattern):
        with pytest.raises(SystemExit) as ended:
            yield
        printed = capsys.readouterr().err
        assert ended.value.code == 2 and re.search(f'^error: {pattern}', printed, re.M), printed

    return check


@pytest.fixture
def run_here(capsys, monkeypatch):
    """run_here(words): what `python` does with the words, in this process, which has imported all that it needs."""
    monkeypatch.chdir(Path(__file__).parent.parent)

    def call(*words):
        first, *rest = map(str, words)
        monkeypatch.setattr(sys, 'argv', rest if first == '-m' else [first, *rest])
        run = runpy.run_module if first == '-m' else runpy.run_path
        try:
            run(sys.argv[0], run_name='__main__')
            status = 0
        except SystemExit as ended:
            status = ended.code or 0
        return subprocess.CompletedProcess(words, status, *capsys.readouterr())

    return call


@pytest.fixture(scope='session')
def preloaded_python():
    """In place of `sys.executable`: a Python whose commands start in a fork with all imports done."""
    from tests import preloaded

    with preloaded.python() as executable:
        yield executable


@pytest.fixture
def mesh_of():
    """mesh_of(n): a mesh over the first n devices."""
    return lambda n: jax.make_mesh(
        (n,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:n]
    )


@pytest.fixture
def one_device(mesh_of, monkeypatch):
    """Commands of this process run on one device, for which a network compiles in two thirds of the time."""
    from simpropnet_jax.runtime import sharding

    monkeypatch.setattr(sharding, 'make_mesh', lambda: mesh_of(1))


@pytest.fixture(scope='session')
def real_data() -> Path:
    """The folder of real images and weights that SIMPROPNET_DATA names."""
    if 'SIMPROPNET_DATA' not in os.environ:
        pytest.skip('SIMPROPNET_DATA does not name a folder with real images and weights')
    return Path(os.environ['SIMPROPNET_DATA'])


@pytest.fixture(scope='session')
def prepared_data(tmp_path_factory) -> Path:
    """A data set of 80 small drawn images, prepared by the command as a user would: pascal5i/subset in this folder."""
    from simpropnet_jax.datasets.pascal5i.prepare import prepare
    from tests.datasets.voc_files import write_list, write_palette_png
    from tests.fakes import decoded, fake_source

    root, source = tmp_path_factory.mktemp('drawn'), fake_source(n=80)
    voc = root / 'VOCdevkit' / 'VOC2012'
    for i, image_id in enumerate(source.ids):
        path = voc / 'JPEGImages' / f'{image_id}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.example(i)[0])
        write_palette_png(root / 'aug' / f'{image_id}.png', decoded(source.example(i)[1]))
    members = {
        name: [source.ids[i] for i in listed.nonzero()[0]]
        for name, listed in source.index.lists.items()
    }
    write_list(voc / 'ImageSets' / 'Segmentation' / 'train.txt', members['trainaug'])
    write_list(voc / 'ImageSets' / 'Segmentation' / 'val.txt', members['val'])
    prepare(str(root / 'tfds'), voc=str(voc), aug=str(root / 'aug'), subset=True)
    return root / 'tfds'


@pytest.fixture(scope='session')
def small_config(prepared_data):
    """small_config(argument): SimPropNet's config made so small that a step takes milliseconds."""
    from configs import simpropnet
    from tests.fakes import SMALL

    def make(argument='fold=1', **changes):
        config = simpropnet.get_config(argument)
        config.update_from_flattened_dict(SMALL | {'data.dir': str(prepared_data)} | changes)
        return config

    return make
