"""Training and evaluation give the bytes that they gave: a change of structure changes no number.

    SIMPROPNET_RECORD=1 python -m pytest tests/test_same_bytes.py      rewrites tests/records/same_bytes.json

Bytes are compared where the processor and the libraries are those of the record; elsewhere numbers, up to rounding.
"""

import hashlib
import importlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest

from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.training.loop import train_and_evaluate
from tests.fakes import SMALL

RECORD = Path(__file__).parent / 'records' / 'same_bytes.json'
# One of each kind of training: name -> recipe, its words, fields. The tests of models compare every method with its
# reference.
METHODS = {
    'simpropnet': ('simpropnet', 'fold=1,tpc_mixed', {'model.attention_gain': 50.0}),
    'canet': ('canet', 'fold=1,crc', {'train.initial_gain': 1.0}),
    'amp': ('amp', 'fold=1,crc', {}),
    'prototype': ('prototype', 'fold=1', {}),
    'deeplab': ('deeplabv3plus', '', {'model.depths': (1, 1, 1, 1)}),
}


def processor() -> str:
    """What bytes depend on: the processor's instructions and the versions of what computes."""
    info = Path('/proc/cpuinfo')
    flags = (
        next((line for line in info.read_text().splitlines() if line.startswith('flags')), '')
        if info.exists()
        else ''
    )
    known = hashlib.sha256(flags.encode()).hexdigest()[:12] if flags else platform.machine()
    return ', '.join(
        [
            known,
            *(f'{name} {version(name)}' for name in ('jaxlib', 'flax', 'optax', 'numpy', 'pillow')),
        ]
    )


def digest(tree) -> str:
    found = hashlib.sha256()
    for path, leaf in sorted(
        jax.tree_util.tree_leaves_with_path(tree), key=lambda entry: str(entry[0])
    ):
        found.update(f'{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}'.encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


def numbers(name, data_dir, workdir) -> dict:
    recipe, words, fields = METHODS[name]
    config = importlib.import_module(f'configs.{recipe}').get_config(words)
    known = {
        field for field in SMALL if field.startswith('model.') and field[6:] not in config.model
    }
    small = {field: value for field, value in SMALL.items() if field not in known}
    config.update_from_flattened_dict(
        small | {'data.dir': str(data_dir), 'train.steps': 2, 'select.every': 2} | fields
    )
    made = {}
    if name != 'prototype':
        state = train_and_evaluate(config, workdir)
        lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
        made['weights'] = digest(jax.device_get(state.variables))
        made['losses'] = [line['loss'] for line in lines if 'loss' in line]
    record = evaluate_run(config, workdir, 'latest', pictures=False)
    scores = record['shots']['1']['square'] if 'shots' in record else record
    made['scores'] = {key: float(scores[key]) for key in ('miou', 'fb_iou') if key in scores}
    return made


@pytest.mark.slow
@pytest.mark.parametrize('name', METHODS)
def test_a_method_gives_the_bytes_that_it_gave(name, prepared_data, tmp_path, one_device):
    found = numbers(name, prepared_data, tmp_path)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if os.environ.get('SIMPROPNET_RECORD'):
        if recorded.get('processor') != processor():
            recorded = {'processor': processor(), 'methods': {}}
        recorded['methods'][name] = found
        RECORD.write_text(json.dumps(recorded, indent=2) + '\n')
        return
    before = recorded['methods'][name]
    if recorded['processor'] == processor():
        assert found == before
    np.testing.assert_allclose(found.get('losses', 0), before.get('losses', 0), rtol=1e-3)
    assert found['scores'].keys() == before['scores'].keys()
    for key, score in before['scores'].items():
        assert found['scores'][key] == pytest.approx(score, abs=0.02)
