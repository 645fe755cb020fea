"""What a config may hold, and with which other config a run may be resumed."""

import ast
import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import canet, prototype, shapes, simpropnet
from simpropnet_jax.config import common, field_help, recipes
from simpropnet_jax.config import fields as config_fields
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.method import Method


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
            'crc': (True, 'never'),
            'tpc': (False, 'before'),
            'tpc_mixed': (False, 'mixed'),
            'tpc_after': (False, 'after'),
        }.get(word, (False, 'never'))
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
    with pytest.raises(ValueError, match='only one of tpc, tpc_mixed and tpc_after can be given'):
        canet.get_config('tpc,tpc_mixed')
    config = canet.get_config()
    config.model.shots = 'attention'
    with pytest.raises(ValueError, match="'attention' learns nothing from one support. Set"):
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


def test_recipes_load_from_any_folder_and_checking_them_loads_nothing_heavy(tmp_path):
    code = (
        'import sys; from simpropnet_jax.config import common, fields, recipes, rules\n'
        "for name in set(recipes.names()) - {'finetune', 'background', 'hpascal'}:\n"
        '    rules.validate(recipes.get(name), 1)\n'
        "print(*{'jax', 'flax', 'numpy', 'tensorflow', 'configs'} & sys.modules.keys())"
    )
    words = [sys.executable, '-c', code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == ''


def test_every_default_keeps_its_rule():
    for name, field in config_fields.FIELDS.items():
        assert field.rule.holds(field.default), name
        assert field.before is None or field.rule.holds(field.before), name
        assert field.help and len(field.help) < 100, name


def test_a_new_methods_own_fields_need_no_declaration_and_unknown_fields_elsewhere_are_refused():
    config = common.base('mine')
    config.model.depth = 3
    config_rules.validate(config, devices=1)
    config_rules.change(config, 'model.depth', '5')
    assert config.model.depth == 5
    with pytest.raises(ValueError, match="config.model.depth must be a whole number, got 'many'"):
        config_rules.change(config, 'model.depth', "'many'")
    config.train.btach = 3
    with pytest.raises(ValueError, match='config.train.btach; did you mean config.train.batch'):
        config_rules.validate(config, devices=1)
    del config.train.btach
    config.model.net = ConfigDict({'encoder': 3})
    with pytest.raises(ValueError, match='unknown config field config.model.net.encoder'):
        config_rules.validate(config, devices=1)


@pytest.mark.parametrize(
    ('name', 'text', 'value'),
    [
        ('eval.shots', '(1,)', (1,)),
        ('eval.shots', '[1, 10]', (1, 10)),
        ('train.frozen', '()', ()),
        ('train.batch', '4', 4),
        ('train.learning_rate', '1', 1.0),
        ('train.crc', 'True', True),
        ('data.dir', '12', '12'),
    ],
)
def test_a_field_takes_a_value_as_text(name, text, value):
    config = simpropnet.get_config()
    config_rules.change(config, name, text)
    assert dict(config_rules.fields(config))[name] == value


def test_a_tuple_is_replaced_as_a_whole():
    config = simpropnet.get_config()
    config_rules.change(config, 'eval.shots', '(1,)')
    config_rules.change(config, 'eval.shots', '(5,)')
    assert config.eval.shots == (5,)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('eval.shots', '5', r'config.eval.shots must be a tuple such as \(1, 5\), got 5'),
        ('train.batch', '4.5', 'config.train.batch must be a whole number, 1 or more, got 4.5'),
        ('train.batch', 'many', "train.batch=many: 'many' is not a number, True, False or a tuple"),
        ('train.btach', '4', 'unknown config field config.train.btach; did you mean'),
        ('model.batch', '4', 'did you mean config.eval.batch or config.train.batch'),
        ('xyz', '4', 'unknown config field config.xyz; --help lists the fields'),
    ],
)
def test_a_value_that_a_field_cannot_have_is_refused(name, text, message):
    with pytest.raises(ValueError, match=message):
        config_rules.change(simpropnet.get_config(), name, text)


def test_a_config_comes_back_from_its_file(tmp_path):
    config = simpropnet.get_config('fold=2')
    checkpoint.write_json(tmp_path / 'config.json', config_rules.plain(config))
    assert config_rules.load(tmp_path / 'config.json').to_dict() == config.to_dict()


def test_the_config_of_an_older_run_gets_the_values_that_it_was_trained_with(tmp_path):
    config = shapes.get_config('backbone')
    stored = config_rules.plain(config)
    for section in config_fields.SECTIONS:
        for name, value in config_fields.values_before(section).items():
            del stored[section][name]
            config[section][name] = value
    del stored['tpc']
    checkpoint.write_json(tmp_path / 'config.json', stored)
    found = config_rules.load(tmp_path / 'config.json')
    config_rules.validate(found, devices=1)
    assert found.to_dict() == config.to_dict()


def test_older_runs_were_trained_with_the_values_of_the_papers_recipe():
    for name, field in config_fields.FIELDS.items():
        assert field.before in (None, field.default), name


