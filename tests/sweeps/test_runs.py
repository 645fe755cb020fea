"""A list of trainings in a given time: stopped, continued, and done only once."""

import json
import signal

import pytest

from simpropnet_jax.sweeps import budget
from simpropnet_jax.training import loop
from tests.fakes import SMALL


@pytest.fixture(scope='module')
def changes(prepared_data):
    return [
        f'{name}={value}'
        for name, value in (SMALL | {'data.dir': prepared_data, 'eval.own_size': False}).items()
    ]


def test_a_list_stops_in_time_goes_on_and_is_done_once(changes, tmp_path, monkeypatch, capsys):
    without = [change for change in changes if not change.startswith('model.features')]
    planned = [
        budget.plan('panet:fold=1,seed=1,epochs=1', changes),
        budget.plan('prototype', without),
    ]
    names = ['panet_fold_1_seed_1_1epochs', 'prototype_6steps']
    assert [run.name for run in planned] == names
    add = loop._Log.add

    def time_is_over(self, step, *made):
        add(self, step, *made)
        if step == 2:
            signal.raise_signal(signal.SIGALRM)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(loop._Log, 'add', time_is_over)
        budget.run_all(planned, tmp_path, ['episodes'], minutes=60.0)
    assert stopped.value.code == loop.STOPPED_BY_SIGNAL
    assert (tmp_path / names[0] / 'checkpoints' / '2').is_dir() and not list(
        tmp_path.glob('*.json')
    )
    budget.run_all(planned, tmp_path, ['episodes'], minutes=60.0)
    made = [json.loads((tmp_path / f'{name}.json').read_text()) for name in names]
    assert [(one['method'], one['fold'], one['seed']) for one in made] == [
        ('PANet', 1, 1),
        ('prototype', 0, 0),
    ]
    assert made[0]['miou'].keys() == {'episodes'} and made[0]['pairs_per_second'] > 0
    assert made[0]['parameters']['trained'] > 0 == made[1]['parameters']['trained']
    printed = capsys.readouterr().out.splitlines()[-2:]
    assert [line.split()[0] for line in printed] == names
    monkeypatch.setattr(budget, '_run', None)
    budget.run_all(planned, tmp_path, ['episodes'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('panett', 'there is no file configs/panett.py'),
        ('panet:fodl=1', "unknown config argument 'fodl=1'"),
        (
            'panet:train.btach=3',
            'unknown config field config.train.btach; did you mean config.train.batch',
        ),
        (
            'panet:train.batch=many',
            "train.batch=many: 'many' is not a number, True, False or a tuple",
        ),
        ('panet:epochs=0.5', 'config.train.epochs must be a whole number'),
    ],
)
def test_what_is_no_run_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        budget.plan(text)


def test_a_list_without_time_to_save_or_with_a_run_twice_is_refused(tmp_path):
    run = budget.plan('panet:fold=1')
    for given, message in (
        ({'minutes': 0.1}, '--minutes must be more than 0.33'),
        ({}, 'is given twice'),
    ):
        with pytest.raises(ValueError, match=message):
            budget.run_all([run, run], tmp_path, **given)
