"""The two loaders give the same bytes, for any host, from any step on."""

import dataclasses
import itertools
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.episodes.loader import binary_label, image_batches, own_labels, train_batches
from simpropnet_jax.episodes.sampler import TrainSampler
from tests.fakes import encode, fake_source

BACKENDS = ['threads', 'tfdata']


@pytest.fixture(scope='module')
def source():
    return fake_source(80)


@pytest.fixture(scope='module')
def sampler(source):
    pairs = listed_pairs(source.index, 'trainaug', range(1, 21), 'none')
    return TrainSampler(pairs, shot=2, seed=0, fold=0, batch=4)


def batches(
    source, sampler, steps, first_step=0, batch=4, support_size=90, query_size=60, **options
):
    iterator = train_batches(
        source,
        sampler,
        batch=batch,
        first_step=first_step,
        support_size=support_size,
        query_size=query_size,
        **options,
    )
    result = list(itertools.islice(iterator, steps))
    iterator.close()
    return result


def assert_same(a, b):
    assert a.keys() == b.keys()
    for field in a:
        assert a[field].dtype == b[field].dtype, field
        np.testing.assert_array_equal(a[field], b[field], err_msg=field)


def with_example(source, number, jpeg, png):
    encoded = list(source.encoded)
    encoded[number] = (jpeg, png)
    return dataclasses.replace(source, encoded=tuple(encoded))


def test_both_backends_give_the_same_training_batches(source, sampler):
    pytest.importorskip('tensorflow')
    both = [
        batches(source, sampler, 25, backend=backend) for backend in BACKENDS
    ]  # past the end of an epoch
    for threads, tfdata in zip(*both, strict=True):
        assert_same(threads, tfdata)


def test_a_batch_is_what_the_sampler_said(source, sampler):
    loaded = batches(source, sampler, 1, first_step=7, backend='threads')[0]
    for slot, i in enumerate(range(28, 32)):
        episode = sampler(i)
        assert (loaded['episode'][slot], loaded['query_id'][slot]) == (i, episode.query)
        assert (loaded['class_id'][slot], loaded['pair_id'][slot]) == (
            episode.class_id,
            episode.pair,
        )
        assert tuple(loaded['support_id'][slot]) == episode.supports
        assert loaded['valid'][slot]
        own = own_labels(source, [episode.query, *episode.supports])
        for label, size, found in zip(
            own,
            [60, 90, 90],
            [loaded['query_label'][slot], *loaded['support_label'][slot]],
            strict=True,
        ):
            resized = np.asarray(Image.fromarray(label).resize((size, size), Image.NEAREST))
            np.testing.assert_array_equal(found == 1, resized == episode.class_id)
            np.testing.assert_array_equal(found == 255, resized == 255)
            assert set(np.unique(found)) == {0, 1, 255}
        resized = Image.fromarray(own[0]).resize((60, 60), Image.NEAREST)
        np.testing.assert_array_equal(loaded['query_classes'][slot], np.asarray(resized))


@pytest.mark.parametrize('backend', BACKENDS)
def test_going_on_from_a_step_repeats_nothing_and_skips_nothing(source, sampler, backend):
    if backend == 'tfdata':
        pytest.importorskip('tensorflow')
    whole = batches(source, sampler, 6, backend=backend)
    for a, b in zip(
        whole[4:], batches(source, sampler, 2, first_step=4, backend=backend), strict=True
    ):
        assert_same(a, b)


def test_shares_of_the_hosts_make_up_the_batch(source, sampler):
    whole = batches(source, sampler, 3, backend='threads')

    def share(p):
        return batches(source, sampler, 3, process_index=p, process_count=2, backend='threads')

    for batch, first, second in zip(whole, share(0), share(1), strict=True):
        assert_same(
            batch, {field: np.concatenate([first[field], second[field]]) for field in batch}
        )
    with pytest.raises(
        ValueError, match='batch must be a multiple of the number of hosts, 3, got 4'
    ):
        train_batches(
            source, sampler, batch=4, first_step=0, support_size=9, query_size=9, process_count=3
        )


