"""The embedded data set: the same on every machine, complete or not there, and read like a prepared one."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.datasets.index import Index, listed_pairs
from simpropnet_jax.datasets.shapes5i import store
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.episodes.sampler import images_by_class
from simpropnet_jax.io.labels import VOID

FEW = {'trainaug': 24, 'val': 6}


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    shapes5i.load(folder, FEW)
    return folder


@pytest.fixture(scope='module')
def drawn():
    return [shapes5i.draw(number) for number in range(40)]


def digest(*arrays):
    return hashlib.sha256(b''.join(array.tobytes() for array in arrays)).hexdigest()[:12]


def test_labels_are_the_same_on_every_machine(drawn):
    assert digest(*(label for _, label in drawn[:3])) == '8a6ee5cad164'


def test_an_image_does_not_depend_on_what_was_drawn_before(drawn):
    for number in (7, 3):
        image, label = shapes5i.draw(number)
        np.testing.assert_array_equal(image, drawn[number][0])
        np.testing.assert_array_equal(label, drawn[number][1])
    assert len({digest(image) for image, _ in drawn}) == len(drawn)


def test_scenes_have_one_to_three_classes_and_void_borders(drawn):
    seen = [set(np.unique(label)) - {0, VOID} for _, label in drawn]
    assert {len(classes) for classes in seen} == {1, 2, 3}
    assert set().union(*seen) == set(range(1, 21))
    for image, label in drawn:
        assert image.shape == (*label.shape, 3) and image.dtype == label.dtype == np.uint8
        touching = (
            (label[:, 1:] != label[:, :-1]) & (label[:, 1:] != VOID) & (label[:, :-1] != VOID)
        )
        assert (
            not touching.any()
        )  # void lies between any two classes, and between class and background
        assert 0.01 < (label == VOID).mean() < 0.2


def test_a_silhouette_and_a_texture_make_a_class():
    words = [name.split(' ', 1) for name in shapes5i.CLASS_NAMES[1:]]
    assert len(set(map(tuple, words))) == 20
    for fold in range(4):
        textures, silhouettes = zip(*(words[c - 1] for c in novel_classes(fold)), strict=True)
        assert len(set(textures)) == len(set(silhouettes)) == 5
    for part, times in ((0, 4), (1, 2)):  # neither of them alone tells a class
        used = [word[part] for word in words]
        assert {used.count(word) for word in used} == {times}


def test_colour_tells_nothing_about_the_class():
    """Between images, colours of one class differ as much as colours of two."""
    means = {}
    for number in range(0, 120):
        image, label = shapes5i.draw(number)
        for c in set(np.unique(label)) - {0, VOID}:
            means.setdefault(c, []).append(image[label == c].mean(0))

    def spread(colours):
        return np.var(np.array(colours), 0).sum()

    within = np.mean([spread(colours) for colours in means.values()])
    assert within > 0.8 * spread([colour for colours in means.values() for colour in colours])


def test_it_opens_like_a_prepared_data_set(data_dir):
    source = open_source('shapes5i', data_dir)
    assert (
        source.name == 'shapes5i'
        and source.class_names[1] == 'ringed disc'
        and len(source.class_names) == 21
    )
    assert {name: int(member.sum()) for name, member in source.index.lists.items()} == FEW
    for number in (0, 23, 24, 29):
        label = np.asarray(Image.open(io.BytesIO(source.example(number)[1])))
        np.testing.assert_array_equal(
            label, shapes5i.draw(number if number < 24 else 1_000_000 + number - 24)[1]
        )
        assert label.shape == (source.index.height[number], source.index.width[number])
        np.testing.assert_array_equal(
            np.bincount(label.ravel(), minlength=256)[:21], source.index.pixels[number]
        )
    assert len(listed_pairs(source.index, 'trainaug', range(1, 21), 'oslsm')) > 24


def test_errors_are_about_shapes5i_and_not_about_voc(data_dir):
    index = open_source('shapes5i', data_dir).index
    with pytest.raises(
        ValueError, match="^image list 'noval' is not known for shapes5i, which has trainaug, val$"
    ):
        listed_pairs(index, 'noval', (1,), 'none')
    few = listed_pairs(index, 'val', (1,), 'none')
    with pytest.raises(
        ValueError, match=r'^class 1 \(ringed disc\) has \d listed images, 9-shot episodes need 10'
    ):
        images_by_class(few, shot=9, classes=(1,))


def test_both_loaders_give_the_same_bytes(data_dir):
    pytest.importorskip('tensorflow')
    source = open_source('shapes5i', data_dir)
    both = [
        image_batches(source, range(30), size=97, batch=10, backend=b)
        for b in ('threads', 'tfdata')
    ]
    for threads, tfdata in zip(*both, strict=True):
        for field in threads:
            np.testing.assert_array_equal(threads[field], tfdata[field], err_msg=field)


def test_the_stored_files_are_the_same_each_time(data_dir, tmp_path):
    shapes5i.load(tmp_path, FEW)

    def files(root):
        return {p.relative_to(root): p.read_bytes() for p in root.rglob('*.[jp][pn]g')}

    assert files(tmp_path) == files(data_dir) and len(files(tmp_path)) == 60


def test_a_half_written_data_set_is_never_opened_and_is_drawn_anew(tmp_path, monkeypatch):
    saved = Index.save
    monkeypatch.setattr(Index, 'save', lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        shapes5i.load(tmp_path, {'val': 3})
    assert list((tmp_path / 'shapes5i').iterdir()) == []
    monkeypatch.setattr(Index, 'save', saved)
    (tmp_path / 'shapes5i' / 'unfinished_of_a_killed_run').mkdir()
    index, splits = shapes5i.load(tmp_path, {'val': 3})
    assert len(index.ids) == len(splits['val']) == 3


def test_two_that_draw_at_once_agree(tmp_path, monkeypatch):
    write = store._write

    def slower(folder, images):
        write(folder, images)
        monkeypatch.setattr(store, '_write', write)
        shapes5i.load(tmp_path, images)  # the other one is ready first

    monkeypatch.setattr(store, '_write', slower)
    index, _ = shapes5i.load(tmp_path, {'val': 2})
    assert len(index.ids) == 2
    assert [p.name for p in (tmp_path / 'shapes5i').iterdir()] == [shapes5i.VERSION]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(
        OSError, match=r'^shapes5i cannot be written to .*file.* set config.data.dir to a folder'
    ):
        open_source('shapes5i', tmp_path / 'file')
