"""The documents keep their word: every command is executed on small data, or is parsed where that would take long."""

import glob
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import predict
import pytest
from PIL import Image

import runs
import study
from configs import hpascal, simpropnet
from simpropnet_jax.app import __main__ as app
from simpropnet_jax.config import field_help
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.config.stored import store_config
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.folder import __main__ as own_folder
from simpropnet_jax.datasets.packed import __main__ as packed
from simpropnet_jax.datasets.pascal5i import __main__ as pascal5i
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.evaluation.results import tables
from simpropnet_jax.sweeps import budget, demo
from tests.app import screenshot
from tests.fakes import SMALL, fake_source

ROOT = Path(__file__).parent.parent
TEXTS = {name: (ROOT / name).read_text() for name in ('README.md', 'docs/HOWTO.md')}
CHOICES = (ROOT / 'docs' / 'CHOICES.md').read_text()
TEXT = '\n'.join(TEXTS.values())
PROGRAMS = ('make', 'source', 'pip', 'tensorboard', 'python')
ABSL = (  # modules with flags of train.py's kind
    '.pairs_figure',
    '.list_episodes',
    '.hierarchy_build',
    '.hierarchy',
    '.overlap',
    '.similarity',
    '.background',
    '.export',
    '.onnx',
)
READING = (
    '.compare',
    '.curves',
    '.supervised',
    '_table',
    '.pictures',
    '.page',
)  # modules with main(flags)
SCRIPTS = ('train.py', 'eval.py', 'predict.py', 'demo.py', 'study.py')


def blocks(language, text=TEXT):
    return re.findall(rf'```{language}\n(.*?)```', text, re.S)


def spans(text):
    return re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', text, flags=re.S))


def commands():
    """Words of every command: in blocks, in the text, and what the demo prints under 'Next'."""
    said = ''.join(blocks('sh')).replace('\\\n', '').splitlines()
    said += [
        span
        for span in spans(TEXT)
        if span.startswith(tuple(f'{program} ' for program in PROGRAMS))
    ]
    said += [
        re.split(r'\s{2,}', line.strip())[0]
        for line in demo.NEXT.format(workdir='runs/demo').splitlines()[2:]
    ]
    return [
        shlex.split(line, comments=True)
        for line in dict.fromkeys(said)
        if not line.startswith('README.md')
    ]


def python(*words, cwd=ROOT, **env):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'XLA_FLAGS': ''} | env,
    )


def started(folder):
    """A folder in which runs/fold2 was begun."""
    (folder / 'runs' / 'fold2').mkdir(parents=True)
    (folder / 'configs').symlink_to(ROOT / 'configs')
    store_config(simpropnet.get_config('fold=2'), folder / 'runs' / 'fold2')
    return folder


def test_documents_have_no_commands_but_those_tested_here():
    assert set(re.findall(r'^ *```(\w+)', TEXT, re.M)) == {'sh', 'python'}
    assert not re.search(
        r'^    \S', re.sub(r'```.*?```', '', TEXT, flags=re.S), re.M
    )  # no block without a language
    assert len(commands()) > 12


@pytest.mark.parametrize('words', commands(), ids=' '.join)
def test_a_command_can_be_typed(words, tmp_path, monkeypatch, refused):
    match words:
        case ['make', target]:
            assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.M)
        case ['source', activate]:
            assert (
                'VENV := .venv\n' in (ROOT / 'Makefile').read_text()
                and activate == '.venv/bin/activate'
            )
        case ['pip', 'install', '-e', what]:
            extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project'][
                'optional-dependencies'
            ]
            assert what[2:-1] in extras
        case ['tensorboard', '--logdir', folder]:
            assert (
                folder.startswith('runs')
                and '\ntensorboard>' in (ROOT / 'requirements.txt').read_text()
            )
        case [
            'python',
            '-m',
            'simpropnet_jax.datasets.pascal5i',
            *flags,
        ]:  # --download: tests/runtime/test_download.py
            pascal5i._parse(flags)
        case ['python', '-m', 'simpropnet_jax.datasets.folder', *flags]:
            own_folder.parser().parse_args(flags)
        case ['python', '-m', 'simpropnet_jax.evaluation.results.tables', files]:
            assert files == 'runs/*/eval/*.json'
        case ['python', '-m', 'simpropnet_jax.datasets.packed', *flags]:
            packed.parser().parse_args(flags)
        case ['python', '-m', 'simpropnet_jax.app', *flags]:
            app.parser().parse_args(flags)
        case ['python', '-m', 'tests.app.screenshot', *flags]:
            screenshot.parser().parse_args(flags)
        case ['python', '-m', module, *flags] if module.endswith(READING):
            monkeypatch.chdir(tmp_path)
            with refused('.*(there is no|has no)'):  # what it reads
                importlib.import_module(module).main(flags)
        case ['python', '-m', module, *flags] if module.endswith(ABSL):
            done = python('-m', module, *flags, '--only_check_args')
            assert done.returncode == 0, done.stderr
        case ['python', '-m', module, *flags] if module.startswith('benchmarks.'):
            known = importlib.import_module(module)
            if hasattr(known, 'parser'):
                known.parser().parse_args(flags)
            else:
                done = python('-m', module, *flags, '--only_check_args')
                assert done.returncode == 0, done.stderr
        case ['python', 'predict.py', *flags] if '--help' not in flags:
            predict.parser().parse_args(flags)
        case ['python', 'study.py', *flags]:
            for config, _ in study.configs(study.parser().parse_args(flags)).values():
                config_rules.validate(config, devices=1)
        case ['python', 'runs.py', *flags]:
            given = runs.parser().parse_args(flags)
            for run in given.runs:
                config_rules.validate(budget.plan(run, given.set, given.epochs).config, devices=1)
        case ['python', script, *flags]:
            assert script in SCRIPTS
            cwd = started(tmp_path) if ':start=' in ' '.join(flags) else ROOT
            done = python(ROOT / script, *flags, '--only_check_args', cwd=cwd)
            assert done.returncode == 0, done.stderr
        case _:
            pytest.fail(f'no test knows the command {words}')


