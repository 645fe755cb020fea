"""Eight virtual CPU devices, set before JAX starts, and the real data where a developer has it."""

import atexit
import contextlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path

# Many tests train the same small network: it is compiled once, for all of them and for the commands they start.
if 'PYTEST_XDIST_WORKER' not in os.environ:  # workers inherit it
    os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='simpropnet_jax_')
    atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = (
    '1'  # of machine code: compiling takes a third of the time
)
os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
)

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.sharding import AxisType  # noqa: E402


@pytest.fixture(autouse=True)
def _log_as_before():
    """A command that runs in this process sends the package's messages to its own handler: only while it runs."""
    package = logging.getLogger('simpropnet_jax')
    before = package.level, package.propagate, list(package.handlers)
    yield
    package.level, package.propagate, package.handlers[:] = before


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
def mesh_of():
    """mesh_of(n): a mesh over the first n devices."""
    return lambda n: jax.make_mesh(
        (n,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:n]
    )


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
