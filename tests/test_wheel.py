"""The wheel, installed into a fresh environment and used in an empty folder outside the checkout."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.fakes import SMALL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
SESSION = Path(__file__).parent / 'wheel_session.py'
SOURCES = ('LICENSE', 'MANIFEST.in', 'README.md', 'pyproject.toml', 'requirements.txt', 'setup.py')
SDIST = 'import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])'


def run(*words, cwd, **env):
    inherited = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=inherited | {'XLA_FLAGS': '', 'PIP_NO_INDEX': '1'} | env,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel that comes of the source distribution, which comes of a copy of the checkout."""
    folder = tmp_path_factory.mktemp('built')
    copy = folder / 'copy'
    without = shutil.ignore_patterns('__pycache__', '*.egg-info')
    for name in ('simpropnet_jax', 'configs'):
        shutil.copytree(ROOT / name, copy / name, ignore=without)
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    run(sys.executable, '-c', SDIST, folder, cwd=copy)
    (sdist,) = folder.glob('*.tar.gz')
    build = ('-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '--wheel-dir', folder)
    run(sys.executable, *build, sdist, cwd=folder)
    (found,) = folder.glob('*.whl')
    return found


@pytest.fixture(scope='module')
def environment(wheel, tmp_path_factory):
    """Make a fresh environment with the wheel; its dependencies come from the environment that runs the tests."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, symlinks=True)
    python = folder / 'bin' / 'python'
    install = ('install', '--no-deps', '--no-compile', wheel)
    run(sys.executable, '-m', 'pip', '--python', python, *install, cwd=folder)
    # Files *.pth in a folder that is added so are not read: an editable installation there does not count.
    (site,) = folder.glob('lib/python*/site-packages')
    places = dict.fromkeys(sysconfig.get_path(name) for name in ('purelib', 'platlib'))
    (site / 'dependencies.pth').write_text('\n'.join(places) + '\n')
    return folder


def test_the_wheel_has_the_recipes_and_complete_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith('/METADATA'))
        facts = email.message_from_bytes(archive.read(metadata))
        for recipe in (ROOT / 'configs').glob('*.py'):
            assert archive.read(f'simpropnet_jax/configs/{recipe.name}') == recipe.read_bytes()
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('simpropnet_jax/**/*.py')}
    assert modules <= names
    assert {'simpropnet_jax/py.typed', 'simpropnet_jax/datasets/pascal5i/counts.json'} <= names
    assert {f'simpropnet_jax/samples/{one}' for one in ('cat.jpg', 'LICENSES.md')} <= names
    for model in (ROOT / 'simpropnet_jax' / 'pretrained').glob('*'):
        assert f'simpropnet_jax/pretrained/{model.name}' in names
        assert model.stat().st_size < 25e6
    assert {name.partition('/')[0] for name in names} == {
        'simpropnet_jax',
        metadata.partition('/')[0],
    }
    assert any(name.endswith('/licenses/LICENSE') for name in names)
    assert facts['Author'] == 'The simpropnet_jax authors' and facts['Project-URL']
    assert facts['License-Expression'] == 'Apache-2.0' and facts['Keywords']
    classifiers = facts.get_all('Classifier')
    for minor in (11, 12, 13):
        assert f'Programming Language :: Python :: 3.{minor}' in classifiers
    assert facts['Requires-Python'] == '<3.14,>=3.11'
    assert any(one.startswith('jax') for one in facts.get_all('Requires-Dist'))


def test_the_installed_package_works_outside_the_checkout(environment, tmp_path):
    helped = run(environment / 'bin' / 'simpropnet', '--help', cwd=tmp_path)
    assert 'prepare pascal5i' in helped.stdout and helped.stderr == ''
    python = environment / 'bin' / 'python'
    assert run(python, '-m', 'simpropnet_jax', '--help', cwd=tmp_path).stdout == helped.stdout

    fields = SMALL | {'data.name': 'shapes5i', 'data.dir': 'runs'}
    session = {
        'environment': str(environment),
        'small': [f'--config.{name}={value}' for name, value in fields.items()],
        'snippets': re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.S),
    }
    assert session['snippets']
    (tmp_path / 'session.json').write_text(json.dumps(session))
    done = run(python, '-P', SESSION, 'session.json', cwd=tmp_path)
    assert 'configs/simpropnet.py is not here: using the recipe of the package' in done.stderr