def test_gray_and_cmyk_images_decode_alike(source):
    pytest.importorskip('tensorflow')
    rng = np.random.default_rng(0)
    blobs = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8))
    picture = np.asarray(blobs.resize((121, 99), Image.BICUBIC))
    for number, mode in enumerate(['L', 'CMYK', 'RGB']):
        source = with_example(source, number, *encode(picture, mode=mode, quality=75))
    threads, tfdata = (
        next(image_batches(source, [0, 1, 2], size=50, batch=3, backend=b)) for b in BACKENDS
    )
    assert_same(threads, tfdata)
    shown = np.asarray(Image.fromarray(picture).resize((50, 50), Image.BILINEAR), np.float32)
    assert np.ptp(threads['image'][0], axis=-1).max() == 0
    assert np.abs(threads['image'][1] - shown).mean() < 12  # the right way round, not the negative
    assert np.abs(threads['image'][2] - shown).mean() < 12


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('damage', ['image', 'label'])
def test_an_unreadable_image_is_named(source, backend, damage):
    if backend == 'tfdata':
        pytest.importorskip('tensorflow')
    jpeg, png = source.example(5)
    jpeg, png = (jpeg[: len(jpeg) // 2], png) if damage == 'image' else (jpeg, b'garbage')
    broken = with_example(source, 5, jpeg, png)
    loaded = image_batches(broken, range(8), size=20, batch=3, backend=backend)
    next(loaded)
    with pytest.raises(ValueError, match='image fake_000005 cannot be decoded'):
        next(loaded)


@pytest.mark.parametrize('backend', BACKENDS)
def test_every_image_once_in_order_and_the_last_batch_padded(source, backend):
    if backend == 'tfdata':
        pytest.importorskip('tensorflow')
    numbers = [9, 3, 44, 0, 79, 21, 5]
    loaded = list(image_batches(source, numbers, size=33, batch=3, backend=backend))
    assert np.concatenate([b['number'][b['valid']] for b in loaded]).tolist() == numbers
    assert loaded[-1]['number'].tolist() == [5, 5, 5] and loaded[-1]['valid'].tolist() == [
        True,
        False,
        False,
    ]
    np.testing.assert_array_equal(loaded[-1]['image'][2], loaded[-1]['image'][0])
    expected = Image.fromarray(own_labels(source, [44])[0]).resize((33, 33), Image.NEAREST)
    np.testing.assert_array_equal(loaded[0]['label'][2], np.asarray(expected))


def test_threads_read_ahead_a_bounded_way_and_end_with_the_iterator(source, sampler):
    read = []

    class Counting(type(source)):
        def example(self, number):
            read.append(number)
            return super().example(number)

    counting = Counting(source.name, source.ids, source.index, source.encoded)
    before = threading.active_count()
    iterator = train_batches(
        counting,
        sampler,
        batch=4,
        first_step=0,
        support_size=20,
        query_size=20,
        backend='threads',
        workers=3,
    )
    for _ in range(5):
        next(iterator)
    assert threading.active_count() == before + 3
    assert len(read) <= (5 + 2) * 4 * 3 + 1  # two batches of four episodes of three images
    iterator.close()
    assert threading.active_count() == before


def test_auto_works_without_tensorflow(source, monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorflow', None)
    automatic = next(image_batches(source, [1, 2], size=30, batch=2))
    assert_same(automatic, next(image_batches(source, [1, 2], size=30, batch=2, backend='threads')))


def test_unknown_backend_is_refused_before_any_image_is_read(source):
    with pytest.raises(
        ValueError, match="backend must be one of auto, tfdata, threads, got 'grain'"
    ):
        image_batches(source, [0], size=30, batch=1, backend='grain')


def test_binary_label():
    label = np.array([[0, 3, 255, 4]], np.uint8)
    assert binary_label(label, 3).tolist() == [[0, 1, 255, 0]]
    assert binary_label(label, 3).dtype == np.uint8
