"""The builder on tiny files in the real formats: what is read, what is refused, what is written."""

import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets import incomplete
from simpropnet_jax.datasets.index import Index, counts, listed_pairs
from simpropnet_jax.datasets.pascal5i import (
    Pascal5i,
    builder,
    check_counts,
    find_inputs,
    reference_counts,
)
from simpropnet_jax.datasets.source import open_source
from tests.datasets.voc_files import (
    GRAY,
    NOVAL,
    SBD_ONLY,
    TRAIN,
    VAL,
    decode_label,
    write_files,
    write_list,
    write_mat,
    write_palette_png,
)


def main(flags):
    """`simpropnet prepare pascal5i` with flags."""
    simpropnet(['prepare', 'pascal5i', *flags])


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Written once; tests that damage files write their own."""
    return write_files(tmp_path_factory.mktemp('voc'))


@pytest.fixture(scope='module', params=['sbd', 'aug'])
def prepared(request, files, tmp_path_factory):
    """(layout, source) of the subset prepared through the command line from either layout."""
    data_dir = tmp_path_factory.mktemp('tfds')
    labels = [f'--{request.param}', str(getattr(files, request.param))]
    left = data_dir / 'pascal5i' / 'subset' / 'incomplete.AB12CD_1.0.0'  # of a killed preparation
    left.mkdir(parents=True)
    main(['--voc', str(files.voc.parent), *labels, '--subset', '--data_dir', str(data_dir)])
    assert not left.exists()
    return request.param, open_source('pascal5i/subset', data_dir)


def test_every_image_and_label_comes_back(files, prepared):
    _, source = prepared
    assert source.ids == tuple(sorted(files.labels))
    for number, image_id in enumerate(source.ids):
        jpeg, png = source.example(number)
        assert jpeg == files.jpeg(image_id).read_bytes()
        np.testing.assert_array_equal(decode_label(png), files.labels[image_id])
        assert (source.index.height[number], source.index.width[number]) == files.labels[
            image_id
        ].shape
    assert any((label == 255).any() for label in files.labels.values())
    assert Image.open(files.jpeg(GRAY)).mode == 'L'


def test_image_lists(prepared):
    layout, source = prepared
    lists = {
        name: {source.ids[i] for i in np.flatnonzero(member)}
        for name, member in source.index.lists.items()
    }
    assert lists['val'] == {*VAL}
    assert lists['trainaug'] == {*TRAIN, *SBD_ONLY}
    if layout == 'sbd':
        assert lists['noval'] == NOVAL
    else:
        with pytest.raises(
            ValueError, match=r'dataset/train\.txt and dataset/val\.txt, which Segmentation'
        ):
            listed_pairs(source.index, 'noval', [1], 'none')


def test_source_is_read_from_many_threads(files, prepared):
    _, source = prepared
    wrong = []

    def read(offset):
        for k in range(200):
            number = (k * 7 + offset) % len(source.ids)
            if source.example(number)[0] != files.jpeg(source.ids[number]).read_bytes():
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(offset,)) for offset in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_tar_reads_like_the_folder(files, tmp_path):
    tar_path = tmp_path / 'VOCtrainval_11-May-2012.tar'
    with tarfile.open(tar_path, 'w') as tar:
        tar.add(files.voc.parent, 'VOCdevkit')
    from_tar, from_folder = (find_inputs(voc, sbd=files.sbd) for voc in (tar_path, files.voc))
    assert from_tar.lists == from_folder.lists
    for image_id in files.labels:
        jpeg, label = from_tar.example(image_id)
        assert jpeg == files.jpeg(image_id).read_bytes()
        np.testing.assert_array_equal(label, files.labels[image_id])
    tar_path.write_bytes(tar_path.read_bytes()[:30_000])
    with pytest.raises(
        ValueError, match='VOCtrainval_11-May-2012.tar cannot be read as an uncompressed tar'
    ):
        find_inputs(tar_path, sbd=files.sbd)


def _truncate(path, part=0.6):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])


DAMAGE = {
    'truncated jpeg': (
        lambda f: _truncate(f.jpeg(GRAY)),
        r'2008_000003\.jpg cannot be read as a JPEG',
    ),
    'image missing': (
        lambda f: f.jpeg(TRAIN[0]).unlink(),
        r'1 of 9 images in the lists .*2007_000001\.jpg',
    ),
    'label missing': (lambda f: f.mat(SBD_ONLY[0]).unlink(), r'1 of 9 .* no label .*2008_000003'),
    'truncated label': (
        lambda f: _truncate(f.voc / 'SegmentationClass' / f'{VAL[0]}.png'),
        r'2007_000002\.png cannot be read as a PNG',
    ),
    'truncated mat': (
        lambda f: _truncate(f.mat(SBD_ONLY[1])),
        r'2008_000004\.mat cannot be read as an SBD',
    ),
    'other size': (
        lambda f: write_mat(f.mat(SBD_ONLY[0]), np.zeros((50, 60), np.uint8)),
        r'2008_000003\.mat is 60 x 50 pixels, but its image .*2008_000003\.jpg is \d+ x \d+',
    ),
    'value 37': (
        lambda f: write_palette_png(
            f.voc / 'SegmentationClass' / f'{TRAIN[0]}.png', np.full_like(f.labels[TRAIN[0]], 37)
        ),
        r'2007_000001\.png has the value 37, which is no class id',
    ),
    'colours for ids': (
        lambda f: Image.new('RGB', (80, 70)).save(f.voc / 'SegmentationClass' / f'{TRAIN[0]}.png'),
        r'2007_000001\.png has mode RGB',
    ),
    'val in train': (
        lambda f: write_list(f.voc / 'ImageSets' / 'Segmentation' / 'train.txt', [*TRAIN, VAL[0]]),
        r'train\.txt lists 1 images that are also in val\.txt, the first is 2007_000002',
    ),
    'listed twice': (
        lambda f: write_list(f.sbd / 'dataset' / 'val.txt', [SBD_ONLY[0]] * 2),
        r'val\.txt has 2008_000003 twice',
    ),
    'empty list': (
        lambda f: write_list(f.voc / 'ImageSets' / 'Segmentation' / 'val.txt', []),
        r'val\.txt is empty',
    ),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damage_is_refused_by_name_before_anything_is_written(damage, tmp_path, refused):
    files = write_files(tmp_path / 'in')
    do, message = DAMAGE[damage]
    do(files)
    data_dir = tmp_path / 'out'
    with refused(f'.*{message}'):
        main(
            [
                '--voc',
                str(files.voc),
                '--sbd',
                str(files.sbd),
                '--subset',
                '--data_dir',
                str(data_dir),
            ]
        )
    assert not data_dir.exists()


def test_val_image_on_a_given_trainaug_list_is_refused(tmp_path):
    files = write_files(tmp_path)
    write_list(files.voc / 'ImageSets' / 'Segmentation' / 'trainaug.txt', [*TRAIN, VAL[2]])
    with pytest.raises(
        ValueError, match=r'trainaug\.txt lists 1 images .* the first is 2009_000009'
    ):
        find_inputs(files.voc, aug=files.aug)


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--voc', '{root}', '--sbd', '{aug}'], 'there are no dataset/train.txt, dataset/val.txt'),
        (['--voc', '{root}', '--aug', '{root}'], 'there are no .png files in'),
        (
            ['--voc', '{aug}', '--aug', '{aug}'],
            'there is no VOC2012/ImageSets/Segmentation/val.txt in',
        ),
        (
            ['--voc', '{root}/nowhere', '--aug', '{aug}'],
            'there is no VOC2012/ImageSets/Segmentation/val.txt',
        ),
    ],
)
def test_wrong_paths_are_refused(files, flags, message, tmp_path, refused):
    flags = [flag.format(root=files.root, aug=files.aug) for flag in flags]
    with refused(f'.*{message}'):
        main([*flags, '--data_dir', str(tmp_path / 'out')])
    assert not (tmp_path / 'out').exists()


def test_complete_input_must_have_the_known_counts(files, tmp_path, monkeypatch, refused):
    flags = ['--voc', str(files.voc), '--sbd', str(files.sbd), '--data_dir', str(tmp_path / 'out')]
    with refused(r'.*images/val is 3, expected 1449 .* declare a subset with --subset'):
        main(flags)
    assert not (tmp_path / 'out').exists()

    inputs = find_inputs(files.voc, sbd=files.sbd)
    stand_in = counts(Index.build(inputs.labelled(), inputs.lists))
    assert stand_in.keys() == reference_counts().keys() - {'what'}
    monkeypatch.setattr(builder, 'reference_counts', lambda: stand_in)
    main(flags)
    assert len(open_source('pascal5i/sbd', tmp_path / 'out').ids) == len(files.labels)

    stand_in['px2048']['noval']['pairs_drop_novel'][2] += 1
    with pytest.raises(
        ValueError, match=r'px2048/noval/pairs_drop_novel is .* \(1 of \d+ counts differ\)'
    ):
        check_counts(Index.build(inputs.labelled(), inputs.lists), stand_in)


def test_a_config_refuses_the_other_layout(files, tmp_path):
    with pytest.raises(
        ValueError, match="pascal5i/sbd cannot be made of this input: 'sbd' needs SBD's"
    ):
        Pascal5i(
            config='sbd', data_dir=tmp_path, voc=files.voc, aug=files.aug
        ).download_and_prepare()


def test_what_a_running_preparation_has_not_finished_is_left_alone(tmp_path):
    left = tmp_path / 'incomplete.AB12CD_1.0.0'
    with incomplete.removed(tmp_path / '1.0.0'):
        left.mkdir()
        with incomplete.removed(tmp_path / '1.0.0'):
            assert left.exists()
    with incomplete.removed(tmp_path / '1.0.0'):
        assert not left.exists()


def test_what_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match='run simpropnet prepare pascal5i .*--download'):
        open_source('pascal5i/sbd', tmp_path)
    with pytest.raises(ValueError, match="must be one of pascal5i/sbd, .* got 'pascal5i'"):
        open_source('pascal5i', tmp_path)


WITHOUT_TENSORFLOW = """
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] == 'tensorflow' else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path = [Hidden(finder) for finder in sys.meta_path]
from simpropnet_jax.datasets.pascal5i.prepare import prepare
from simpropnet_jax.datasets.source import open_source
voc, aug, data_dir = sys.argv[1:]
prepare(data_dir, voc=voc, aug=aug, subset=True)
print(len(open_source('pascal5i/subset', data_dir).example(0)))
"""


def test_prepares_and_reads_without_tensorflow(files, tmp_path):
    command = [sys.executable, '-c', WITHOUT_TENSORFLOW, files.voc, files.aug, tmp_path]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'images: trainaug 6, val 3' in done.stdout and done.stdout.endswith('2\n')


def test_tfds_prepares_from_manual_dir_and_decodes(files, tmp_path):
    """The other way in, TFDS' own: files lie in manual_dir, and examples come back decoded."""
    import tensorflow_datasets as tfds

    manual_dir = tmp_path / 'manual'
    manual_dir.mkdir()
    (manual_dir / 'VOCdevkit').symlink_to(files.voc.parent)
    (manual_dir / 'SegmentationClassAug').symlink_to(files.aug)
    data_builder = Pascal5i(config='subset', data_dir=tmp_path / 'tfds')
    data_builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
    )
    assert (
        len(data_builder.as_data_source('train')) == 6
        and len(data_builder.as_data_source('val')) == 3
    )
    for example in data_builder.as_data_source('train'):
        expected = files.labels[example['image_id'].decode()]
        np.testing.assert_array_equal(example['label'][..., 0], expected)
        assert example['image'].shape == (*expected.shape, 3)