def test_configs_fields_and_links_that_are_named_are_there():
    for argument in set(re.findall(r'configs/\w+\.py[:\w=,]*', TEXT)) - {
        'configs/finetune.py:start=runs'
    }:
        field_help.load(argument)
    overrides = shlex.split(' '.join(span for span in spans(TEXT) if span.startswith('--config.')))
    done = python(
        'train.py',
        '--config',
        'configs/canet.py',
        '--workdir',
        'W',
        *overrides,
        '--only_check_args',
    )
    assert overrides and done.returncode == 0, done.stderr
    for name, text in TEXTS.items():
        links = re.findall(r'(?<!!)\[[^]]*\]\((?!http)([^)]+)\)', text)
        assert all((ROOT / name).parent.joinpath(link).exists() for link in links), links
    assert (
        'README.md, "Prepare PASCAL-5i"' in demo.NEXT
        and '\n## Prepare PASCAL-5i' in TEXTS['README.md']
    )


def test_fields_and_places_in_the_code_that_are_named_are_there():
    named = {name for span in spans(TEXT) for name in re.findall(r'^config\.([\w.]+)', span)}
    field = re.compile(r'(?:data|model|train|tpc|select|eval|partitions|features)\.\w+')
    named |= {field.match(span)[0] for span in spans(CHOICES) if field.match(span)}
    known = [*config_rules.NAMES, *dict(config_rules.fields(hpascal.get_config()))]
    assert (
        len(named) > 20
        and [name for name in named if not any(one.startswith(name) for one in known)] == []
    )
    places = [span.partition(': ') for span in spans(CHOICES) if re.match(r'\w+/\w+\.py', span)]
    assert len(places) > 20
    for path, _, name in places:
        file = next(
            folder / path for folder in (ROOT, ROOT / 'simpropnet_jax') if (folder / path).exists()
        )
        assert re.search(rf'^(def|class) {name}', file.read_text(), re.M), (path, name)


@pytest.fixture(scope='module')
def newcomer(tmp_path_factory):
    """A folder that looks like a checkout, with the pictures and the downloads that the documents speak of."""
    from tests.datasets.voc_files import write_files

    folder, source = write_files(tmp_path_factory.mktemp('checkout')).root, fake_source(n=4)
    for name in (*SCRIPTS, 'configs', 'simpropnet_jax'):
        (folder / name).symlink_to(ROOT / name)
    (folder / 'photos').mkdir()
    for number, name in enumerate(('cat.jpg', 'query.jpg', 'photos/1.jpg', 'photos/2.jpg')):
        (folder / name).write_bytes(source.example(number)[0])
    (folder / 'cat.png').write_bytes(source.example(0)[1])
    subprocess.run(
        ['tar', '-cf', 'VOCtrainval_11-May-2012.tar', 'VOCdevkit'], cwd=folder, check=True
    )
    return folder


def test_preparing_what_is_at_hand(newcomer, tmp_path, monkeypatch):
    monkeypatch.chdir(newcomer)
    prepare = [
        words[3:] for words in commands() if words[2:3] == ['simpropnet_jax.datasets.pascal5i']
    ]
    for number, flags in enumerate([flags for flags in prepare if '--download' not in flags]):
        home = tmp_path / str(number)
        monkeypatch.setenv('HOME', str(home))
        pascal5i.main([os.path.expanduser(word) for word in flags] + ['--subset'])
        assert len(open_source('pascal5i/subset', home / 'tensorflow_datasets').ids) == 9
    assert number == 1


