"""A sweep: verdicts, seeds, a time limit, and what is done is not done again."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from simpropnet_jax.cli import main as command
from simpropnet_jax.cli import sweep as cli
from simpropnet_jax.config import command_line
from simpropnet_jax.report import study_table
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.sweeps import sweep
from simpropnet_jax.sweeps.study import read_study
from simpropnet_jax.training import loop
from tests.fakes import SMALL

READINGS = Path(__file__).parents[2] / 'docs' / 'records' / 'readings'


@pytest.fixture(scope='module')
def run(prepared_data):
    """run(flags): a sweep at toy size, as the command runs it."""
    fields = SMALL | {'data.dir': prepared_data, 'eval.own_size': False}
    del fields['model.features']  # the prototype has none
    small = [f'--config.{name}={value}' for name, value in fields.items()]

    def call(workdir, *words):
        cli.main(command_line.parse(cli, ['--workdir', str(workdir), *small, *words]))
        return read_study(workdir)

    return call


@pytest.fixture
def trained(monkeypatch):
    """The run folders that a training was asked for."""
    from simpropnet_jax.sweeps import training

    folders, train = [], training.train_and_evaluate

    def noted(config, workdir):
        folders.append(workdir.name)
        return train(config, workdir)

    monkeypatch.setattr(training, 'train_and_evaluate', noted)
    return folders


def written(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob('*/eval/*')}


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_sweep_ends_in_verdicts_and_the_second_time_trains_nothing(
    run, trained, tmp_path, capsys
):
    fields = [
        '--config.eval.episodes=40',
        '--config.model.features=8',
    ]
    words = ['--rows', 'panet,panet_crc', *fields]
    study = run(tmp_path, *words)
    assert trained == ['panet', 'panet_crc'] == list(study)
    row = study['panet_crc']
    assert row['method'] == 'PANet + CRC' and 'comparison' not in study['panet']
    assert row['miou'].keys() == {'episodes', 'identical', 'zero_mask'}
    comparison, others = row['comparison'], row['other_comparisons']
    assert comparison['against'] == 'panet'
    assert comparison['verdict'] in ('better', 'worse', 'undecided')
    assert others.keys() == {'identical', 'zero_mask'}
    assert others['identical'].keys() == comparison.keys()
    check_facts(row, tmp_path)
    table = capsys.readouterr().out.splitlines()[-4:]
    assert 'verdict' in table[0] and comparison['verdict'] in table[3]
    assert f'{100 * row["selection_score"]:.1f} novel_val' in table[3]

    results, before = written(tmp_path), (tmp_path / 'study.json').read_bytes()
    shutil.rmtree(tmp_path / 'panet' / 'checkpoints')  # results are enough
    run(tmp_path, *words)
    assert trained == ['panet', 'panet_crc'] and capsys.readouterr().out.splitlines()[-4:] == table
    assert written(tmp_path) == results and (tmp_path / 'study.json').read_bytes() == before

    study = run(tmp_path, '--rows', 'panet_crc', '--inputs', 'episodes', '--seeds', '2', *fields)
    row = study['panet_crc']
    assert trained == ['panet', 'panet_crc', 'panet_crc_seed1']
    scores = [one['miou']['episodes']['miou'] for one in row['trainings']]
    assert [one['seed'] for one in row['trainings']] == [0, 1]
    assert row['comparison']['trainings'] == [1, 2]
    assert row['miou']['episodes']['miou'] == pytest.approx(np.mean(scores))
    assert row['miou']['episodes']['std'] == pytest.approx(np.std(scores, ddof=1))
    assert results.items() <= written(tmp_path).items()


def check_facts(row, workdir):
    assert (row['fold'], row['length'], row['batch'], row['size']) == (1, '6steps', 8, 33)
    assert (row['data'], row['dtype']) == ('pascal5i/subset', 'float32')
    assert row['parameters']['all'] > row['parameters']['trained'] > 0
    assert row['pairs_per_second'] > 0 and row['minutes'] > 0 and row['episodes_per_second'] > 0
    (training,) = row['trainings']
    assert training['versions']['jax'] and training['device']['platform'] == 'cpu'
    assert training['scores']['zero_mask']['1']['square']['fb_iou'] >= 0
    checkpoints = checkpoint.Checkpoints(workdir / 'panet_crc' / 'checkpoints')
    best = checkpoints.best_step()
    assert training['checkpoint'] == {'which': 'best', 'step': best}
    assert training['selection_score'] == row['selection_score'] == checkpoints.score(best)
    checkpoints.close()


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_a_sweep_stops_in_time_and_resumes(run, trained, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level('INFO')
    # The first training of each row comes first; a method without parameters has one alone.
    words = [
        'prototype',
        'panet:fold=1,model.features=8,seed=1,epochs=1',
        '--inputs',
        'episodes',
        '--seeds',
        '2',
    ]
    words += ['--minutes', '60']
    name = 'panet_fold_1_seed_1_model.features_8_1epochs'
    add = loop._Log.add

    def time_is_over(self, step, *made):
        add(self, step, *made)
        if step == 2:
            signal.raise_signal(signal.SIGALRM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(loop._Log, 'add', time_is_over)
        run(tmp_path, *words)
    assert stopped.value.code == loop.STOPPED_BY_SIGNAL
    assert (tmp_path / name / 'checkpoints' / '2').is_dir()
    study = read_study(tmp_path)
    assert list(study) == ['prototype'] and study['prototype']['parameters']['trained'] == 0
    assert f'2 of 3 trainings are left ({name}, {name}_seed1)' in caplog.text
    assert 'Re-run the same command to resume' in caplog.text
    assert capsys.readouterr().out.splitlines()[-1].startswith('prototype ')

    study = run(tmp_path, *words)
    assert trained == [name, name, f'{name}_seed1']
    row = study[name]
    assert (row['method'], row['fold'], row['against']) == ('PANet', 1, None)
    assert [one['seed'] for one in row['trainings']] == [1, 2] and row['length'] == '1epochs'
    assert 'comparison' not in row
    table = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[0] for line in table] == ['prototype', 'PANet']


def test_a_study_of_an_earlier_version_resumes_from_its_results_alone(tmp_path, capsys, trained):
    workdir = tmp_path / 'readings'
    shutil.copytree(READINGS, workdir)
    words = ['--rows', 'none_5000,relu_5000,block_5000', '--recipe', 'cpu', '--shots', '1,5']
    words += ['--config.select.on=base_val', '--config.select.episodes=500']
    words += ['--config.data.name=pascal5i/subset', '--config.data.dir=/nowhere']
    cli.main(command_line.parse(cli, ['--workdir', str(workdir), *words]))
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads((READINGS / 'study.json').read_text())
    assert 'episodes, 5-shot' in lines[1] and len(lines) == 3 + len(rows)
    assert lines[3].startswith('SimPropNet (none_5000) ') and ' 58.3 ± 0.8 ' in lines[3]
    same = (workdir / 'study.json').read_bytes() == (READINGS / 'study.json').read_bytes()
    assert trained == [] and same


def test_a_verdict_needs_results_of_one_evaluation(tmp_path, caplog):
    from simpropnet_jax.sweeps.study import compare, read_study

    shutil.copytree(READINGS, tmp_path, dirs_exist_ok=True)
    study = read_study(tmp_path)
    study['relu_5000']['against'] = 'none_5000'
    compare(tmp_path, study, 'none_5000')
    assert study['relu_5000']['comparison']['verdict'] == 'undecided'
    assert study['relu_5000']['other_comparisons'].keys() == {'identical', 'zero_mask'}
    assert study_table.table(study).count('undecided') == 1
    path = tmp_path / study['none_5000']['results']['episodes']
    record = json.loads(path.read_text())
    record['eval']['size'] = 321
    path.write_text(json.dumps(record))
    compare(tmp_path, study, 'relu_5000')
    assert 'comparison' not in study['relu_5000']
    assert 'relu_5000 on episodes has no verdict' in caplog.text


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--rows', 'canet,crcc'], "there is no row 'crcc'. Rows: canet"),
        (['--config.train.batch=4.5'], 'config.train.batch must be a whole number, 1 or more, got'),
        (
            ['--inputs', 'same'],
            '--inputs must be of episodes, identical, zero_mask, other_class, g',
        ),
        (['--shots', '0,5'], "--shots must be whole numbers above 0, such as 1,5, got '0,5'"),
        (['--seeds', '0'], '--seeds must be 1 or more, got 0'),
        (['--minutes', '0.1'], '--minutes must be more than 0.33, which saving may take, got 0.1'),
        (
            ['--config.model.weights=', '--config.data.dir=/nowhere', '--config.train.batch=8'],
            'pascal5i/sbd is not prepared in /nowhere',
        ),
    ],
)
def test_a_mistake_ends_in_one_sentence_before_anything_is_written(
    words, message, refused, tmp_path
):
    with refused(message):
        command.main(['sweep', '--workdir', str(tmp_path / 'W'), '--recipe', 'cpu', *words])
    assert not (tmp_path / 'W').exists()


def test_what_cannot_be_done_is_refused_before_the_first_training(run, trained, tmp_path):
    with pytest.raises(ValueError, match='a supervised network that takes no supports'):
        run(tmp_path, 'panet', 'deeplabv3plus', '--config.select.on=last')
    with pytest.raises(ValueError, match='config.train.batch must be a multiple of the 8 devices'):
        run(tmp_path, 'panet', 'canet', '--config.train.batch=4')
    with pytest.raises(ValueError, match='50-shot episodes need 51 or more'):
        run(tmp_path, 'panet', '--shots', '1,50')
    with pytest.raises(ValueError, match='--inputs must be one or more of'):
        sweep.run_sweep({}, tmp_path, inputs=[])
    assert trained == [] and not (tmp_path / 'study.json').exists()
