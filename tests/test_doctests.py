"""The examples in docstrings of the public API run as they stand."""

import doctest
import importlib
import logging
import shutil
from pathlib import Path

import pytest

import simpropnet_jax
from simpropnet_jax.models import registry
from tests.fakes import SMALL, fake_source
from tests.small_checkpoint import write_checkpoint

PACKAGE = Path(simpropnet_jax.__file__).parent
MODULES = [
    '.'.join(('simpropnet_jax', *path.relative_to(PACKAGE).with_suffix('').parts))
    for path in sorted(PACKAGE.rglob('*.py'))
    if '>>> ' in path.read_text()
]
EXAMPLES = [
    test
    for name in MODULES
    for test in doctest.DocTestFinder().find(importlib.import_module(name))
    if test.examples
]
PARAMETERS = [
    pytest.param(test, id=test.name, marks=pytest.mark.slow if 'evaluate' in test.name else ())
    for test in EXAMPLES
]


@pytest.fixture(scope='module')
def folder(tmp_path_factory, prepared_data):
    """A folder with a trained run and the pictures that the examples name."""
    folder, source = tmp_path_factory.mktemp('examples'), fake_source(n=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SMALL, 'data.dir', str(prepared_data))
        write_checkpoint(folder / 'runs' / 'fold2')
    image, label = source.example(0)
    (folder / 'cat.png').write_bytes(label)
    for name in ('cat.jpg', 'query.jpg'):
        (folder / name).write_bytes(image)
    yield folder
    shutil.rmtree(folder / 'runs')


@pytest.mark.parametrize('test', PARAMETERS)
def test_an_example_runs(test, folder, monkeypatch, caplog):
    monkeypatch.chdir(folder)
    registry.registered()  # or a method that is imported later would be forgotten
    monkeypatch.setattr(registry, '_methods', dict(registry._methods))
    caplog.set_level(logging.ERROR)
    for example in test.examples:  # tests/wheel_session.py loads the package's own model
        example.source = example.source.replace('pretrained()', "pretrained('runs/fold2')")
    printed = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=printed.append).failed == 0, ''.join(printed)


def test_the_public_api_has_examples():
    shown = {test.name.rpartition('.')[2] for test in EXAMPLES}
    assert {'segment', 'probe', 'from_pretrained', 'evaluate', 'register_method'} <= shown
