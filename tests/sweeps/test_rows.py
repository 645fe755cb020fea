"""The rows that a user names, and whether they fit the rows of earlier calls."""

import json

import pytest

from simpropnet_jax.cli import sweep as cli
from simpropnet_jax.config import command_line, recipes
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.sweeps import comparable
from simpropnet_jax.sweeps import rows as sweep_rows


def rows(*words):
    return cli.make_rows(command_line.parse(cli, ['--workdir', 'W', *words]))


SMALL = ['--recipe', 'cpu', '--config.train.steps=14', '--config.data.name=pascal5i/subset']
RECORD = {
    'format': 1,
    'method': 'CANet',
    'fold': 1,
    'data': 'pascal5i/subset',
    'void': 'ignore',
    'size': 225,
    'label_size': 225,
    'protocol': {'name': 'simpropnet', 'hash': ''},
    'checkpoint': {'selection': 'novel_val'},
    'shots': {},
    'classes': [],
}


def test_groups_and_rows_stand_for_configs_of_one_budget():
    every = rows(*SMALL)
    assert list(every) == sweep_rows.GROUPS['propagation']
    assert {comparable.budget(row.config) for row in every.values()} == {'14 steps'}
    assert {row.config.fold for row in every.values()} == {1}
    assert rows('methods,cycles').keys() == rows('--rows', 'methods,cycles').keys()
    assert list(rows('crc', '--rows', 'canet')) == ['canet', 'crc']
    assert len(rows('--rows', 'readings')) == 9


def test_a_recipe_is_a_row_with_its_own_words_and_fields():
    given = [
        'simpropnet:fold=0,seed=2,model.fbaf_activation=relu,eval.shots=(1,5)',
        'panet:epochs=3',
        'configs/canet.py:crc',
        'oslsm',
    ]
    every = rows(*given, '--epochs', '7', '--config.train.batch=2', '--config.train.turn')
    assert list(every) == [
        'simpropnet_fold_0_seed_2_model.fbaf_activation_relu_eval.shots_1_5_7epochs',
        'panet_3epochs',
        'canet_crc_7epochs',
        'oslsm',
    ]
    first, second, third, named = (row.config for row in every.values())
    assert (first.fold, first.seed, first.model.fbaf_activation) == (0, 2, 'relu')
    assert first.eval.shots == (1, 5)
    assert [one.train.epochs for one in (first, second, third, named)] == [7, 3, 7, 7]
    assert all(one.train.batch == 2 and one.train.turn for one in (first, second, third, named))
    assert third.train.crc and third.fold == 0 and named.fold == 1
    assert all(row.against is None for row in every.values())


def test_a_fold_and_words_are_those_of_every_row_that_has_none():
    every = rows('simpropnet:fold=0', 'canet:crc', 'panet', '--fold', '3', '--recipe', 'cpu')
    assert [row.config.fold for row in every.values()] == [0, 3, 3]
    assert [row.config.train.steps for row in every.values()] == [500, 500, 500]


def test_a_recipe_of_ones_own_is_a_row(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        'from simpropnet_jax.config import recipes\n\n'
        "def get_config(words=''):\n    return recipes.get('canet', words)\n"
    )
    assert list(rows(str(path), f'{path}:fold=2')) == ['mine_200epochs', 'mine_fold_2_200epochs']


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--rows', 'canet,crcc'], "there is no row 'crcc'. Rows: canet, crc, "),
        (['panett:fold=1'], "there is no recipe 'panett'. Did you mean panet?"),
        (['nowhere/panet.py'], 'there is no file nowhere/panet.py'),
        (['panet:fodl=1'], "unknown config argument 'fodl=1'"),
        (['panet:train.btach=3'], 'unknown config field config.train.btach; did you mean config'),
        (['panet:train.batch=many'], "train.batch=many: 'many' is not a number, True, False or a"),
        (['panet:epochs=0.5'], 'config.train.epochs must be a whole number'),
        (['panet:fold=1', 'panet:fold=1'], 'the row panet_fold_1_180epochs is given twice'),
        (['hpascal:'], 'hpascal is not the recipe of a method'),
        (['--recipe', 'cpu,fold=2'], "--recipe must not have 'fold=2'. Give --fold 2 instead"),
        (['--recipe', 'seed=2'], "--recipe must not have 'seed=2'. Give --config.seed=2 instead"),
        (['--recipe', 'tpc_after,cpu'], "--recipe must not have 'tpc_after'. Give other rows"),
        (['--recipe', 'cpuu'], "unknown config argument 'cpuu'; allowed after the colon: fold=N"),
        (['--config.fold=2'], 'a sweep takes no --config.fold. Give --fold 2 instead'),
        (['--config.train.crc=True'], '--config.train.crc would change what the row canet is'),
        (
            ['canet_5', '--config.train.shot=2'],
            '--config.train.shot cannot be set: the row canet_5',
        ),
        (['--config.train.btach=4'], 'unknown config field config.train.btach; did you mean'),
        (['--config.train.batch=four'], "train.batch=four: 'four' is not a number"),
        (
            ['--config.model.fbaf=False'],
            '--config.model.fbaf: the row canet is of canet, which has no such field. Rows that have it: simpropnet, s',
        ),
    ],
)
def test_what_is_no_row_or_would_make_a_row_another_is_refused(words, message):
    with pytest.raises(ValueError) as refusal:
        rows(*words)
    assert str(refusal.value).startswith(message)


