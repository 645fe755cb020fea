"""What a config may hold, and with which other config a run may go on."""

from pathlib import Path

import pytest

from configs import canet, common, prototype, shapes, simpropnet
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import checkpoint


@pytest.mark.parametrize(
    'argument', ['', 'fold=3,cpu', 'own,cpu', 'fold=1,gpu', 'baseline', 'dpr', 'fbaf', 'dpr_fbaf']
)
def test_the_configs_that_we_ship_are_valid_and_have_a_rule_for_every_field(argument):
    config_rules.validate(simpropnet.get_config(argument), devices=1)
    config_rules.validate(prototype.get_config('fold=1'), devices=1)


@pytest.mark.parametrize('word', ['', *common.SHARED])
@pytest.mark.parametrize('recipe', ['', 'cpu'])
def test_words_that_every_method_takes(recipe, word):
    for method in (canet, simpropnet, prototype):
        config, plain = (
            method.get_config(f'fold=2,{words}') for words in (f'{word},{recipe}', recipe)
        )
        config_rules.validate(config, devices=1)
        assert (config.train.crc, config.tpc.when) == {
            '': (False, 'never'),
            'crc': (True, 'never'),
            'tpc': (False, 'before'),
            'tpc_mixed': (False, 'mixed'),
            'tpc_after': (False, 'after'),
        }[word]
        spent = [one.train.steps + one.tpc.steps for one in (config, plain)]
        assert spent[0] == spent[1]


@pytest.mark.parametrize('words', ['crc', 'tpc', 'crc,tpc', 'tpc_mixed', 'tpc_after'])
def test_canet_has_its_own_rate_and_batch_alone_and_the_second_papers_with_its_words(words):
    def recipe(config):
        return config.train.learning_rate * config.train.rate_factor, config.train.batch

    assert recipe(canet.get_config('fold=2')) == pytest.approx((2.5e-3, 4))
    assert recipe(canet.get_config(f'fold=2,{words}')) == pytest.approx((2.5e-4, 24))
    assert recipe(canet.get_config(f'{words},cpu')) == recipe(canet.get_config('cpu'))


def test_a_training_has_one_conditioning_and_attention_wants_several_supports():
    assert [canet.get_config(word).tpc.epochs for word in ('tpc', 'tpc_after')] == [30, 10]
    with pytest.raises(ValueError, match='of tpc, tpc_mixed and tpc_after only one can be given'):
        canet.get_config('tpc,tpc_mixed')
    config = canet.get_config()
    config.model.shots = 'attention'
    with pytest.raises(
        ValueError, match="'attention', which one support teaches nothing: train with"
    ):
        config_rules.validate(config, devices=1)


def test_rows_of_table_4():
    rows = {a: simpropnet.get_config(a) for a in ('baseline', 'dpr', 'fbaf', 'dpr_fbaf', '')}
    parts = {a: (c.train.dual_prediction, c.model.fbaf, c.train.ica > 0) for a, c in rows.items()}
    assert parts == {
        'baseline': (False, False, False),
        'dpr': (True, False, False),
        'fbaf': (False, True, False),
        'dpr_fbaf': (True, True, False),
        '': (True, True, True),
    }


def test_a_config_comes_back_from_its_file(tmp_path):
    config = simpropnet.get_config('fold=2')
    checkpoint.write_json(tmp_path / 'config.json', config_rules.plain(config))
    assert config_rules.load(tmp_path / 'config.json').to_dict() == config.to_dict()


def test_the_config_of_an_older_work_directory_is_filled_with_what_it_was_trained_as(tmp_path):
    config = shapes.get_config('backbone')
    stored = config_rules.plain(config)
    for section, later in config_rules.LATER.items():
        for name, value in later.items():
            del stored[section][name]
            config[section][name] = value
    del stored['tpc']
    checkpoint.write_json(tmp_path / 'config.json', stored)
    found = config_rules.load(tmp_path / 'config.json')
    config_rules.validate(found, devices=1)
    assert found.to_dict() == config.to_dict()


def test_the_values_that_later_fields_have_are_those_of_the_papers_recipe():
    base = common.base()
    for section, later in config_rules.LATER.items():
        assert later == {name: base[section][name] for name in later}


def test_what_may_change_when_a_run_goes_on():
    before, now = simpropnet.get_config('fold=2'), simpropnet.get_config('fold=2')
    now.data.dir, now.train.log_every, now.eval.shots = '/elsewhere', 7, (10,)
    now.train.epochs = 200
    with pytest.raises(
        ValueError, match='180 then, 200 now'
    ):  # the probability of ICA follows the length
        config_rules.check_same_run(now, before, Path('W'))
    before.train.ica = now.train.ica = 0.0
    config_rules.check_same_run(now, before, Path('W'))
    before.train.poly_power = now.train.poly_power = 0.9
    with pytest.raises(
        ValueError, match='W was started with another config .train.epochs: 180 then, 200 now.'
    ):
        config_rules.check_same_run(now, before, Path('W'))