def test_what_may_change_when_a_run_is_resumed():
    before, now = simpropnet.get_config('fold=2'), simpropnet.get_config('fold=2')
    now.data.dir, now.train.log_every, now.eval.shots = '/elsewhere', 7, (10,)
    config_rules.check_same_run(now, before, Path('W'))
    now.train.batch = 4
    with pytest.raises(ValueError) as error:
        config_rules.check_same_run(now, before, Path('W'))
    assert str(error.value) == (
        'W was started with a different config (train.batch: was 8, now 4). Use a new --workdir or restore the old '
        'values'
    )


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'train.poly_power': 0.9}, 'its learning rate falls to zero over just these steps'),
        ({'train.ica': 0.25}, 'its train.ica decays over just these steps'),
        ({'tpc.when': 'after'}, 'its transformed pairs follow after just these steps'),
        ({'train.ica': 0.25, 'train.ica_decay': 1.0}, ''),
        ({}, ''),
    ],
)
def test_a_run_is_extended_unless_something_follows_its_length(changes, reason):
    before, now = simpropnet.get_config('dpr_fbaf'), simpropnet.get_config('dpr_fbaf')
    for config in (before, now):
        config.update_from_flattened_dict(changes)
    now.train.epochs = 200
    if not reason:
        config_rules.check_same_run(now, before, Path('W'))
        return
    with pytest.raises(ValueError) as error:
        config_rules.check_same_run(now, before, Path('W'))
    assert str(error.value) == (
        f'W was started with a different config (train.epochs: was 180, now 200), and {reason}. Restore the old '
        'values, or use a new --workdir and continue from these weights with --config.train.start=W'
    )


@pytest.mark.parametrize('name', recipes.names())
def test_a_recipe_has_a_comment_beside_every_field_it_sets_on_one_line(name):
    source = (recipes.folder() / f'{name}.py').read_text()
    lines = source.splitlines()
    set_here = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign | ast.AugAssign) and _sets_a_field(node)
    ]
    assert set_here or name == 'prototype'
    for node in set_here:
        line = lines[node.lineno - 1]
        assert node.lineno == node.end_lineno and '  # ' in line and len(line) <= 100, line


def _sets_a_field(node):
    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
    is_section = isinstance(node.value, ast.Call) and ast.unparse(node.value) == 'ConfigDict()'
    place = ast.unparse(target).lstrip('(')
    sections = ('config.', 'data.', 'features.', 'partitions.')
    return place.startswith(sections) and not is_section and place != 'config.model'


@pytest.mark.parametrize('name', recipes.names())
def test_every_field_of_every_recipe_has_a_help_text(name, tmp_path):
    words = ''
    if name == 'finetune':
        checkpoint.write_json(
            tmp_path / 'config.json', config_rules.plain(recipes.get('deeplabv3plus', 'cpu'))
        )
        words = f'start={tmp_path}'
    recipe = recipes.load(f'{name}:{words}')
    explained = field_help.explanations(recipe)
    assert explained.keys() == dict(config_rules.fields(recipe.config)).keys()
    assert [field for field, text in explained.items() if not text] == []
    if 'model' in recipe.config:
        assert explained['model.dtype'].startswith('type of the computation')
        assert 'filters' in explained.get('model.features', 'filters')


WRONG_FILES = {
    '': 'is damaged: it is not JSON (',
    '{': 'is damaged: it is not JSON (',
    '[' * 100_000: 'is damaged: it is not JSON (',
    '[]': 'must be a JSON object of sections, got []',
    'null': 'must be a JSON object of sections, got null',
    '3': 'must be a JSON object of sections, got 3',
    '{}': 'model must be an object of fields, and is missing',
}


@pytest.mark.parametrize('content', WRONG_FILES)
def test_a_stored_config_that_is_no_config_is_named(content, tmp_path):
    path = tmp_path / 'config.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(str(path))) as refused:
        config_rules.load(path)
    assert WRONG_FILES[content] in str(refused.value)
    assert str(refused.value).endswith('or train again in a new --workdir')


def test_a_stored_config_is_cut_off_or_not_utf_8(tmp_path):
    path = tmp_path / 'config.json'
    whole = json.dumps(config_rules.plain(recipes.get('simpropnet'))).encode()
    for content in (whole[:-1], whole[: len(whole) // 2], b'\xff' + whole, whole + b'}'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match='is damaged: .* Restore the file'):
            config_rules.load(path)


@pytest.mark.parametrize('name', ['simpropnet', 'deeplabv3plus', 'canet', 'amp'])
def test_a_stored_config_with_any_field_of_a_wrong_type_is_named(name, tmp_path):
    path = tmp_path / 'config.json'
    config = config_rules.plain(recipes.get(name))
    config_rules.load(written(path, config))
    for field, value in config_rules.fields(recipes.get(name)):
        section, _, last = field.rpartition('.')
        for wrong in (
            None,
            {},
            {'a': 1},
            'text' if not isinstance(value, str) else 3,
            [None],
            [[]],
        ):
            changed = copy.deepcopy(config)
            (changed[section] if section else changed)[last] = wrong
            with pytest.raises(ValueError, match=f'is damaged: {field} must be .*, got '):
                config_rules.load(written(path, changed))
    for section in ('data', 'model', 'train', 'select', 'eval'):
        changed = {other: value for other, value in config.items() if other != section}
        with pytest.raises(ValueError, match=f'is damaged: .*{section}'):
            config_rules.load(written(path, changed))
        for wrong in (None, [], 3, 'text'):
            with pytest.raises(ValueError, match=f'{section} must be an object of fields, got'):
                config_rules.load(written(path, config | {section: wrong}))


def written(path, value):
    path.write_text(json.dumps(value))
    return path


def test_a_stored_config_without_its_convention_or_type_is_refused():
    config = recipes.get('simpropnet', 'cpu')
    for name in ('convention', 'dtype'):
        with pytest.raises(ValueError, match=f"^config.model.{name} is 'auto', but a trained run"):
            Method.from_config(config)
        config.model.convention = 'keras'
