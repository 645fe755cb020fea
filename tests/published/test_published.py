"""Models that others load: what `publish` writes, what damages it, and every name that finds it."""

import hashlib
import json
import logging
import shutil
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from configs import finetune, shapes
from simpropnet_jax.cli import eval as eval_command
from simpropnet_jax.cli import run_folder
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.config import command_line
from simpropnet_jax.config.rules import plain, stored_config
from simpropnet_jax.export.publish import publish
from simpropnet_jax.inference import Segmenter
from simpropnet_jax.published import header, locate, model_file, quantise, table
from simpropnet_jax.setup import refusals, weights
from simpropnet_jax.setup.run import prepare_training
from tests.runtime.test_download import server  # noqa: F401
from tests.small_checkpoint import write_checkpoint

NAME = 'toy-voc'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run folder with a result of its best checkpoint and of another one."""
    workdir = tmp_path_factory.mktemp('run')
    write_checkpoint(workdir, steps=(1, 2), weights='/home/me/resnet50.h5')
    for step, name in ((1, 'best'), (2, 'latest')):
        scores = {'miou': 0.5, 'miou_std': 0.01, 'fb_iou': 0.6, 'fb_iou_std': None}
        scores |= {'per_class': {}, 'seeds': {}, 'miou_interval': [0.41, 0.62]}
        result = {'format': 1, 'method': 'SimPropNet', 'fold': 1, 'data': 'pascal5i/subset'}
        result |= {
            'void': 'ignore',
            'size': 33,
            'label_size': 33,
            'classes': [],
            'inputs': 'episodes',
        }
        result |= {'protocol': {'name': 'simpropnet', 'hash': f'hash of {name}'}}
        result |= {'checkpoint': {'selection': 'base_val', 'step': step}}
        result |= {'shots': {'1': {'episodes': {'0': 10}, 'square': scores}}}
        (workdir / 'eval').mkdir(exist_ok=True)
        (workdir / 'eval' / f'{name}.json').write_text(json.dumps(result))
    return workdir


@pytest.fixture(scope='module')
def published(run, tmp_path_factory):
    """The published folder, in float32."""
    folder = tmp_path_factory.mktemp('published') / NAME
    publish(run, folder)
    return folder


@pytest.fixture
def bundled(published, tmp_path, monkeypatch):
    """The toy as the model of the package; returns its file."""
    monkeypatch.setattr(table, 'FOLDER', tmp_path)
    monkeypatch.setitem(table.MODELS, NAME, table.BUNDLED)
    monkeypatch.setattr(table, 'DEFAULT', NAME)
    return Path(shutil.copy(published / header.NAME, tmp_path / f'{NAME}.safetensors'))


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp('cache')
    monkeypatch.setenv('SIMPROPNET_CACHE', str(folder))
    return folder


def test_a_published_model_has_the_same_masks_as_its_run(run, published):
    rng = np.random.default_rng(0)
    query, image = rng.integers(0, 256, (2, 40, 50, 3), np.uint8)
    supports = [(image, np.eye(40, 50) > 0)]
    expected = Segmenter.from_checkpoint(run)
    found = Segmenter.from_pretrained(published)
    assert found.weights_hash() == expected.weights_hash()
    assert (found.size, found.step) == (expected.size, 1)
    one, other = (segmenter.segment(query, supports) for segmenter in (expected, found))
    np.testing.assert_array_equal(one.probability, other.probability)
    alone = Segmenter.from_checkpoint(published / header.NAME)
    assert alone.weights_hash() == expected.weights_hash()
    with pytest.raises(ValueError, match='which has only step 1: leave out @latest'):
        Segmenter.from_pretrained(f'{published}@latest')


def test_a_folder_names_its_origin_and_no_place_of_the_publisher(run, published):
    config = stored_config(published)
    assert config.model.weights == 'resnet50.h5' and config.data.dir == '~/tensorflow_datasets'
    assert plain(config) == header.read_config(published / header.NAME)
    card = (published / 'README.md').read_text()
    assert card == header.read_card(published / header.NAME)
    for words in (
        f'# {NAME}',
        'aeroplane',
        '41.0 to 62.0',
        'hash of best',
        'VOC',
        'Flickr',
        '@inproceedings',
    ):
        assert words in card
    assert 'hash of latest' not in card and str(run) not in card
    classes = header.read_about(published / header.NAME)['classes']
    assert len(classes) == 15 and 'bus' not in classes  # of fold 1
    for line in (published / 'SHA256SUMS').read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((published / name).read_bytes()).hexdigest() == digest
    with pytest.raises(ValueError, match='is not an empty folder'):
        publish(run, published)


@pytest.mark.parametrize('kind', ['int8', 'bfloat16'])
def test_smaller_weights_are_as_exact_as_their_type(run, published, tmp_path, kind):
    publish(run, tmp_path / kind, weights=kind)
    exact = model_file.flat(model_file.read(published / header.NAME).params)
    found = model_file.flat(model_file.read(tmp_path / kind / header.NAME).params)
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        if kind == 'bfloat16':
            np.testing.assert_array_equal(found[name], value.astype(ml_dtypes.bfloat16), name)
        elif quantise.is_kernel(name, value):
            scale = np.abs(value).max(tuple(range(value.ndim - 1))) / 127
            assert (np.abs(found[name] - value) <= 0.5001 * scale).all(), name
        else:
            np.testing.assert_array_equal(found[name], value, name)
    size = [(folder / header.NAME).stat().st_size for folder in (tmp_path / kind, published)]
    assert size[0] < (0.6 if kind == 'bfloat16' else 0.7) * size[1]


def test_an_unused_channel_stays_zero():
    kernel = np.zeros((1, 1, 2, 3), np.float32)
    kernel[..., 1] = -2
    found = quantise.unpack(quantise.pack({'a/kernel': kernel}, 'int8'))
    np.testing.assert_array_equal(found['a/kernel'], kernel)
    with pytest.raises(ValueError, match="--weights must be one of .*, got 'int4'"):
        quantise.pack({}, 'int4')


def test_a_damaged_file_is_named(published, tmp_path):
    path = tmp_path / 'x.safetensors'
    content = bytearray((published / header.NAME).read_bytes())
    for damaged, problem in (
        (content[:-1] + bytes([content[-1] ^ 1]), 'its sha256 is another'),
        (content[: len(content) // 2], 'is damaged'),
        (content[:5], 'is damaged'),
        (b'\xff' * 50, 'is damaged .it is no safetensors file'),
        (
            content.replace(b'\\"fold\\": 1', b'\\"fold\\": 2', 1),
            'is damaged: the sha256 of its texts',
        ),
        (
            content.replace(b'\\"format\\": 1', b'\\"format\\": 9', 1),
            'has format 9, but this version reads',
        ),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=f'x.safetensors.* {problem}'):
            model_file.read(path)
    from safetensors.numpy import save_file

    save_file({'a': np.zeros(1)}, path)
    with pytest.raises(ValueError, match='x.safetensors is no published model: it has no about'):
        model_file.read(path)


def test_without_a_checkpoint_commands_take_the_bundled_model(
    bundled, monkeypatch, caplog, tmp_path
):
    caplog.set_level(logging.INFO, 'simpropnet_jax')
    assert Segmenter.from_pretrained().step == 1
    assert f"the package's model {NAME}, SimPropNet trained on 15 classes" in caplog.text
    assert locate.find(NAME) == bundled
    with pytest.raises(ValueError, match=f"no run folder or model 'toy_voc'. Did you mean {NAME}"):
        locate.find('toy_voc')
    monkeypatch.chdir(tmp_path)
    args = command_line.parse(eval_command, [])
    folder, which = run_folder.given_run(args)
    assert (str(folder), which) == (f'runs/{NAME}', 'best')
    assert plain(stored_config(folder)) == header.read_config(bundled)
    assert run_folder.given_run(args).folder == folder  # copied once
    args = command_line.parse(eval_command, ['--checkpoint', NAME, '--workdir', 'elsewhere'])
    assert str(run_folder.given_run(args).folder) == 'elsewhere'
    config = stored_config(folder)
    config.data.name = 'pascal5i/sbd'  # data of the user
    refusals.check_config(config, folder, evaluates=True)
    config.fold = 2
    with pytest.raises(ValueError, match='fold: was 1, now 2'):
        refusals.check_config(config, folder, evaluates=True)
    bundled.unlink()
    with pytest.raises(FileNotFoundError, match=f'the model {NAME} is missing'):
        locate.find(None)


def test_a_training_starts_from_a_published_model_and_never_in_it(bundled, published, small_config):
    config = finetune.get_config(f'start={NAME}')
    assert config.model.name == 'simpropnet' and config.train.start == NAME
    started = weights.fine_tuned(config)
    expected = model_file.read(bundled)
    jax.tree.map(np.testing.assert_array_equal, started.params, expected.params)
    with pytest.raises(ValueError, match='is a published model, which is not trained further'):
        prepare_training(small_config(), published)


def test_weights_of_drawn_shapes_warn(caplog):
    weights.warn_of_drawn_shapes(shapes.get_config('fold=1'), 'runs/demo')
    assert (
        'runs/demo was trained on drawn shapes. Its masks of photographs are noise' in caplog.text
    )


def test_an_address_is_downloaded_once_resumed_and_checked(server, published, cache):  # noqa: F811
    content = (published / header.NAME).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    server.files['/m/toy.safetensors'] = content
    server.cut = [1000]
    address = f'{server.url("m/toy.safetensors")}#sha256={digest}'
    path = locate.find(address)
    assert path == cache / 'models' / digest[:16] / 'toy.safetensors'
    assert [asked for _, asked in server.requests] == [None, 'bytes=1000-']
    server.files.clear()  # from now on without a network
    assert locate.find(run_folder.checkpoint(address).name) == path
    assert header.read_about(path)['name'] == NAME
    server.files['/m/toy.safetensors'] = content[::-1]
    with pytest.raises(OSError, match='not the file that was published: its SHA-256 is'):
        locate.find(f'{server.url("m/toy.safetensors")}#sha256={"0" * 64}')
    for wrong, problem in (
        (server.url('m/toy.safetensors'), 'must end in #sha256='),
        (f'{server.url("m/toy.zip")}#sha256={digest}', 'must name a .safetensors file'),
        ('hf://toy', 'must have the form hf://owner/name@revision'),
    ):
        with pytest.raises(ValueError, match=problem):
            locate.find(wrong)


def test_the_hub_is_asked_once(server, published, monkeypatch):  # noqa: F811
    """A server that answers as the Hub does: the headers name the commit and the file's hash."""
    commit, content = '1' * 40, (published / header.NAME).read_bytes()
    asked = []

    def answer(self: BaseHTTPRequestHandler):
        asked.append(self.path)
        self.send_response(200)
        self.send_header('X-Repo-Commit', commit)
        self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        if self.command == 'GET':
            self.wfile.write(content)

    handler = server.RequestHandlerClass
    monkeypatch.setattr(handler, 'do_HEAD', answer, raising=False)
    monkeypatch.setattr(handler, 'do_GET', answer)
    monkeypatch.setenv('HF_ENDPOINT', server.url('')[:-1])
    address = f'hf://me/toy@{commit}'
    for _ in range(2):
        assert header.read_about(locate.find(address))['name'] == NAME
    assert f'/me/toy/resolve/{commit}/{header.NAME}' in asked
    count = len(asked)
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    assert locate.find(address).is_file() and len(asked) == count
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(ImportError, match=r"pip install 'simpropnet-jax\[hub\]'"):
        locate.find(address)


def test_the_command_publishes(run, tmp_path, refused):
    simpropnet(['publish', f'{run}@2', '--out', str(tmp_path / 'two'), '--weights', 'int8'])
    assert header.read_about(tmp_path / 'two' / header.NAME)['step'] == 2
    with refused(f'{tmp_path}/no has no config.json'):
        simpropnet(['publish', str(tmp_path / 'no'), '--out', str(tmp_path / 'three')])
    assert not (tmp_path / 'three').exists()
