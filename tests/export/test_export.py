"""What is exported computes what the Segmenter does, in a process that has nothing of this package."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export

from configs import canet, oslsm, prototype, sgone, simpropnet
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.export import artifact, entry_points, load, onnx, write
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.ops.convolve import tracing_for
from simpropnet_jax.setup.method import Method
from tests.fakes import SMALL
from tests.small_checkpoint import random_weights, write_checkpoint

SIZE = 33  # of tests.fakes.SMALL
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
SUPPORTS = RNG.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
LABELS = np.zeros((2, SIZE, SIZE), np.uint8)
LABELS[0, 8:25, 11:], LABELS[1, 4:20, 4:20], LABELS[:, :, 3] = 1, 1, 255
EXAMPLES = list(zip(SUPPORTS, LABELS, strict=True))

# A server: one probe, kept over several batches of queries.
SERVER = """
import sys
from pathlib import Path

import jax, numpy as np

folder, arrays = Path(sys.argv[1]), np.load(sys.argv[2])
encode, probe, decode = (
    jax.jit(jax.export.deserialize(bytearray((folder / f'{name}.jaxexport').read_bytes())).call)
    for name in ('encode', 'probe', 'decode'))

features = encode({'images': arrays['supports']})['features'][None]
kept = probe({'features': features, 'labels': arrays['labels'][None]})
found = []
for images in (arrays['pictures'][:1], arrays['pictures'][1:]):
    repeated = {name: np.repeat(value, len(images), 0) for name, value in kept.items()}
    found.append(decode(encode({'images': images}) | repeated)['probability'])
