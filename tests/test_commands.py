"""The commands as a user types them: from prepared data to a table, and every mistake in one sentence."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import simpropnet
from simpropnet_jax.config import field_help
from simpropnet_jax.config import rules as config_rules

ROOT = Path(__file__).parent.parent
CONFIG = 'configs/simpropnet.py'


def run(*words, **env):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'XLA_FLAGS': ''} | env,
    )


@pytest.fixture(scope='module')
def small(prepared_data):
    """Flags that make the real configs small."""
    from tests.fakes import SMALL

    return [
        f'--config.{name}={value}' for name, value in (SMALL | {'data.dir': prepared_data}).items()
    ]


@pytest.mark.slow
def test_train_then_evaluate_then_print_the_folds(small, tmp_path):
    results = []
    for fold in (0, 1):
        workdir = tmp_path / f'fold{fold}'
        arguments = ['--config', f'{CONFIG}:fold={fold}', '--workdir', workdir, *small]
        trained = run('train.py', *arguments)
        assert trained.returncode == 0, trained.stderr[-2000:]
        assert 'step 6/6' in trained.stderr and 'done in 0:00:00' in trained.stderr
        evaluated = run('eval.py', '--workdir', workdir)
        assert evaluated.returncode == 0, evaluated.stderr[-2000:]
        assert 'mIoU' in evaluated.stdout
        assert (workdir / 'figures' / 'best' / '1shot_median.jpg').stat().st_size > 0
        results += (workdir / 'eval').glob('*.json')
    record = json.loads(results[1].read_text())
    assert record['fold'] == 1 and record['classes'] == ['bus', 'car', 'cat', 'chair', 'cow']
    assert record['checkpoint']['selection'] == 'novel_val' and record['checkpoint']['step'] in (
        3,
        6,
    )
    assert record['protocol']['name'] == 'simpropnet' and record['label_size'] == 33
    table = run('-m', 'simpropnet_jax.evaluation.results.tables', *results)
    assert table.returncode == 0 and 'split-4' in table.stdout
    assert (
        table.stdout.splitlines()[-1].split().count('-') == 4
    )  # two folds and, without them, both means


@pytest.mark.slow
def test_a_study_ends_in_a_verdict_and_the_second_time_trains_nothing(small, tmp_path):
    fields = [word for flag in small for word in ('--set', flag.removeprefix('--config.'))]
    words = [
        'study.py',
        '--workdir',
        tmp_path,
        '--rows',
        'canet,crc',
        *fields,
        '--set',
        'eval.episodes=40',
    ]
    first = run(*words)
    assert first.returncode == 0, first.stderr[-2000:]
    assert first.stderr.count('step 6/6') == 2 and 'CANet + CRC' in first.stdout
    assert (tmp_path / 'canet' / 'eval' / 'simpropnet_fold1_33px_best_identical.json').exists()
    found = json.loads((tmp_path / 'study.json').read_text())
    assert found.keys() == {'canet', 'crc'} and 'comparison' not in found['canet']
    assert found['crc']['miou'].keys() == {'episodes', 'identical', 'zero_mask'}
    comparison = found['crc']['comparison']
    assert comparison['against'] == 'canet' and comparison['verdict'] in (
        'better',
        'worse',
        'undecided',
    )
    others = found['crc']['other_comparisons']
    assert (
        others.keys() == {'identical', 'zero_mask'}
        and others['identical'].keys() == comparison.keys()
    )
    table = first.stdout.splitlines()[-5:]
    assert 'verdict' in table[0] and comparison['verdict'] in table[3]
    results = {path: path.stat().st_mtime_ns for path in tmp_path.glob('*/eval/*')}
    shutil.rmtree(tmp_path / 'canet' / 'checkpoints')  # results are enough
    again = run(*words)
    assert (
        again.returncode == 0
        and 'step 6/6' not in again.stderr
        and again.stdout.splitlines()[-5:] == table
    )
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob('*/eval/*')} == results
    more = run(*words, '--rows', 'crc', '--seeds', '2', '--inputs', 'episodes')
    assert more.returncode == 0 and more.stderr.count('step 6/6') == 1, more.stderr[-2000:]
    row = json.loads((tmp_path / 'study.json').read_text())['crc']
    scores = [one['miou']['episodes']['miou'] for one in row['trainings']]
    assert [one['seed'] for one in row['trainings']] == [0, 1] and row['comparison'][
        'trainings'
    ] == [1, 2]
    assert row['miou']['episodes']['miou'] == pytest.approx(np.mean(scores))
    assert row['miou']['episodes']['std'] == pytest.approx(np.std(scores, ddof=1))
    assert {path: path.stat().st_mtime_ns for path in results} == results


@pytest.mark.slow
def test_the_prototype_is_evaluated_without_training(small, tmp_path):
    fields = [
        word
        for word in small
        if word.startswith(('--config.data', '--config.eval', '--config.model.w'))
    ]
    done = run('eval.py', '--config', 'configs/prototype.py:fold=1', '--workdir', tmp_path, *fields)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads(next((tmp_path / 'eval').glob('*.json')).read_text())
    assert record['method'] == 'prototype' and record['checkpoint']['step'] is None


MISTAKES = {
    '--config is missing': ['train.py', '--workdir', 'W'],
    '--workdir is missing': ['train.py', '--config', CONFIG],
    '--config: there is no file configs/simpropnot.py': [
        'train.py',
        '--config',
        'configs/simpropnot.py',
    ],
    "unknown config argument 'cpuu'; allowed after the colon: fold=N": [
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
    'has no checkpoints: train there first': ['eval.py'],
    "unexpected argument 'stray'": ['stray'],
    '--config.eval.shots needs --config too': [
        'eval.py',
        '--workdir',
        'W',
        '--config.eval.shots=(1,)',
    ],
    'unknown config field config.train.stps; did you mean config.train.steps': [
        'demo.py',
        '--config.train.stps=1',
    ],
}


@pytest.mark.parametrize('sentence', MISTAKES)
def test_a_mistake_ends_in_one_sentence_before_anything_is_written(sentence, small, tmp_path):
    words = list(MISTAKES[sentence])
    if not words[0].endswith('.py') or words == ['eval.py']:
        command = words.pop(0) if words == ['eval.py'] else 'train.py'
        words = [command, '--config', CONFIG, '--workdir', tmp_path / 'W', *small, *words]
    check_one_sentence(run(*words, XLA_FLAGS='--xla_force_host_platform_device_count=8'), sentence)
    assert not (tmp_path / 'W').exists()


def check_one_sentence(done, sentence):
    last = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert len(last) == 1 and last[0].startswith('error: ') and sentence in last[0], done.stderr[
        -2000:
    ]


STUDY_MISTAKES = {
    "--rows has 'crcc'; there are propagation, methods, readings, cycles, canet, crc, ": [
        '--rows',
        'canet,crcc',
    ],
    "unknown config argument 'cpuu'; allowed after the colon: fold=N": ['--recipe', 'cpuu'],
    'unknown config field config.train.btach; did you mean config.train.batch': [
        '--set',
        'train.btach=4',
    ],
    "train.batch=four: 'four' is not a number": ['--set', 'train.batch=four'],
    'config.train.batch must be a whole number, 1 or more, got 4.5': ['--set', 'train.batch=4.5'],
    'inputs must be of episodes, identical, zero_mask, other_class': ['--inputs', 'same'],
    'pascal5i/sbd is not prepared in /nowhere': [
        '--set',
        'model.weights=',
        '--set',
        'data.dir=/nowhere',
    ],
}


@pytest.mark.parametrize('sentence', STUDY_MISTAKES)
def test_a_mistake_in_a_study_ends_in_one_sentence_before_anything_is_written(sentence, tmp_path):
    done = run('study.py', '--workdir', tmp_path / 'W', *STUDY_MISTAKES[sentence])
    check_one_sentence(done, sentence)
    assert not (tmp_path / 'W').exists()


def test_help_has_an_example_and_every_field_with_its_value_and_comment():
    done = run('train.py', '--help', COLUMNS='120')
    assert done.returncode == 0 and done.stderr == ''
    assert 'python train.py --config configs/simpropnet.py:fold=2 --workdir' in done.stdout
    assert re.search(r'--workdir +folder for [^-]* \(required\)', done.stdout)
    fields = dict(re.findall(r'^  (?!--|configs/)([\w.]+=\S+) *(.*)', done.stdout, re.M))
    assert fields['train.batch=8'] == 'pairs per step, over all devices and hosts'
    assert [field for field, comment in fields.items() if not comment] == []
    known = dict(config_rules.fields(simpropnet.get_config()))
    assert {field.partition('=')[0] for field in fields} == known.keys()
    # As they are printed, they can be typed.
    typed = shlex.split(' '.join(f'--config.{field}' for field in fields))
    done = run(
        'train.py', '--config', f'{CONFIG}:baseline', '--workdir', 'W', *typed, '--only_check_args'
    )
    assert done.returncode == 0, done.stderr


def test_help_follows_the_config_that_is_given():
    done = run('train.py', '-h', '--config', f'{CONFIG}:fold=2,cpu')
    assert '  train.steps=500 ' in done.stdout and '  fold=2 ' in done.stdout
    done = run('demo.py', '--help')
    assert "data.name='shapes5i'" in done.stdout and '(default: configs/shapes.py)' in done.stdout
    done = run('eval.py', '--help')
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
