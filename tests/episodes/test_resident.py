"""Images that stay on the device give the loader's batches, byte for byte."""

import functools
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.episodes import loader, resident
from simpropnet_jax.episodes.sampler import TrainSampler
from simpropnet_jax.runtime import sharding
from tests.fakes import fake_source


@pytest.fixture(scope='module')
def source():
    return fake_source(80)


@pytest.fixture(scope='module')
def sampler(source):
    pairs = listed_pairs(source.index, 'trainaug', range(1, 21), 'none', drop_images_with=(3,))
    return TrainSampler(pairs, shot=2, seed=0, fold=0, batch=4)


def loaded(source, sampler, mesh, sizes):
    numbers = np.unique(sampler.pairs.image)
    assert len(numbers) % resident.READ_TOGETHER  # the last ones are fewer
    images = resident.load(source, numbers, sizes, mesh, backend='threads')
    assert sum(x.nbytes for pair in images.squares.values() for x in pair) == resident.bytes_of(
        len(numbers), sizes
    )
    return images


def assert_same_batches(stream, numbers, gather, mesh):
    gather = jax.jit(gather, out_shardings=sharding.sharded(mesh))
    for expected, one in itertools.islice(zip(stream, numbers, strict=True), 5):
        found = gather(sharding.to_devices(mesh, one))
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert (
                found[name].dtype == array.dtype
                and len(found[name].sharding.device_set) == mesh.size
            )
            np.testing.assert_array_equal(found[name], array, err_msg=name)
    stream.close()


@pytest.mark.parametrize(('devices', 'support_size'), [(1, 90), (2, 90), (2, 60)])
def test_episodes_are_the_loaders(source, sampler, mesh_of, devices, support_size):
    mesh, sizes = mesh_of(devices), dict(query_size=60, support_size=support_size)
    images = loaded(source, sampler, mesh, tuple(sizes.values()))
    shared = dict(batch=4, first_step=7)  # past the end of an epoch
    stream = loader.train_batches(source, sampler, backend='threads', **sizes, **shared)
    gather = functools.partial(resident.gather_episodes, images, **sizes)
    assert_same_batches(stream, loader.train_numbers(sampler, **shared), gather, mesh)


def test_labelled_images_are_the_loaders(source, sampler, mesh_of):
    mesh = mesh_of(2)
    images = loaded(source, sampler, mesh, (65,))
    shared = dict(batch=4, first_step=7)
    stream = loader.supervised_batches(source, sampler, backend='threads', size=65, **shared)
    gather = functools.partial(resident.gather_labelled, images, size=65)
    assert_same_batches(stream, loader.supervised_numbers(sampler, **shared), gather, mesh)


def device(monkeypatch, platform, memory):
    limits = None if memory is None else {'bytes_limit': memory}
    fake = SimpleNamespace(platform=platform, memory_stats=lambda: limits)
    monkeypatch.setattr(jax, 'local_devices', lambda: [fake])


@pytest.mark.parametrize(
    ('platform', 'memory', 'wanted'),
    [('gpu', 1000, True), ('gpu', 999, False), ('gpu', None, False), ('cpu', None, False)],
)
def test_they_are_where_two_fifths_of_an_accelerator_hold_them(
    monkeypatch, platform, memory, wanted
):
    device(monkeypatch, platform, memory)
    assert resident.is_wanted('auto', 400) == wanted
    assert resident.is_wanted('always', 400) and not resident.is_wanted('never', 400)


def test_more_than_the_device_has_is_refused(monkeypatch):
    device(monkeypatch, 'gpu', 1000)
    needed = resident.bytes_of(3, (9, 9))  # the same size is kept once
    assert needed == 3 * 4 * 81
    with pytest.raises(
        ValueError,
        match="'always', but the training images take 1,001 bytes and the device has 1,000",
    ):
        resident.is_wanted('always', 1001)
