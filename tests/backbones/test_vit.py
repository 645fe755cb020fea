"""DINOv2's networks and weights against Hugging Face's PyTorch code, on random weights."""

import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from simpropnet_jax.backbones import registry, vit_weights
from simpropnet_jax.backbones.encoder import make_backbone
from simpropnet_jax.backbones.vit import ViT, bicubic_matrix, resized_positions
from simpropnet_jax.runtime.download import Remote

NARROW = {'heads': 3, 'width': 8, 'depth': 2}
FILES = 'SIMPROPNET_DINOV2'  # names a folder with official files


def random_params(network, scale=0.3):
    """Random weights in the network's layout; as large as keeps every part visible in the outputs."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
    return jax.tree.map(
        lambda x: rng.normal(0, scale, x.shape).astype(np.float32), shapes['params']
    )


def official_state(params):
    """Parameters under the names and in the layout of DINOv2's own files."""
    state = {'mask_token': np.zeros((1, params['class_token'].shape[-1]), np.float32)}
    for ours, value in traverse_util.flatten_dict(params, sep='/').items():
        name = vit_weights._official_name(ours)
        if name == 'patch_embed.proj.weight':
            value = value.reshape(14, 14, 3, -1).transpose(3, 2, 0, 1)
        elif value.ndim == 2 and name.endswith('weight'):
            value = value.T
        elif value.ndim == 2:
            value = value[None]
        state[name] = np.ascontiguousarray(value)
    return state


def hugging_face_state(state):
    """The same under the names of Hugging Face's files, with a prefix and a classifier."""
    names = {
        r'blocks\.(\d+)\.attn\.proj\.': r'encoder.layer.\1.attention.output.dense.',
        r'blocks\.(\d+)\.ls(\d)\.gamma': r'encoder.layer.\1.layer_scale\2.lambda1',
        r'blocks\.': 'encoder.layer.',
        r'patch_embed\.proj': 'embeddings.patch_embeddings.projection',
        r'pos_embed': 'embeddings.position_embeddings',
        r'^(cls_token|mask_token|register_tokens)': r'embeddings.\1',
        r'^norm\.': 'layernorm.',
    }
    found = {'classifier.weight': np.zeros(3)}
    for name, value in state.items():
        block = re.fullmatch(r'blocks\.(\d+)\.attn\.qkv\.(\w+)', name)
        if block:
            for part, piece in zip(('query', 'key', 'value'), np.split(value, 3), strict=True):
                place = f'dinov2.encoder.layer.{block[1]}.attention.attention.{part}.{block[2]}'
                found[place] = piece
            continue
        for old, new in names.items():
            if re.search(old, name):
                name = re.sub(old, new, name)
                break
        found[f'dinov2.{name}'] = value
    return found


def timm_state(state):
    """The same in timm's layout for models with registers: the first position is in the class token."""
    state = dict(state)
    del state['mask_token']
    state['reg_token'] = state.pop('register_tokens')
    state['cls_token'] = state['cls_token'] + state['pos_embed'][:, :1]
    state['pos_embed'] = state['pos_embed'][:, 1:]
    return state


def hugging_face_model(network, params):
    """Hugging Face's model of a network, with its weights."""
    torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
    name = 'Dinov2WithRegisters' if network.registers else 'Dinov2'
    config = getattr(transformers, f'{name}Config')(
        hidden_size=network.heads * network.width,
        num_hidden_layers=network.depth,
        num_attention_heads=network.heads,
        image_size=518,
        patch_size=14,
    )
    model = getattr(transformers, f'{name}Model')(config).eval()
    state = {}
    for name, value in hugging_face_state(official_state(params)).items():
        name = re.sub(r'attention\.attention\.(\w)\w+', r'attention.\1_proj', name)
        name = name.removeprefix('dinov2.').replace('attention.output.dense', 'attention.o_proj')
        state[name] = torch.tensor(value)
    del state['classifier.weight']
    model.load_state_dict(state)  # strict: every name is known there
    return model


def assert_same_blocks(network, params, sizes, tolerance):
    import torch

    model = hugging_face_model(network, params)
    run = jax.jit(network.apply)
    for size in sizes:
        images = np.random.default_rng(size).normal(size=(1, size, size, 3)).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.tensor(images).permute(0, 3, 1, 2), output_hidden_states=True)
        with jax.default_matmul_precision('highest'):
            found = run({'params': params}, images)
        for number in range(1, network.depth + 1):
            theirs = expected.hidden_states[number][:, 1 + network.registers :].numpy()
            ours = np.asarray(found[f'block{number}']).reshape(theirs.shape)
            error = np.abs(ours - theirs).max() / np.abs(theirs).max()
            assert error < tolerance, f'{size} px, block {number}: relative error {error:.1e}'


@pytest.mark.parametrize('registers', [0, 4])
def test_every_block_is_hugging_faces(registers):
    network = ViT(**NARROW, registers=registers, normed=False, positions='huggingface')
    params = random_params(network)
    assert_same_blocks(network, params, (224, 322, 518), 1e-4)


@pytest.mark.slow
def test_the_whole_vit_s_is_hugging_faces():
    network = ViT(heads=6, normed=False, positions='huggingface')
    assert_same_blocks(network, random_params(network, 0.05), (224,), 1e-4)