LISTS = {
    'pairs of paths': lambda i: f'/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png',
    'endings': lambda i: f'{i}.jpg',
    'a class for each line': lambda i: f'{i}__01\n{i}__15',
    'other columns': lambda i: f'{i} -1',
}


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('form', LISTS)
def test_lists_of_other_repositories(tmp_path, form, encoding):
    files = write_files(tmp_path)
    expected = find_inputs(files.voc, aug=files.aug).lists
    for name, ids in (('train', TRAIN), ('val', VAL)):
        path = files.voc / 'ImageSets' / 'Segmentation' / f'{name}.txt'
        path.write_text('\r\n'.join(map(LISTS[form], ids)), encoding=encoding)
    (files.aug / '._2007_000001.png').write_bytes(b'a resource fork of another system')
    assert find_inputs(files.voc, aug=files.aug).lists == expected


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda label: np.where((label > 0) & (label < 255), label + 1, label), r'shifted by \+1'),
        (lambda label: np.where((label > 0) & (label < 255), 1, label), 'have one class only, 1'),
        (lambda label: np.where(label == 255, 0, label), None),
    ],
)
def test_labels_that_differ_from_vocs_own_are_noticed(tmp_path, change, words, caplog):
    files = write_files(tmp_path)
    for image_id, label in files.labels.items():
        changed = np.minimum(change(np.minimum(label, 255)), 255).astype(np.uint8)
        changed[(changed > 20) & (changed < 255)] = 20
        write_palette_png(files.aug / f'{image_id}.png', changed)
    inputs = find_inputs(files.voc, aug=files.aug)
    if words is None:
        list(inputs.labelled())
        assert 'SegmentationClassAug have no void (255)' in caplog.text
        return
    with pytest.raises(ValueError, match=f'the labels in .*SegmentationClassAug .*{words}'):
        list(inputs.labelled())