def test_a_config_flag_is_not_a_sweeps(refused):
    with refused("unexpected argument '--config=canet'"):
        rows('--config=canet')


@pytest.fixture
def add(tmp_path):
    """add(flags): leaves these rows as a sweep would; returns what study.json holds."""
    study = {}

    def call(*words, evaluated=()):
        for name, config, against in rows(*words).values():
            folder = tmp_path / name
            (folder / 'eval').mkdir(parents=True, exist_ok=True)
            config.model.convention = 'torchvision'  # as it is once the weights are read
            (folder / 'config.json').write_text(json.dumps(config_rules.plain(config)))
            record = {**RECORD, 'eval': config_rules.plain(config.eval) | dict(evaluated)}
            (folder / 'eval' / 'result.json').write_text(json.dumps(record))
            study[name] = {'against': against, 'results': {'episodes': f'{name}/eval/result.json'}}
        return study

    return call


def check(study, workdir, *words):
    comparable.check_comparable(rows(*words), study, workdir)


def test_rows_that_are_added_may_differ_in_what_they_are_there_to_compare(add, tmp_path):
    study = add('--rows', 'canet', *SMALL)
    check(study, tmp_path, *SMALL, '--config.data.dir=/elsewhere', '--config.eval.batch=2')
    check(add('--rows', 'panet', *SMALL), tmp_path, '--rows', 'panet_crc,panet_crc_tpc', *SMALL)
    # Another method has its own recipe, as long as the budget and all that is measured are the same.
    own = [
        '--config.train.learning_rate=0.5',
        '--config.train.batch=2',
        '--config.model.fbaf=false',
    ]
    check(study, tmp_path, '--rows', 'simpropnet,simpropnet_crc', *SMALL, *own)
    check(study, tmp_path, 'canet:fold=3', 'simpropnet:epochs=2')  # compared with none


def test_the_papers_epochs_are_compared_as_they_are(add, tmp_path):
    for name, epochs in comparable.PAPERS.items():
        assert epochs == f'{recipes.get(name).train.epochs} epochs'
    study = add('--rows', 'canet')
    check(study, tmp_path)
    with pytest.raises(
        ValueError, match='budget .* of 200 epochs, but simpropnet, .* would have 9 epochs'
    ):
        check(study, tmp_path, '--rows', 'simpropnet', '--epochs', '9')


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (
            ['crc', '--config.train.steps=9'],
            r'holds the row canet with a budget \(.*\) of 14 steps, but crc, .*, would have 9 steps. Use a new',
        ),
        (['canet', '--config.train.steps=9'], 'of 14 steps, but now it would have 9 steps'),
        (['canet', '--config.train.batch=8'], 'config.train.batch 4, but now it would have 8'),
        (['tpc', '--fold', '2'], 'canet with config.fold 1, but tpc, which is compared with it, w'),
        (['simpropnet', '--config.seed=3'], 'config.seed 0, but simpropnet'),
        (['simpropnet', '--config.train.size=161'], 'config.train.size 225, but'),
        (['simpropnet', '--config.eval.protocol=pfenet'], "config.eval.protocol 'simpropnet', but"),
        (['crc', '--config.train.batch=8'], 'config.train.batch 4, but crc'),
        (
            ['canet_5,simpropnet,crc', '--config.data.name=pascal5i/sbd'],
            "config.data.name 'pascal5i/subset', but",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_sentence(words, message, add, tmp_path):
    study = add('--rows', 'canet', *SMALL)
    with pytest.raises(ValueError, match=message):
        check(study, tmp_path, *SMALL, *words)


def test_a_row_that_was_interrupted_keeps_its_budget(add, tmp_path):
    add('--rows', 'canet', *SMALL)
    check({}, tmp_path, *SMALL)
    with pytest.raises(ValueError, match='of 14 steps, but now it would have 9 steps'):
        check({}, tmp_path, *SMALL, '--config.train.steps=9')


def test_it_is_the_latest_evaluation_that_must_fit_and_a_row_may_be_evaluated_anew(add, tmp_path):
    study = add('--rows', 'canet,crc', *SMALL, evaluated={'episodes': 7})
    with pytest.raises(
        ValueError, match='canet with config.eval.episodes 7, but tpc, .* would have 0'
    ):
        check(study, tmp_path, '--rows', 'tpc', *SMALL)
    check(study, tmp_path, '--rows', 'canet,crc,tpc', *SMALL)
    with pytest.raises(ValueError, match='crc with config.eval.episodes 7, but canet, '):
        check(study, tmp_path, '--rows', 'canet', *SMALL)
