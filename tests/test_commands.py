"""The commands as a user types them: from prepared data to a table, and every mistake in one sentence."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from configs import simpropnet
from simpropnet_jax.cli import main as cli
from simpropnet_jax.cli import run_folder, train
from simpropnet_jax.config import command_line, field_help
from simpropnet_jax.config import rules as config_rules
from tests.compiling import QUICKLY

ROOT = Path(__file__).parent.parent
CONFIG = 'configs/simpropnet.py'


def run(*words, python=sys.executable, **env):
    return subprocess.run(
        [python, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'XLA_FLAGS': QUICKLY} | env,
    )


@pytest.fixture(scope='module')
def small(prepared_data):
    """Flags that make the real configs small."""
    from tests.fakes import SMALL

    return [
        f'--config.{name}={value}' for name, value in (SMALL | {'data.dir': prepared_data}).items()
    ]


@pytest.mark.slow
def test_train_then_evaluate_then_print_the_table(
    small, tmp_path, run_here, one_device, preloaded_python
):
    workdir = tmp_path / 'fold1'
    words = ('--config', f'{CONFIG}:fold=1', '--workdir', workdir, *small)
    trained = run('train.py', *words, python=preloaded_python)
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert 'step 6/6' in trained.stderr and 'done in 0:00:00' in trained.stderr
    evaluated = run('eval.py', '--workdir', workdir, python=preloaded_python)
    assert evaluated.returncode == 0, evaluated.stderr[-2000:]
    assert 'mIoU' in evaluated.stdout
    assert (workdir / 'figures' / 'best' / '1shot_median.jpg').stat().st_size > 0
    (result,) = (workdir / 'eval').glob('*.json')
    record = json.loads(result.read_text())
    assert record['fold'] == 1 and record['classes'] == ['bus', 'car', 'cat', 'chair', 'cow']
    assert record['checkpoint']['selection'] == 'novel_val' and record['checkpoint']['step'] in (
        3,
        6,
    )
    assert record['protocol']['name'] == 'simpropnet' and record['label_size'] == 33
    changed = run_here('eval.py', '--checkpoint', f'{workdir}@latest', '--config.eval.shots=(2,)')
    assert changed.returncode == 0, changed.stderr[-2000:]
    latest = json.loads((workdir / 'eval' / 'simpropnet_fold1_33px_latest.json').read_text())
    assert list(latest['shots']) == ['2'] and latest['checkpoint']['step'] == 6
    refused = run_here('eval.py', '--workdir', workdir, '--config.train.size=41')
    assert refused.returncode == 2 and 'train.size: was 33, now 41' in refused.stderr
    table = run_here('-m', 'simpropnet_jax', 'tables', result)
    assert table.returncode == 0 and 'split-4' in table.stdout
    # three folds and, without them, both means
    assert table.stdout.splitlines()[-1].split().count('-') == 5


@pytest.mark.slow
def test_the_prototype_is_evaluated_without_training(small, tmp_path, run_here, one_device):
    fields = [
        word
        for word in small
        if word.startswith(('--config.data', '--config.eval', '--config.model.w'))
    ]
    words = ('--config', 'configs/prototype.py:fold=1', '--workdir', tmp_path, *fields)
    done = run_here('eval.py', *words)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(next((tmp_path / 'eval').glob('*.json')).read_text())
    assert record['method'] == 'prototype' and record['checkpoint']['step'] is None


TRAINED = ['the rest of a training']
MISTAKES = {
    '--config is missing': ['train.py', '--workdir', 'W'],
    '--workdir is missing': ['train.py', '--config', CONFIG],
    '--config: there is no file configs/simpropnot.py. The recipes are amp, background, canet': [
        'train.py',
        '--config',
        'configs/simpropnot.py',
    ],
    "--config: there is no recipe 'simpropnot'. Did you mean simpropnet?": [
        'train.py',
        '--config',
        'simpropnot:fold=2',
    ],
    "'cpuu'": [
        'train.py',
        '--config',
        f'{CONFIG}:cpuu',
    ],
    'unknown config field config.train.btach; did you mean config.train.batch': [
        '--config.train.btach=4'
    ],
    'fold must be 0, 1, 2 or 3, got 4': ['--config.fold=4'],
    'config.train.shot must be a whole number, 1 or more, got 0': ['--config.train.shot=0'],
    "config.data.void must be 'ignore' or 'background', got 'foo'": ['--config.data.void=foo'],
    'config.train.batch must be a multiple of the 8 devices (of 1 host), got 12; the nearest that fit are 8 and 16': [
        '--config.train.batch=12'
    ],
    'pascal5i/subset is not prepared in /nowhere': ['--config.data.dir=/nowhere'],
    'backbone weights not found: /nowhere/resnet.h5': ['--config.model.weights=/nowhere/resnet.h5'],
    'shots': ['--config.train.shot=50'],
    'has no checkpoints': ['eval.py', *TRAINED],
    "unexpected argument 'stray'": ['stray'],
    'W has no config.json': ['eval.py', '--workdir', 'W', '--config.eval.shots=(1,)'],
    'give --workdir DIR or --checkpoint RUN': ['eval.py', '--config', CONFIG],
    '--checkpoint latest and --workdir W name different folders: write --checkpoint W@latest': [
        'eval.py',
        '--workdir',
        'W',
        '--checkpoint',
        'latest',
    ],
    'unknown config field config.train.stps': [
        '-m',
        'simpropnet_jax',
        'demo',
        '--config.train.stps=1',
    ],
    "there is no command 'trian'; did you mean train?": ['-m', 'simpropnet_jax', 'trian'],
    "after `simpropnet hpascal` must come one of build, eval, table, got 'bild'": [
        '-m',
        'simpropnet_jax',
        'hpascal',
        'bild',
    ],
}


@pytest.mark.parametrize('sentence', MISTAKES)
def test_a_mistake_ends_in_one_sentence_before_anything_is_written(
    sentence, small, tmp_path, run_here
):
    words = list(MISTAKES[sentence])
    of_a_training = not words[0].endswith('.py') and words[0] != '-m'
    if of_a_training or TRAINED[0] in words:
        script = 'train.py' if of_a_training else words.pop(0)
        rest = [word for word in words if word not in TRAINED]
        words = [script, '--config', CONFIG, '--workdir', tmp_path / 'W', *small, *rest]
    check_one_sentence(run_here(*words), sentence)
    assert not (tmp_path / 'W').exists()


def check_one_sentence(done, sentence):
    last = done.stderr.strip().splitlines()
    assert done.returncode == 2
    alone = len(last) == 1 and last[0].startswith('error: ')
    assert alone and sentence in last[0], done.stderr[-2000:]


def test_help_has_an_example_and_every_field_with_its_value_and_comment():
    done = run('train.py', '--help', COLUMNS='120')
    assert done.returncode == 0 and done.stderr == ''
    assert 'simpropnet train --config simpropnet:fold=2 --workdir' in done.stdout
    assert re.search(r'--workdir DIR +folder for [^-]* \(required\)', done.stdout)
    fields = dict(re.findall(r'^  (?!--)([\w.]+=\S+) *(.*)', done.stdout, re.M))
    assert 'all devices' in fields['train.batch=8']
    assert [field for field, comment in fields.items() if not comment] == []
    known = dict(config_rules.fields(simpropnet.get_config()))
    assert {field.partition('=')[0] for field in fields} == known.keys()
    # As they are printed, they can be typed.
    typed = shlex.split(' '.join(f'--config.{field}' for field in fields))
    args = command_line.parse(train, ['--config', f'{CONFIG}:baseline', '--workdir', 'W', *typed])
    assert args.config == simpropnet.get_config()


def test_help_follows_the_config_that_is_given(run_here):
    done = run_here('train.py', '-h', '--config', f'{CONFIG}:fold=2,cpu')
    assert '  train.steps=500 ' in done.stdout and '  fold=2 ' in done.stdout
    done = run_here('-m', 'simpropnet_jax', 'demo', '--help')
    assert "data.name='shapes5i'" in done.stdout and '(default: shapes)' in done.stdout
    done = run_here('eval.py', '--help')
    assert 'eval.shots=' in done.stdout and 'train.batch=' not in done.stdout


def test_a_config_of_ones_own_is_explained_by_its_comments_and_by_those_it_is_built_on(tmp_path):
    (tmp_path / 'mine.py').write_text(
        'from simpropnet_jax.config import common\n\n\ndef get_config(words):\n    config = common.base()\n'
        '    config.model = net = type(config)()\n    net.depth = 3  # of the net\n'
        '    config.train.batch = 2  # as much as fits\n    return config\n'
    )
    text = field_help.describe(str(tmp_path / 'mine.py'))
    assert re.search('model.depth=3 +of the net\n', text)
    assert re.search('train.batch=2 +pairs per step', text)


EVERY_HELP = """
import contextlib, io, sys
from simpropnet_jax.cli import main as cli

