"""A study before it trains: its rows' configs, and whether they fit the rows of earlier calls."""

import json

import pytest

import study
from configs import canet, simpropnet
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.sweeps import study as studies


def flags(*words):
    return ['--workdir', 'W', *words]


def rows(*words):
    return study.configs(study.parser().parse_args(flags(*words)))


RECORD = {'format': 1, 'method': 'CANet', 'fold': 1, 'protocol': {}, 'shots': {}, 'classes': []}
SMALL = ['--recipe', 'cpu', '--set', 'train.steps=14', '--set', 'data.name=pascal5i/subset']


@pytest.fixture
def add(tmp_path):
    """add(flags): leaves these rows as run_study would; returns what study.json holds."""
    found = {}

    def call(*words, evaluated=()):
        for name, (config, against) in rows(*words).items():
            folder = tmp_path / name
            (folder / 'eval').mkdir(parents=True, exist_ok=True)
            config.model.convention = 'torchvision'  # as it is once the weights are read
            (folder / 'config.json').write_text(json.dumps(config_rules.plain(config)))
            record = {**RECORD, 'eval': config_rules.plain(config.eval) | dict(evaluated)}
            (folder / 'eval' / 'result.json').write_text(json.dumps(record))
            found[name] = {'against': against, 'results': {'episodes': f'{name}/eval/result.json'}}
        return found

    return call


def check(found, workdir, *words):
    studies.check_one_budget(rows(*words), found, workdir)


def test_rows_that_are_added_may_differ_in_what_they_are_there_to_compare(add, tmp_path):
    every = rows(*SMALL)
    assert list(every) == study.PROPAGATION
    assert {row: studies._budget(config) for row, (config, _) in every.items()} == dict.fromkeys(
        every, '14 steps'
    )
    found = add('--rows', 'canet', *SMALL)
    check(found, tmp_path, *SMALL, '--set', 'data.dir=/elsewhere', '--set', 'eval.batch=2')
    check(add('--rows', 'panet', *SMALL), tmp_path, '--rows', 'panet_crc,panet_crc_tpc', *SMALL)
    # another method has its own recipe, as long as the budget and all that is measured are the same
    own = [
        '--set',
        'train.learning_rate=0.5',
        '--set',
        'train.batch=2',
        '--set',
        'model.fbaf=False',
    ]
    check(found, tmp_path, '--rows', 'simpropnet,simpropnet_crc', *SMALL, *own)


def test_the_papers_epochs_are_compared_as_they_are(add, tmp_path):
    papers = {'canet': canet, 'simpropnet': simpropnet}
    assert studies.PAPERS == {
        name: f'{module.get_config().train.epochs} epochs' for name, module in papers.items()
    }
    found = add('--rows', 'canet')
    check(found, tmp_path)
    with pytest.raises(
        ValueError, match='budget .* of 200 epochs, but simpropnet, .* would have 9 epochs'
    ):
        check(found, tmp_path, '--rows', 'simpropnet', '--set', 'train.epochs=9')


DIFFERENT = {
    (
        '--rows',
        'crc',
        '--set',
        'train.steps=9',
    ): r'holds the row canet with a budget \(.*\) of 14 steps, but crc, .*, would have 9 steps: use another --workdir',
    ('--rows', 'canet', '--set', 'train.steps=9'): 'of 14 steps, but now it would have 9 steps',
    (
        '--rows',
        'tpc',
        '--fold',
        '2',
    ): 'canet with config.fold 1, but tpc, which is compared with it, would have 2: use',
    ('--rows', 'simpropnet', '--set', 'seed=3'): 'config.seed 0, but simpropnet',
    ('--rows', 'simpropnet', '--set', 'train.size=161'): 'config.train.size 225, but',
    (
        '--rows',
        'simpropnet',
        '--set',
        'eval.protocol=pfenet',
    ): "config.eval.protocol 'simpropnet', but",
    ('--rows', 'crc', '--set', 'train.batch=8'): 'config.train.batch 4, but crc',
    (
        '--rows',
        'canet_5,simpropnet,crc',
        '--set',
        'data.name=pascal5i/sbd',
    ): "config.data.name 'pascal5i/subset', but",
}


@pytest.mark.parametrize('words', DIFFERENT)
def test_rows_that_do_not_fit_are_refused_in_one_sentence(words, add, tmp_path):
    found = add('--rows', 'canet', *SMALL)
    with pytest.raises(ValueError, match=DIFFERENT[words]):
        check(found, tmp_path, *SMALL, *words)


def test_a_row_that_was_stopped_keeps_its_budget(add, tmp_path):
    add('--rows', 'canet', *SMALL)
    check({}, tmp_path, *SMALL)
    with pytest.raises(ValueError, match='of 14 steps, but now it would have 9 steps'):
        check({}, tmp_path, *SMALL, '--set', 'train.steps=9')


def test_it_is_the_latest_evaluation_that_must_fit_and_a_row_may_be_evaluated_anew(add, tmp_path):
    found = add('--rows', 'canet,crc', *SMALL, evaluated={'episodes': 7})
    with pytest.raises(
        ValueError, match='canet with config.eval.episodes 7, but tpc, .* would have 0'
    ):
        check(found, tmp_path, '--rows', 'tpc', *SMALL)
    check(found, tmp_path, '--rows', 'canet,crc,tpc', *SMALL)
    with pytest.raises(ValueError, match='crc with config.eval.episodes 7, but canet, '):
        check(found, tmp_path, '--rows', 'canet', *SMALL)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--recipe', 'cpu,fold=2'], "--recipe must not have 'fold=2': give --fold N instead"),
        (['--recipe', 'seed=2'], "--recipe must not have 'seed=2': give --set seed=N instead"),
        (['--recipe', 'tpc_after,cpu'], "--recipe must not have 'tpc_after': give --rows instead"),
        (['--set', 'fold=2'], "--set must not have 'fold=2': give --fold N instead"),
        (['--set', 'train.crc=True'], "--set must not have 'train.crc=True': give --rows instead"),
        (['--set', 'model.weights'], "--set must be FIELD=VALUE, got 'model.weights'"),
        (
            ['--set', 'model.fbaf=False'],
            '--set model.fbaf: the row canet is of canet, which has no such field; --rows that have it: simpropnet,simprop',
        ),
    ],
)
def test_what_would_make_a_row_another_is_refused(words, message):
    with pytest.raises(ValueError) as refusal:
        rows(*words)
    assert str(refusal.value).startswith(message)


def test_config_flags_are_not_a_studys(refused):
    for word in ('--config=configs/canet.py', '--config.train.steps=9'):
        with refused(f'a study takes no {word}: --rows are its configs'):
            study.parse(flags(word))
    assert study.parse(flags('--verbosity=1'))[1] == ['--verbosity=1']