def test_positions_are_resized_as_pytorch_does():
    functional = pytest.importorskip('torch.nn.functional')
    import torch

    table = np.random.default_rng(0).normal(size=(37, 37, 2)).astype(np.float32)
    channels_first = torch.tensor(table).permute(2, 0, 1)[None]
    for side in (16, 23, 45):
        for antialias in (False, True):
            matrix = bicubic_matrix(37, side, 37 / side, antialias)
            np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
            expected = functional.interpolate(
                channels_first, (side, side), mode='bicubic', antialias=antialias
            )
            found = resized_positions(jnp.asarray(table), (side, side), antialias, 0.0)
            np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), atol=5e-5)
        # The official code: a factor with an offset, of which PyTorch makes the same size.
        factor = (side + 0.1) / 37
        expected = functional.interpolate(channels_first, scale_factor=factor, mode='bicubic')
        found = resized_positions(jnp.asarray(table), (side, side), False, 0.1)
        np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), atol=5e-5)


def test_files_of_all_three_sources_give_the_same_weights(tmp_path):
    from safetensors.numpy import save_file

    network = ViT(**NARROW, registers=4)
    params = random_params(network)
    state = official_state(params)
    forms = {'hugging_face': hugging_face_state(state), 'timm': timm_state(state)}
    for name, entries in forms.items():
        save_file(entries, tmp_path / f'{name}.safetensors')
        loaded = vit_weights.load_network(tmp_path / f'{name}.safetensors', network)
        assert loaded.convention == 'torchvision' and 'sha256:' in loaded.source
        if name == 'timm':  # only the sum of the two is the same
            for one in (params, loaded.params):
                one['class_token'] = one['class_token'] + one['positions'][:1]
                one['positions'] = one['positions'][1:]
        for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(loaded.params), strict=True):
            np.testing.assert_allclose(other, one, atol=1e-6)


def test_an_official_file_and_its_download(tmp_path, monkeypatch):
    torch = pytest.importorskip('torch')
    network = ViT(heads=3, width=4, depth=1)
    params = random_params(network)
    state = {name: torch.tensor(value) for name, value in official_state(params).items()}
    folder = tmp_path / 'hub' / 'checkpoints'
    folder.mkdir(parents=True)
    torch.save(state, folder / 'dinov2_tiny.pth')
    entry = registry.ENCODERS['dinov2_vits14']._replace(
        fields={'heads': 3, 'registers': 0}, weights='https://host.invalid/dinov2_tiny.pth'
    )
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setitem(
        registry.ENCODERS,
        'tiny',
        entry._replace(sha256=vit_weights.sha256(folder / 'dinov2_tiny.pth')),
    )
    loaded = vit_weights.load_network('download', network)  # the file is there already
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, params))
    monkeypatch.setitem(registry.ENCODERS, 'tiny', entry)
    with pytest.raises(OSError, match='could not be downloaded .*not the file that was published'):
        vit_weights.load_network('download', network)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('blocks.1.ls2.gamma'), 'has no entry blocks.1.ls2.gamma'),
        (lambda state: state.update(gate=np.ones(2)), 'has an entry gate that this ViT does not'),
        (
            lambda state: state.update({'norm.bias': np.ones(2)}),
            r'norm.bias has shape \(2,\), which does not fit \(24,\) .*choose the encoder',
        ),
        (
            lambda state: state.update(register_tokens=np.ones((1, 4, 24))),
            'has registers. Choose an encoder that has them too, such as dinov2_vits14_reg',
        ),
    ],
)
def test_an_entry_that_does_not_fit_is_named(change, message):
    network = ViT(**NARROW)
    state = official_state(random_params(network))
    change(state)
    with pytest.raises(ValueError, match=message):
        vit_weights.params_of(vit_weights.official(state), network, Path('file.pth'))


def test_sizes_are_those_of_the_published_models():
    millions = {'dinov2_vits14': 22_056_192, 'dinov2_vitb14': 86_579_712}
    for name, size in millions.items():
        network = make_backbone(name)
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 28, 28, 3)))
        count = sum(x.size for x in jax.tree.leaves(shapes))
        assert abs(count - size) < 2_000, f'{name} has {count}'
    with pytest.raises(
        ValueError, match='must have sides of 14n pixels, got 30 x 28. Take 28 x 28'
    ):
        jax.eval_shape(network.apply, shapes, jnp.zeros((1, 30, 28, 3)))
    for entry in registry.ENCODERS.values():
        assert bool(entry.licence) == bool(entry.weights)
        assert not entry.sha256 or len(entry.sha256) == 64
        assert set(entry.read) | set(entry.three) <= set(entry.levels)


def test_official_files_give_hugging_faces_features():
    """Needs `SIMPROPNET_DINOV2`, a folder with files such as dinov2_vits14_pretrain.pth."""
    if FILES not in os.environ:
        pytest.skip(f'{FILES} names no folder with official DINOv2 files')
    found = [name for name in registry.ENCODERS if name.startswith('dinov2')]
    for name in found:
        url = registry.ENCODERS[name].weights
        path = Path(os.environ[FILES]) / url.split('/')[-1]
        if not path.exists():
            continue
        with path.open('rb') as file:
            assert not Remote(path.name, (url,), sha256=registry.ENCODERS[name].sha256).problem(
                file
            )
        network = make_backbone(name).clone(normed=False, positions='huggingface')
        params = vit_weights.load_network(path, network).params
        assert_same_blocks(network, params, (224, 518), 1e-4)
