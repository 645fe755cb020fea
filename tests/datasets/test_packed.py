"""A data set packed into a few files gives the bytes that it gave before."""

import numpy as np
import pytest

from simpropnet_jax.datasets import packed
from simpropnet_jax.datasets.source import Source, open_source
from tests.fakes import fake_source, records_of


@pytest.fixture(scope='module')
def source():
    fake = fake_source(n=12)
    return Source('pascal5i/subset', fake.index, records_of(fake))


def test_a_packed_folder_is_the_data_set(source, tmp_path):
    facts = packed.write(source, tmp_path / 'packed', part_bytes=20_000)
    assert len(facts['parts']) > 2
    for part in facts['parts'][:-1]:
        assert np.load(tmp_path / 'packed' / part).nbytes <= 20_000
    again = open_source('pascal5i/subset', tmp_path / 'packed')
    assert (again.name, again.ids, again.class_names) == (
        source.name,
        source.ids,
        source.class_names,
    )
    assert again.index.held_out == source.index.held_out
    assert [again.example(n) for n in range(12)] == [source.example(n) for n in range(12)]
    np.testing.assert_array_equal(again.index.pixels, source.index.pixels)


def test_other_data_missing_parts_and_a_full_folder_are_named(source, tmp_path):
    facts = packed.write(source, tmp_path / 'packed', part_bytes=20_000)
    with pytest.raises(ValueError, match="is 'pascal5i/sbd', but .* holds 'pascal5i/subset'"):
        open_source('pascal5i/sbd', tmp_path / 'packed')
    with pytest.raises(ValueError, match='is not empty: give --out a new folder'):
        packed.write(source, tmp_path / 'packed')
    (tmp_path / 'packed' / facts['parts'][1]).unlink()
    with pytest.raises(ValueError, match=r'has no part01.npy \(1 of \d+ parts are missing\)'):
        open_source('pascal5i/subset', tmp_path / 'packed')
