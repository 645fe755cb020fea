"""A new method takes one file and one recipe: it trains, evaluates, segments, is exported, and appears in tables."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli.main import main
from tests.fakes import SMALL

METHOD = '''
"""Cosine to masked averages of two convolutions."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike

from simpropnet_jax.models.fusion import dual_probe
from simpropnet_jax.models.layers import cosine_similarity
from simpropnet_jax.models.method import FewShotMethod
from simpropnet_jax.models.registry import register_method


@register_method('toy', title='Toy method')
class Toy(FewShotMethod):
    """Two convolutions, and the cosines to the masked averages of their features."""

    width: int = 8
    temperature: float = 10.0
    stride_on: str = '3x3'
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.backbone = nn.Conv(self.width, (8, 8), strides=8)
        self.project = nn.Conv(self.width, (3, 3))

    def encode(self, images, train=False):
        return self.project(nn.relu(self.backbone(images)))

    def probe_each(self, features, masks, valid):
        return dual_probe(features, masks, valid)

    def decode(self, features, probe, train=False):
        cosines = [cosine_similarity(features, one) for one in (probe.background, probe.foreground)]
        return self.temperature * jnp.stack(cosines, -1)

    def maps(self, features, probe):
        return {'cosine': cosine_similarity(features, probe.foreground)}
'''
RECIPE = '''
"""The toy method.

    simpropnet train --config toy.py:fold=1 --workdir runs/toy
"""

import toy_method  # registers it
from simpropnet_jax.config import common


def get_config(argument=''):
    config = common.base('toy')
    config.model.weights = ''  # nothing is pretrained
    config.model.width = 8  # filters
    config.model.temperature = 10.0  # times the cosines
    config.train.frozen = ()  # all of it is trained
    return common.apply(config, argument, {})
'''


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A folder with the method's file and its recipe, as a user would write them."""
    (tmp_path / 'toy_method.py').write_text(METHOD)
    (tmp_path / 'toy.py').write_text(RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / 'toy.py'
    sys.modules.pop('toy_method', None)


def run(*words):
    try:
        main([str(word) for word in words])
    except SystemExit as ended:  # `segment` ends with a status
        assert ended.code == 0


@pytest.mark.slow
def test_a_new_method_takes_one_file_and_one_recipe(recipe, prepared_data, tmp_path, capsys):
    workdir, masks = tmp_path / 'runs' / 'toy', tmp_path / 'masks'
    changes = {name: value for name, value in SMALL.items() if not name.startswith('model.')}
    changes |= {'data.dir': prepared_data, 'model.temperature': 5.0}
    fields = [f'--config.{name}={value}' for name, value in changes.items()]
    run('train', '--config', f'{recipe}:fold=1', '--workdir', workdir, *fields)
    run('eval', '--workdir', workdir)
    (result,) = (workdir / 'eval').glob('*.json')
    assert json.loads(result.read_text())['method'] == 'Toy method'
    capsys.readouterr()
    run('tables', result)
    assert 'Toy method' in capsys.readouterr().out
    picture, mask = np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50), np.uint8)
    picture[10:30, 10:30], mask[10:30, 10:30] = 200, 255
    Image.fromarray(picture).save(tmp_path / 'a.png')
    Image.fromarray(mask).save(tmp_path / 'a_mask.png')
    support = ('--support', tmp_path / 'a.png', tmp_path / 'a_mask.png')
    run('segment', '--checkpoint', workdir, *support, '--query', tmp_path / 'a.png', '--out', masks)
    assert Image.open(masks / 'a_mask.png').size == (50, 40)
    run('export', '--checkpoint', workdir, '--out', tmp_path / 'exported')
    assert (tmp_path / 'exported' / 'decode.jaxexport').exists()


def test_a_field_that_the_method_does_not_have_is_refused(recipe, prepared_data, tmp_path, refused):
    recipe.write_text(RECIPE.replace('config.model.temperature', 'config.model.heat'))
    with refused('config.model.heat is no field of toy; its fields are temperature, width'):
        fields = ['--config.data.name=pascal5i/subset', f'--config.data.dir={prepared_data}']
        main(
            ['train', '--config', f'{recipe}:fold=1', '--workdir', str(tmp_path / 'runs'), *fields]
        )
    assert not (tmp_path / 'runs').exists()