@pytest.mark.slow
def test_the_readme_from_training_to_a_mask(newcomer, prepared_data, capsys, monkeypatch):
    small = [
        f'--config.{name}={value}' for name, value in (SMALL | {'data.dir': prepared_data}).items()
    ]
    ours = [
        shlex.split(line, comments=True)
        for line in ''.join(blocks('sh', TEXTS['README.md'])).splitlines()
    ]
    ours = [words[1:] for words in ours if words[1] in SCRIPTS]
    assert [words[0] for words in ours] == ['train.py', 'eval.py', 'predict.py']
    for words in ours:
        done = python(*words, *(small if words[0] == 'train.py' else ()), cwd=newcomer)
        assert done.returncode == 0, done.stderr[-2000:]
    masks = {path.name for path in (newcomer / 'masks').iterdir()}
    written = {f'{name}_{what}' for name in '12' for what in ('mask.png', 'overlay.jpg')}
    assert masks == written | {'run.json', 'done.jsonl'}
    monkeypatch.chdir(newcomer)
    tables.main(sorted(glob.glob('runs/*/eval/*.json')))
    assert 'split-3' in capsys.readouterr().out
    exporting = next(
        words for words in commands() if 'simpropnet_jax.export' in words and '--onnx' not in words
    )
    done = python(*exporting[1:], cwd=newcomer)
    assert done.returncode == 0, done.stderr[-2000:]
    for block in blocks('python'):
        defined = {}
        exec(block, defined)
        assert defined['mask'].dtype == bool and defined['probability'].dtype == np.float32


@pytest.mark.slow
def test_the_howto_from_canet_to_a_verdict(newcomer, prepared_data):
    changes = SMALL | {'data.dir': prepared_data, 'tpc.steps': 2, 'eval.episodes': 40}
    small = [f'--config.{name}={value}' for name, value in changes.items()]
    runs = ('runs/canet2', 'runs/crc_tpc2')
    trained, evaluated = (
        [words for words in commands() if words[1] == script and words[-1] in runs]
        for script in ('train.py', 'eval.py')
    )
    figure, compared = (
        [
            words
            for words in commands()
            if words[2:]
            and words[2].endswith(modules)
            and 'canet' in ' '.join(words)
            and 'study' not in ' '.join(words)
        ]
        for modules in ('.pairs_figure', ('.compare', '.curves'))
    )
    assert [len(found) for found in (trained, figure, evaluated, compared)] == [2, 1, 2, 2]
    for words in trained + figure + evaluated + compared:
        files = [
            name for word in words[1:] for name in glob.glob(word, root_dir=newcomer) or [word]
        ]
        done = python(*files, *(small if '--config' in words else ()), cwd=newcomer)
        assert done.returncode == 0, done.stderr[-2000:]
        if words in compared:
            assert 'undecided' in done.stdout or '95 % of it' in done.stdout
    assert all((newcomer / name).stat().st_size > 0 for name in ('pairs.png', 'curves.png'))


@pytest.mark.slow
def test_the_howto_for_somebody_elses_predictions(newcomer, prepared_data):
    changes = SMALL | {'data.dir': prepared_data}
    small = [
        f'--config.{name}={value}'
        for name, value in changes.items()
        if name.startswith(('data', 'eval'))
    ]
    written, scored = (
        next(words for words in commands() if what in words)
        for what in ('simpropnet_jax.cli.list_episodes', '--predictions')
    )
    done = python(*written[1:], *small, cwd=newcomer)
    assert done.returncode == 0, done.stderr[-2000:]
    (newcomer / 'masks').mkdir(exist_ok=True)
    for old in (newcomer / 'masks').iterdir():  # of predict.py
        old.unlink()
    episodes = json.loads((newcomer / 'fold2.json').read_text())
    for one in episodes['episodes']:
        Image.new('L', (33, 33), 255).save(newcomer / 'masks' / f'{one["name"]}.png')
    done = python(*scored[1:], *small, cwd=newcomer)
    assert done.returncode == 0, done.stderr[-2000:]
    (result,) = (newcomer / 'runs' / 'theirs' / 'eval').glob('*.json')
    assert f'{scored[-3]}/eval/{result.name}' in TEXT
    assert json.loads(result.read_text())['protocol']['hash'] == episodes['hash']


@pytest.mark.slow
def test_the_demo(newcomer):
    shapes5i.load(newcomer / 'runs', {'trainaug': 60, 'val': 90})
    small = SMALL | {
        'data.name': 'shapes5i',
        'select.every': 6,
        'eval.label_size': 0,
    }  # 0: the protocol's
    done = python(
        'demo.py', *(f'--config.{name}={value}' for name, value in small.items()), cwd=newcomer
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        'prototype on the same encoder' in done.stdout
        and 'eval.py --workdir runs/demo' in done.stdout
    )
    assert len(list((newcomer / 'runs' / 'demo' / 'figures' / 'latest').iterdir())) > 0
