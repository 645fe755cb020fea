"""What a config may hold, and with which other config a run may go on."""

from pathlib import Path

import pytest

from configs import prototype, simpropnet
from simpropnet_jax import checkpoint
from simpropnet_jax import config as config_rules


@pytest.mark.parametrize('argument', ['', 'fold=3,cpu', 'baseline', 'dpr', 'fbaf', 'dpr_fbaf'])
def test_the_configs_that_we_ship_are_valid_and_have_a_rule_for_every_field(argument):
    config_rules.validate(simpropnet.get_config(argument), devices=1)
    config_rules.validate(prototype.get_config('fold=1'), devices=1)


def test_rows_of_table_4():
    rows = {a: simpropnet.get_config(a) for a in ('baseline', 'dpr', 'fbaf', 'dpr_fbaf', '')}
    parts = {a: (c.train.dual_prediction, c.model.fbaf, c.train.ica > 0) for a, c in rows.items()}
    assert parts == {
        'baseline': (False, False, False), 'dpr': (True, False, False), 'fbaf': (False, True, False),
        'dpr_fbaf': (True, True, False), '': (True, True, True),
    }  # fmt: skip


def test_a_config_comes_back_from_its_file(tmp_path):
    config = simpropnet.get_config('fold=2')
    checkpoint.write_json(tmp_path / 'config.json', config_rules.plain(config))
    assert config_rules.load(tmp_path / 'config.json').to_dict() == config.to_dict()


def test_what_may_change_when_a_run_goes_on():
    before, now = simpropnet.get_config('fold=2'), simpropnet.get_config('fold=2')
    now.data.dir, now.train.log_every, now.eval.shots = '/elsewhere', 7, (10,)
    now.train.epochs = 200
    config_rules.check_same_run(now, before, Path('W'))
    before.train.poly_power = now.train.poly_power = 0.9
    with pytest.raises(ValueError, match='W was started with another config .train.epochs: 180 then, 200 now.'):
        config_rules.check_same_run(now, before, Path('W'))