for name in cli.COMMANDS:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        cli.main([*name.split(), '--help'])
    first, *rest = text.getvalue().splitlines()
    assert first.startswith(f'usage: simpropnet {name}'), (name, first)
    assert any(line.startswith(f'    simpropnet {name}') for line in rest), name
    assert '--verbose' in text.getvalue() and '(default: 1) (required)' not in text.getvalue(), name
print([one for one in ('jax', 'tensorflow', 'gradio', 'flax', 'numpy') if one in sys.modules])
"""


def test_every_help_shows_an_example_and_loads_nothing_heavy():
    done = run('-c', EVERY_HELP)
    assert done.returncode == 0 and done.stdout == '[]\n', done.stderr[-2000:]


def test_the_help_of_all_names_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(['--help'])
    text = capsys.readouterr().out
    assert all(re.search(f'^  {name} ', text, re.M) for name in cli.COMMANDS)
    with pytest.raises(SystemExit):
        cli.main(['pictures'])
    assert (
        'usage: simpropnet pictures {similar,side_by_side,pairs} [...]' in capsys.readouterr().out
    )
    assert signal.getsignal(signal.SIGPIPE) == signal.SIG_IGN  # a broken connection is an error


def test_help_ends_quietly_where_its_reader_has_gone():
    reads, writes = os.pipe()
    os.close(reads)
    words = [sys.executable, '-m', 'simpropnet_jax', 'train', '--help']
    done = subprocess.run(words, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, '')


def test_a_platform_that_jax_does_not_have_ends_in_one_sentence(small, tmp_path, preloaded_python):
    words = ['train.py', '--config', CONFIG, '--workdir', tmp_path / 'W', *small]
    done = run(*words, python=preloaded_python, JAX_PLATFORMS='cuda')
    check_one_sentence(done, "JAX_PLATFORMS is 'cuda', but JAX cannot use that here")


@pytest.mark.parametrize(
    ('text', 'folder', 'which'),
    [
        ('runs/fold2', 'runs/fold2', 'best'),
        ('runs/fold2@best', 'runs/fold2', 'best'),
        ('runs/fold2@latest', 'runs/fold2', 'latest'),
        ('runs/fold2@5000', 'runs/fold2', '5000'),
        ('runs/me@home/fold2', 'runs/me@home/fold2', 'best'),
        ('gs://bucket/fold2@latest', 'gs://bucket/fold2', 'latest'),
    ],
)
def test_a_checkpoint_is_a_run_and_which_of_its_weights(text, folder, which):
    found = run_folder.checkpoint(text)
    assert (str(found.folder), found.which) == (folder, which)


def test_fields_are_set_in_one_way_and_the_last_value_counts():
    words = ['--config', 'simpropnet:fold=2', '--workdir', 'W']
    changes = ['--config.eval.shots=(1,)', '--config.eval.shots=(5,)', '--config.train.crc']
    args = command_line.parse(train, [*words, *changes, '--config.train.turn=true'])
    config = args.config
    assert (config.fold, config.eval.shots, config.train.crc, config.train.turn) == (
        2,
        (5,),
        True,
        True,
    )


def test_a_recipe_is_found_by_name_or_path_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(
        "from simpropnet_jax.config import recipes\n\ndef get_config(words=''):\n"
        "    config = recipes.get('canet', words)\n    config.train.batch = 2\n    return config\n"
    )
    for argument, batch in {
        'simpropnet:fold=2': 8,
        'configs/simpropnet.py:fold=2': 8,
        f'{ROOT}/configs/simpropnet.py:fold=2': 8,
        'mine.py:fold=2': 2,
        f'{tmp_path}/mine.py:fold=2': 2,
    }.items():
        args = command_line.parse(train, ['--config', argument, '--workdir', 'W'])
        assert (args.config.fold, args.config.train.batch) == (2, batch)