np.save(sys.argv[3], np.concatenate(found))
assert not [name for name in sys.modules if name.startswith(('simpropnet_jax', 'flax'))]
"""


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """The work directory of a small SimPropNet, and the folder that it was exported to."""
    workdir, out = tmp_path_factory.mktemp('small'), tmp_path_factory.mktemp('out') / 'exported'
    write_checkpoint(workdir)
    write.write(workdir, out)
    return workdir, out


def test_a_server_without_this_package_finds_the_segmenters_masks(exported, tmp_path):
    workdir, out = exported
    np.savez(tmp_path / 'given.npz', supports=SUPPORTS, labels=LABELS, pictures=PICTURES)
    files = (out, tmp_path / 'given.npz', tmp_path / 'found.npy')
    done = subprocess.run(
        [sys.executable, '-c', SERVER, *files],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / 'found.npy')
    segmenter = Segmenter.from_checkpoint(workdir)
    probe = segmenter.probe(EXAMPLES)
    for probability, picture in zip(found, PICTURES, strict=True):
        mask, expected = segmenter.segment_with(probe, picture)
        np.testing.assert_allclose(probability, expected, atol=1e-5)
        sure = np.abs(expected - 0.5) > 1e-5
        np.testing.assert_array_equal((probability > 0.5)[sure], mask[sure])
    assert np.ptp(found) > 1e-4 and found.shape == (4, SIZE, SIZE)


def test_the_folder_says_what_it_is_and_is_loaded_by_one_call(exported):
    workdir, out = exported
    served = load(out)
    features = served.encode(images=SUPPORTS)['features']
    kept = served.probe(features=features[None], labels=LABELS[None])
    found = served.decode(features=served.encode(images=PICTURES[:1])['features'], **kept)
    assert found['logits'].shape == (1, SIZE, SIZE, 2) and served.size == SIZE
    path = out / 'encode.jaxexport'
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match='encode.jaxexport is damaged: not as it was written'):
        load(out)
    path.write_bytes(whole)
    manifest = json.loads((out / 'manifest.json').read_text())
    assert manifest['checkpoint'] == {'workdir': str(workdir), 'which': 'best', 'step': 1}
    assert manifest['entry_points']['decode']['inputs'] == {
        'features': {'dtype': 'float32', 'shape': ['batch', 5, 5, 8]},
        'foreground': {'dtype': 'float32', 'shape': ['batch', 8]},
        'background': {'dtype': 'float32', 'shape': ['batch', 8]},
    }


METHODS = {
    'SimPropNet': (
        simpropnet,
        {'width': 16, 'features': 128},
    ),  # wide enough for the convolutions that are a CPU's own
    'CANet': (canet, {'width': 16}),
    'CANet with attention': (canet, {'shots': 'attention'}),
    'prototype': (prototype, {}),
    'OSLSM': (oslsm, {}),  # its features are a dict
    'SG-One': (sgone, {'width': 16}),  # its features are a named tuple
}


def small_method(recipe, **fields):
    config = recipe.get_config('fold=1')
    wanted = (
        SMALL
        | {'model.convention': 'keras'}
        | {f'model.{field}': value for field, value in fields.items()}
    )
    present = dict(config_rules.fields(config))
    config.update_from_flattened_dict(
        {field: value for field, value in wanted.items() if field in present}
    )
    return Method.from_config(config)


def as_users_compile(function):
    """Not as tests do (tests/compiling.py), whose rounding moves a probability of SG-One by 2e-4."""
    return jax.jit(function, compiler_options={'xla_cpu_use_fusion_emitters': True})


@pytest.mark.parametrize('name', METHODS)
def test_every_method_is_one_program_for_all_platforms_and_batches(name):
    recipe, fields = METHODS[name]
    method = small_method(recipe, **fields)
    given = {'images': SUPPORTS}
    for step, function in entry_points.entry_points(
        method, jax.device_get(random_weights(method, 0))
    ).items():
        program = write.portable(function)
        assert program.platforms == ('cpu', 'cuda', 'tpu')
        found = as_users_compile(export.deserialize(program.serialize()).call)(given)
        with tracing_for('cuda'):  # what the others are given
            elsewhere = as_users_compile(
                lambda arrays, function=function: function.function(**arrays)
            )(given)
        for key, value in found.items():
            # Cosines of features near zero, which SG-One multiplies with others, tell the two forms apart sooner.
            slack = 1e-4 if name == 'SG-One' else 1e-5
            np.testing.assert_allclose(
                value, elsewhere[key], atol=slack * max(1.0, np.abs(value).max())
            )
        match step:
            case 'encode':
                features = found
                supports = {name: np.stack([value] * 3, 1) for name, value in features.items()}
                given = supports | {'labels': np.stack([LABELS] * 3, 1)}
            case 'probe':
                given = features | found
    assert found['probability'].shape == (2, SIZE, SIZE) and np.ptp(found['probability']) > 1e-4


def test_features_of_several_parts_go_by_their_names():
    method = small_method(sgone)
    weights = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), method.abstract())
    functions = entry_points.entry_points(method, weights)
    parts, shape = {'guidance': 8, 'side': 128}, lambda struct: tuple(map(str, struct.shape))
    assert {name: shape(x) for name, x in functions['encode'].outputs.items()} == {
        name: ('batch', '5', '5', str(channels)) for name, channels in parts.items()
    }
    assert {name: shape(x)[:2] for name, x in functions['probe'].inputs.items()} == dict.fromkeys(
        [*parts, 'labels'], ('batch', 'shots')
    )
    assert functions['decode'].inputs.keys() == {*parts, 'probe'}
    for one in functions.values():
        found = jax.eval_shape(lambda arrays, one=one: one.function(**arrays), one.inputs)
        assert jax.tree.map(shape, found) == jax.tree.map(shape, one.outputs)


@pytest.mark.parametrize('name', ['SimPropNet', 'CANet'])
def test_onnxruntime_computes_the_same(name, tmp_path):
    onnxruntime = pytest.importorskip(
        'onnxruntime', reason="onnxruntime is missing: pip install -e '.[export]'"
    )
    if not onnx.environment().is_dir():
        pytest.skip('the converter to ONNX is not installed: python -m simpropnet_jax.export.onnx')
    workdir, out = tmp_path / 'run', tmp_path / 'out'
    workdir.mkdir()
    recipe = {'SimPropNet': simpropnet, 'CANet': canet}[name]
    write_checkpoint(workdir, recipe=recipe)
    manifest = write.write(workdir, out, with_onnx=True)
    assert max(manifest['onnx']['largest_difference'].values()) < 1e-4
    sessions = {step: onnxruntime.InferenceSession(out / f'{step}.onnx') for step in artifact.NAMES}

    def run(step, given):
        names = [one.name for one in sessions[step].get_outputs()]
        return dict(zip(names, sessions[step].run(names, given), strict=True))

    kept = run(
        'probe',
        {'features': run('encode', {'images': SUPPORTS})['features'][None], 'labels': LABELS[None]},
    )
    segmenter = Segmenter.from_checkpoint(workdir)
    expected = segmenter.probe(EXAMPLES)
    for images in (PICTURES[:1], PICTURES[1:]):
        repeated = {key: np.repeat(value, len(images), 0) for key, value in kept.items()}
        found = run('decode', run('encode', {'images': images}) | repeated)['probability']
        wanted = [segmenter.segment_with(expected, image).probability for image in images]
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    exported, tmp_path, monkeypatch
):
    workdir, out = exported
    with pytest.raises(
        ValueError, match='exported exists and is not an empty folder: give another --out'
    ):
        write.write(workdir, out)
    with pytest.raises(ValueError, match='has no config.json'):
        write.write(tmp_path, tmp_path / 'out')
    with pytest.raises(
        ValueError,
        match='is not an export: it has no manifest.json; write it with `simpropnet export',
    ):
        load(tmp_path)
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(
        ImportError, match=r"--onnx needs onnxruntime.*: pip install -e '.\[export\]'"
    ):
        write.write(workdir, tmp_path / 'out', with_onnx=True)
    assert not any(tmp_path.iterdir())
