"""COCO-20i and FSS-1000 on tiny files in the real formats: prepared, refused, trained and evaluated on."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.core import shuffle

from benchmarks import coco_memory
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.config import recipes, rules
from simpropnet_jax.datasets import declared, hsnet_lists, packed
from simpropnet_jax.datasets.coco20i import builder, check, classes
from simpropnet_jax.datasets.folds import CLASS_NAMES as VOC
from simpropnet_jax.datasets.fss1000 import inputs
from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.datasets.tfds_splits import spread_keys
from simpropnet_jax.episodes import protocols, resident
from simpropnet_jax.evaluation.external.published import write_published
from simpropnet_jax.setup.data import data_word
from tests.datasets import coco_files
from tests.fakes import SMALL, decoded


def prepare_coco(root, out, *flags):
    paths = ['--images', str(root), '--annotations', str(root), '--data_dir', str(out)]
    simpropnet(['prepare', 'coco20i', *paths, *flags])


def prepare_fss(root, out, *flags):
    paths = ['--folder', str(root / 'fewshot_data'), '--lists', str(root / 'lists')]
    simpropnet(['prepare', 'fss1000', *paths, '--data_dir', str(out), *flags])


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    """(files, folder of the prepared subset, source)."""
    root = tmp_path_factory.mktemp('coco')
    files, out = coco_files.write_coco(root / 'files'), root / 'tfds'
    prepare_coco(files.root, out, '--subset')
    return files, out, open_source('coco20i/subset', out)


@pytest.fixture(scope='module')
def fss(tmp_path_factory):
    """(labels, folder of the prepared subset, source)."""
    root = tmp_path_factory.mktemp('fss')
    labels = coco_files.write_fss(root, images=inputs.IMAGES)
    prepare_fss(root, root / 'tfds', '--subset')
    return labels, root / 'tfds', open_source('fss1000/subset', root / 'tfds')


def test_images_come_back_with_polygons_runs_and_crowds(coco):
    files, _, source = coco
    expected = files.labels['trainaug'] | files.labels['val']
    assert source.ids == tuple(sorted(expected))  # without the image that shows a crowd alone
    for number, image_id in enumerate(source.ids):
        image, label = source.example(number)
        part = image_id.split('_')[1]
        assert image == (files.root / part / f'{image_id}.jpg').read_bytes()
        np.testing.assert_array_equal(decoded(label), expected[image_id])
    for name, listed in files.labels.items():
        assert {source.ids[i] for i in np.flatnonzero(source.index.lists[name])} == listed.keys()
    listed = listed_pairs(source.index, 'trainaug', coco_files.TRAINED, 'px2048')
    assert len(listed) == 2 * len(coco_files.TRAINED)
    assert not len(listed_pairs(source.index, 'trainaug', (1,), 'px2048'))  # a small person


def test_archives_give_the_same_data_and_complete_data_the_known_counts(
    coco, tmp_path, monkeypatch, capsys, refused
):
    files, _, source = coco
    coco_files.zip_all(files.root, tmp_path / 'zips')
    with refused(r'.*not complete COCO-20i: train2014 person: 0 pairs, 40,118 in .* --subset'):
        prepare_coco(tmp_path / 'zips', tmp_path / 'out')
    assert not list(tmp_path.glob('out/**/*.*'))

    counted = check.counts(source.index)
    assert counted.keys() == check.reference_counts().keys()
    for module in (builder, check):
        monkeypatch.setattr(module, 'reference_counts', lambda: counted)
    coco_files.write_lists(source.index, tmp_path / 'lists')
    left = tmp_path / 'out' / 'coco20i' / 'complete' / 'incomplete.ABC123_1.0.0'
    left.mkdir(parents=True)  # by a preparation that was killed
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    prepare_coco(tmp_path / 'zips', tmp_path / 'out', '--lists', str(tmp_path / 'lists'))
    assert not left.exists()
    again = open_source('coco20i/complete', tmp_path / 'out')
    assert again.ids == source.ids
    assert all(again.example(i) == source.example(i) for i in range(len(source.ids)))
    printed = capsys.readouterr()
    for part in ('Disk needed', 'GB', '2 images without an object', 'All counts', 'No pair'):
        assert part in printed.out
    for part in ('train2014', 'val2014'):
        assert f'draw {part}: 100%' in printed.err


def test_gigabytes_are_sorted_in_small_parts():
    """TFDS sorts one of a thousand temporary files after the other; numbers from 0 would all go to the first."""
    keys = list(spread_keys(82_081))
    files = [shuffle.get_bucket_number(key, shuffle.BUCKETS_NUMBER) for key in keys]
    assert keys == sorted(set(keys)) and files == sorted(files)
    assert max(np.bincount(files)) == 83 and set(files) == set(range(1000))


def test_the_counts_are_of_whole_lists_and_differing_pairs_are_named(coco, tmp_path):
    reference = check.reference_counts()
    for fold, held_out in enumerate(classes.EVERY_FOURTH):
        per_class = reference['val']['pairs_per_class']
        assert sum(per_class[c - 1] for c in held_out) == reference['val']['pairs'][fold]
    nearly = json.loads(json.dumps(reference))
    nearly['val']['pairs_per_class'][0] -= 3
    lines = check.check_complete(nearly, reference)
    assert lines == ['val2014 person: 19,214 pairs, 19,217 in the lists']

    index = coco[2].index
    coco_files.write_lists(index, tmp_path)
    file = tmp_path / 'val' / 'fold0.pkl'
    listed = pickle.loads(file.read_bytes())
    listed[0] = [*listed[0][1:], 'val2014/COCO_val2014_999.jpg']
    file.write_bytes(pickle.dumps(listed))
    assert check.compare_lists(index, tmp_path) == [
        'COCO_val2014_000000000000 person, 4,104 pixels: only here',
        '1 images of the lists are not here; the first is COCO_val2014_999',
    ]
    file.write_bytes(pickle.dumps(np.zeros(3)))  # runs code when it is unpickled
    with pytest.raises(ValueError, match='fold0.pkl is no list of images by class .*numpy'):
        check.compare_lists(index, tmp_path)


def add_category(content):
    content['categories'].append({'id': 91, 'name': 'gnu'})


def lose_images(content):
    content['images'] = content['images'][1:]


def break_polygon(content):
    content['annotations'][-1]['segmentation'] = [[1, 2, 3, 4, 5, 6, 7]]


def resize(content):
    content['images'][0]['height'] += 1


@pytest.mark.parametrize(
    'change, sentence',
    [
        (add_category, "has the category 'gnu', but COCO-20i is made of the 80 classes"),
        (lose_images, 'names the image 0, which the file lacks'),
        (break_polygon, r'annotation \d+ of COCO_val2014_0*19.jpg has a polygon that cannot be'),
        (resize, r'does not fit its annotations: it is annotated as 120 x 101 pixels'),
    ],
)
def test_wrong_annotations_are_refused_in_one_sentence(change, sentence, tmp_path, refused):
    files = coco_files.write_coco(tmp_path / 'files')
    files.annotations('val2014', change)
    with refused(f'.*{sentence}'):
        prepare_coco(files.root, tmp_path / 'out', '--subset')
    assert not list(tmp_path.glob('out/**/*.*'))


def test_missing_and_damaged_files_are_named(tmp_path, refused, capsys):
    root = coco_files.write_coco(tmp_path / 'files').root
    with refused('there is neither train2014/ nor train2014.zip in .*: give the folder with'):
        prepare_coco(tmp_path, tmp_path / 'out')
    image = root / 'train2014' / 'COCO_train2014_000000000003.jpg'
    content = image.read_bytes()
    image.write_bytes(content[:-40])
    with refused('.*0003.jpg cannot be read as a JPEG'):
        prepare_coco(root, tmp_path / 'out', '--subset')
    image.unlink()
    with refused(r'1 of 8 annotated images are not in .*the first is COCO_train2014_0*3.jpg'):
        prepare_coco(root, tmp_path / 'out')
    prepare_coco(root, tmp_path / 'out', '--subset')
    assert 'and 1 that are not there' in capsys.readouterr().out
    (root / 'annotations' / 'instances_val2014.json').write_text('{"images": [')
    with refused(".*instances_val2014.json cannot be read as COCO's JSON"):
        prepare_coco(root, tmp_path / 'other', '--subset')


def test_folds_of_coco_and_of_pascal_by_coco(coco):
    folder = coco[1]
    assert coco[2].index.novel_classes(1) == tuple(range(2, 81, 4))
    blocks = open_source('coco20i/subset', folder, 'blocks').index
    assert blocks.novel_classes(3) == tuple(range(61, 81))
    assert len(blocks.base_classes(3)) == 60
    unseen = declared.held_out('pascal5i/sbd', 'coco')
    assert [len(fold) for fold in unseen] == [6, 4, 6, 4]
    assert sorted(c for fold in unseen for c in fold) == list(range(1, 21))
    # Section 4 of RePRI's appendix.
    assert [VOC[c] for c in unseen[1]] == ['bicycle', 'bus', 'horse', 'sofa']


def test_a_training_on_coco_is_evaluated_on_classes_of_pascal_that_it_never_saw(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(rules.header, 'of', lambda run: tmp_path)  # a published model
    trained, now = (recipes.get('simpropnet', 'fold=1,coco') for _ in range(2))
    now.data.name = 'pascal5i/sbd'
    with pytest.raises(ValueError, match="config.data.folds must be 'coco' .* on pascal5i/sbd"):
        rules.check_same_run(now, trained, tmp_path, evaluates=True)
    now.data.folds = 'coco'
    rules.check_same_run(now, trained, tmp_path, evaluates=True)
    assert data_word(now) == 'pascal5i/sbd:coco'
    trained.data.folds = now.data.folds = 'blocks'
    with pytest.raises(ValueError, match="and 'own' in the training"):
        rules.check_same_run(now, trained, tmp_path, evaluates=True)
    with pytest.raises(ValueError, match="config.data.folds must be 'own' or 'coco' for pascal5i"):
        rules.validate(now, devices=1)


def test_fss_images_labels_and_lists(fss, tmp_path):
    labels, _, source = fss
    assert source.class_names[1:] == ('comb', 'taxi', 'abacus', 'yo-yo', 'pear', 'ufo')
    for number, image_id in enumerate(source.ids):
        class_id = source.class_names.index(image_id.rpartition('-')[0])
        np.testing.assert_array_equal(
            decoded(source.example(number)[1]), labels[image_id] * class_id
        )
    index = source.index
    assert index.base_classes(0) == (1, 2) and index.novel_classes(0) == (5, 6)
    assert index.validation == (3, 4)
    drawn = protocols.episodes(protocols.get_protocol('hsnet_fss'), index, 0, shot=1, seed=0)
    assert len(drawn) == 2400 and [index.ids[e.query] for e in drawn[:3]] == [
        'pear-01',
        'pear-02',
        'pear-03',
    ]
    assert inputs.LISTS == {'trn': 520, 'val': 240, 'test': 240}
    packed.store.write(source, tmp_path / 'packed')
    assert open_source('fss1000/subset', tmp_path / 'packed').index.validation == (3, 4)


def test_wrong_fss_input_is_refused_in_one_sentence(tmp_path, refused):
    coco_files.write_fss(tmp_path)
    with refused(r'.*trn.txt has 2 classes, expected 520. Complete it, or .* --subset'):
        prepare_fss(tmp_path, tmp_path / 'out')
    mask = tmp_path / 'fewshot_data' / 'taxi' / '2.png'
    mask.write_bytes(mask.read_bytes()[:60])
    with refused('.*2.png cannot be read as a PNG'):
        prepare_fss(tmp_path, tmp_path / 'out', '--subset')
    mask.unlink()
    with refused('.*2.jpg has no mask 2.png next to it'):
        prepare_fss(tmp_path, tmp_path / 'out', '--subset')
    with (tmp_path / 'lists' / 'val.txt').open('a') as file:
        file.write('taxi\n')
    with refused("the class 'taxi' is in trn.txt and val.txt"):
        prepare_fss(tmp_path, tmp_path / 'out', '--subset')
    (tmp_path / 'lists' / 'test.txt').unlink()
    with refused('there is no .*test.txt: give --lists the folder'):
        prepare_fss(tmp_path, tmp_path / 'out', '--subset')


def test_episodes_drawn_from_the_lists_are_those_of_the_data(coco, fss, tmp_path, monkeypatch):
    """So the published hashes of hsnet_coco and hsnet_fss need no image."""
    coco_files.write_lists(coco[2].index, tmp_path / 'coco')
    counted = check.counts(coco[2].index)
    monkeypatch.setattr(check, 'reference_counts', lambda: counted)
    monkeypatch.setattr(inputs, 'LISTS', {'trn': 2, 'val': 2, 'test': 2})
    few = {'shots': (1,), 'episodes': 40}
    for word, folder, lists in (
        ('coco', coco[1], tmp_path / 'coco'),
        ('fss', fss[1], fss[1].parent / 'lists'),
    ):
        config = recipes.get('simpropnet', word)
        out = tmp_path / word
        write_published(config, out / 'lists', lists=lists, **few)
        config.data.update(name=config.data.name.replace('complete', 'subset'), dir=str(folder))
        write_published(config, out / 'data', **few)
        found, expected = (
            json.loads((out / one / 'hashes.json').read_text())['hashes']
            for one in ('lists', 'data')
        )
        assert found.keys() == {f'hsnet_{word}_fold0'}  # val has no other classes of COCO here
        assert found.items() <= expected.items()


def test_lists_that_do_not_fit_are_refused(coco, tmp_path, refused):
    coco_files.write_lists(coco[2].index, tmp_path)
    command = ['episodes', '--config', 'simpropnet:coco', '--out', str(tmp_path / 'out')]
    with refused('.*val has 2 pairs of person, expected 19,217: copy'):
        simpropnet([*command, '--published', '--lists', str(tmp_path)])
    with refused('--lists is for --published'):
        simpropnet([*command, '--lists', str(tmp_path)])
    with pytest.raises(ValueError, match='--lists is for .* got .pascal5i/sbd.'):
        hsnet_lists.open_lists('pascal5i/sbd', tmp_path)


def test_the_bytes_that_the_guide_states_follow_from_the_counts():
    page = (Path(__file__).parents[2] / 'docs' / 'how_to' / 'coco.md').read_text()
    every, without = max(check.reference_counts()['trainaug']['images']), 41_809  # BAM's
    for images, sizes in ((every, (321, 482)), (every, (321, 321)), (without, (321, 321))):
        batch = 8 * sum(resident.bytes_of(1, (side,)) for side in sizes)
        stated = f'| {resident.bytes_of(images, sizes):,} | {2 * batch:,}'
        assert stated in page and f'{images:,}' in page
    assert 'within 24 GB' in page


def test_the_memory_of_cocos_annotations_is_stated(tmp_path, capsys):
    record = coco_memory.main(0.002, tmp_path / 'memory.json')
    assert json.loads((tmp_path / 'memory.json').read_text()) == record
    assert record['images'] == 165 + 81 and record['peak_memory']['host'] > 1e8
    assert '246 images, 1 MiB of annotations: peak memory' in capsys.readouterr().out
    with pytest.raises(ValueError, match='--share must be from 0.001 to 1, got 2'):
        coco_memory.main(2)


def test_more_than_254_classes_share_values_of_labels():
    """An image of FSS-1000 has one class, so a value need not be of one class alone."""
    from simpropnet_jax.episodes.loader import binary_label
    from simpropnet_jax.io.labels import label_value

    ids = np.arange(1, 1001)
    values = label_value(ids)
    assert (values[:254] == ids[:254]).all() and values.min() == 1 and values.max() == 254
    label = np.array([[0, label_value(1000), 255]], np.uint8)
    assert binary_label(label, 1000).tolist() == [[0, 1, 255]]


@pytest.mark.parametrize('name, word', [('coco', 'coco'), ('fss', 'fss')])
def test_train_evaluate_and_segment(name, word, request, tmp_path, one_device, monkeypatch):
    files, folder, source = request.getfixturevalue(name)
    monkeypatch.chdir(tmp_path)
    run, own = tmp_path / 'run', {'data.name': source.name, 'data.dir': str(folder)}
    few = {'select.every': 6, 'select.episodes': 20, 'eval.episodes': 200, 'eval.own_size': False}
    fields = SMALL | own | few
    changes = [f'--config.{field}={value}' for field, value in fields.items()]
    simpropnet(['train', '--config', f'simpropnet:{word}', '--workdir', str(run), *changes])
    simpropnet(['eval', '--workdir', str(run)])
    (file,) = (run / 'eval').glob('*.json')
    result = json.loads(file.read_text())
    assert result['data'] == source.name and result['protocol']['name'] == f'hsnet_{word}'
    assert result['folds'] == len(source.index.held_out)
    novel = [source.class_names[c] for c in source.index.novel_classes(0)]
    per_class = result['shots']['1']['square']['per_class']
    assert set(per_class) <= set(novel)
    if name == 'coco':
        first, second = sorted((files.root / 'val2014').iterdir())[:2]
        segment(run, first, second, decoded(source.example(source.ids.index(first.stem))[1]) == 1)
        check_coco_to_pascal(run, fields, request.getfixturevalue('prepared_data'))
    else:
        shown = folder.parent / 'fewshot_data' / novel[0]
        segment(run, shown / '1.jpg', shown / '2.jpg', files[f'{shown.name}-01'] == 1)


def segment(run, support, query, mask):
    out = run.parent / 'masks'
    out.mkdir()
    Image.fromarray(mask.astype(np.uint8) * 255).save(out / 'support.png')
    words = ['--support', str(support), str(out / 'support.png'), '--query', str(query)]
    with pytest.raises(SystemExit, match='0'):
        simpropnet(['segment', '--checkpoint', str(run), *words, '--out', str(out / 'found')])
    assert list((out / 'found').rglob(f'{query.stem}*.png'))


def check_coco_to_pascal(run, fields, pascal):
    """The guide's commands: the run is published, and scored on the classes that its fold never saw."""
    model = run.with_name('model')
    simpropnet(['publish', str(run), '--out', str(model)])
    now = fields | {'data.name': 'pascal5i/subset', 'data.dir': str(pascal), 'data.folds': 'coco'}
    now |= {'eval.protocol': 'hsnet', 'eval.episodes': 24}
    changes = [f'--config.{field}={value}' for field, value in now.items()]
    simpropnet(['eval', '--checkpoint', str(model), '--config', 'simpropnet:coco', *changes])
    (file,) = (run.parent / 'runs' / 'model' / 'eval').glob('*.json')
    result = json.loads(file.read_text())
    assert result['data'] == 'pascal5i/subset:coco' and result['protocol']['name'] == 'hsnet'
    unseen = [VOC[c] for c in classes.PASCAL_BY_COCO[0]]
    assert list(result['shots']['1']['square']['per_class']) == result['classes'] == unseen
    trained = {classes.CLASS_NAMES[c] for c in check.of_fold('trainaug', 0)}
    assert not trained & {classes.OF_VOC.get(one, one) for one in unseen}
