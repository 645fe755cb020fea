"""Your own images: the same data from masks and from COCO's JSON; what is odd; a sentence for each bad folder."""

import io
import json
import re
import shutil

import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
from PIL import Image
from pycocotools import mask as runs

from configs import finetune
from simpropnet_jax import models
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.folder import index_masks
from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.datasets.shapes5i.store import encoded
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.training.loop import train_and_evaluate
from tests.fakes import SMALL, decoded
from tests.small_checkpoint import write_checkpoint
from tests.training import tiny

IDS = (1, 2, 6, 7)  # classes of shapes5i; by name in another order
NAMES = {class_id: shapes5i.CLASS_NAMES[class_id] for class_id in IDS}
SORTED = tuple(sorted(NAMES.values()))


@pytest.fixture(scope='module')
def drawn():
    """(name, image, label) of 24 scenes, six with each class or more; other classes are background."""
    scenes = [
        (f'{round_}_{c}', *shapes5i.draw(20 * round_ + c - 1)) for round_ in range(6) for c in IDS
    ]
    return [
        (name, image, np.where(np.isin(label, (*IDS, 255)), label, 0))
        for name, image, label in scenes
    ]


def write_masks(folder, drawn):
    """images/ and masks/CLASS/, void in every mask of an image."""
    (folder / 'images').mkdir(parents=True)
    for name, image, label in drawn:
        (folder / 'images' / f'{name}.jpg').write_bytes(encoded(image, label)[0])
        for class_id in set(np.unique(label)) & set(IDS):
            (folder / 'masks' / NAMES[class_id]).mkdir(parents=True, exist_ok=True)
            mask = np.where(label == 255, 255, label == class_id).astype(np.uint8)
            Image.fromarray(mask).save(folder / 'masks' / NAMES[class_id] / f'{name}.png')
    return folder


def write_coco(folder, drawn):
    """The same as COCO's JSON: run lengths; void is a crowd."""
    found = []
    for number, (_, _, label) in enumerate(drawn):
        for value in set(np.unique(label)) - {0}:
            outline = runs.encode(np.asfortranarray(label == value).astype(np.uint8))
            outline['counts'] = outline['counts'].decode()
            found.append(
                {
                    'id': len(found),
                    'image_id': number,
                    'category_id': IDS[0] if value == 255 else int(value),
                    'iscrowd': int(value == 255),
                    'segmentation': outline,
                }
            )
    files = [
        {'id': i, 'file_name': f'{name}.jpg', 'height': label.shape[0], 'width': label.shape[1]}
        for i, (name, _, label) in enumerate(drawn)
    ]
    categories = [{'id': class_id, 'name': name} for class_id, name in NAMES.items()]
    path = folder / 'instances.json'
    path.write_text(json.dumps({'images': files, 'categories': categories, 'annotations': found}))
    return path


def main(words):
    """`simpropnet prepare folder` with words."""
    simpropnet(['prepare', 'folder', *words])


def prepared(folder, *flags):
    out = folder.with_name(f'{folder.name}_prepared')
    main([str(folder), '--out', str(out), *map(str, flags)])
    return open_source('folder', out)


def test_masks_and_coco_give_the_same_data_which_are_those_that_were_drawn(drawn, tmp_path):
    folder = write_masks(tmp_path / 'photos', drawn)
    (folder / 'folds.json').write_text(json.dumps([[SORTED[1]], [SORTED[0], SORTED[3]]]))
    ours = prepared(folder)
    with_json = folder.rename(tmp_path / 'annotated')
    theirs = prepared(with_json, '--coco', write_coco(with_json, drawn))
    assert ours.class_names == theirs.class_names == ('background', *SORTED)
    assert ours.ids == theirs.ids == tuple(sorted(name for name, *_ in drawn))
    truth = {name: (image, label) for name, image, label in drawn}
    for number, name in enumerate(ours.ids):
        image, label = ours.example(number)
        assert (image, label) == theirs.example(number) and image == encoded(*truth[name])[0]
        expected = truth[name][1].copy()
        for class_id, class_name in NAMES.items():
            expected[truth[name][1] == class_id] = ours.class_names.index(class_name)
        np.testing.assert_array_equal(decoded(label), expected)
    assert ours.index.novel_classes(1) == (1, 4) and ours.index.base_classes(1) == (2, 3)
    with pytest.raises(ValueError, match='fold must be from 0 to 1, got 2'):
        ours.index.novel_classes(2)
    for name, least in (('trainaug', 4), ('val', 2)):
        counts = np.bincount(listed_pairs(ours.index, name, range(1, 5), 'none').class_id)[1:]
        assert counts.min() >= least
        np.testing.assert_array_equal(ours.index.lists[name], theirs.index.lists[name])
    assert (ours.index.lists['trainaug'] ^ ours.index.lists['val']).all()


def test_index_masks_give_the_same_data_once_their_classes_are_named(
    drawn, tmp_path, capsys, refused
):
    folder = write_masks(tmp_path / 'photos', drawn)
    ours = prepared(folder)
    shutil.rmtree(folder / 'masks')
    (folder / 'masks').mkdir()
    for name, _, label in drawn:
        image = Image.fromarray(np.where(label == 7, 300, label.astype(np.uint16)))
        if name.startswith('0'):  # a palette has 256 values only
            image = Image.fromarray(label.astype(np.uint8)).convert('P')
        image.save(folder / 'masks' / f'{name}.png')
    with refused('.*masks has no folders: .* name the classes: --classes cat,dog'):
        main([str(folder)])
    named = tmp_path / 'classes.txt'
    named.write_text('\n'.join(f'{value} = {name}' for value, name in NAMES.items()))
    capsys.readouterr()
    main([str(folder), '--classes', str(named)])
    assert (
        'value 300, which --classes does not name (read as background)' in capsys.readouterr().out
    )
    named.write_text(named.read_text() + f'\n300: {NAMES[7]}')
    shutil.rmtree(tmp_path / 'photos_prepared')
    theirs = prepared(folder, '--classes', named)
    assert theirs.class_names == ours.class_names and theirs.ids == ours.ids
    for number in range(len(ours.ids)):
        assert theirs.example(number) == ours.example(number)
    assert index_masks.parse('background, cat,dog') == index_masks.parse('cat,dog')
    assert index_masks.parse('8=cat,15=person') == {8: 'cat', 15: 'person'}
    for wrong in ('', 'cat,2=dog', '1=cat,1=dog', '0=cat', '70000=cat'):
        with refused('--classes must'):
            main([str(folder), '--classes', wrong])


def test_other_formats_are_kept_without_loss_turned_as_shown_and_read_alike_by_both_loaders(
    tmp_path,
):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30, 40, 3), np.uint8)
    mask = Image.fromarray((noise[..., 0] > 128).astype(np.uint8))
    (tmp_path / 'p' / 'images').mkdir(parents=True)
    (tmp_path / 'p' / 'masks' / 'cat').mkdir(parents=True)
    turned = Image.Exif()
    turned[274] = 6  # lies on its side
    for name, exif in (('a.png', None), ('b.bmp', None), ('c.tiff', turned), ('d.png', None)):
        Image.fromarray(noise).save(
            tmp_path / 'p' / 'images' / name, **({'exif': exif} if exif else {})
        )
        (mask.transpose(Image.ROTATE_270) if exif else mask).save(
            tmp_path / 'p' / 'masks' / 'cat' / f'{name[0]}.png'
        )
    Image.fromarray(noise).resize((2000, 1500)).save(tmp_path / 'p' / 'images' / 'e.png')
    Image.new('1', (2000, 1500), 1).save(tmp_path / 'p' / 'masks' / 'cat' / 'e.png')
    (tmp_path / 'p' / 'val.txt').write_text('a\nb.bmp\n')
    source = prepared(tmp_path / 'p')
    read = [np.asarray(Image.open(io.BytesIO(source.example(n)[0]))) for n in range(5)]
    np.testing.assert_array_equal(read[0], noise)
    np.testing.assert_array_equal(read[1], noise)
    np.testing.assert_array_equal(read[2], np.rot90(noise, -1))
    assert read[4].shape == (768, 1024, 3) and decoded(source.example(4)[1]).shape == (768, 1024)
    assert source.index.lists['val'].tolist() == [True, True, False, False, False]
    batches = [
        next(image_batches(source, range(5), size=33, batch=5, backend=one))
        for one in ('tfdata', 'threads')
    ]
    np.testing.assert_array_equal(batches[0]['image'], batches[1]['image'])
    np.testing.assert_array_equal(batches[0]['label'], batches[1]['label'])


def test_what_is_odd_is_said_and_overlaps_go_to_the_smaller_mask(drawn, tmp_path, capsys):
    folder = write_masks(tmp_path / 'photos', drawn)
    shape = drawn[0][2].shape
    (folder / 'masks' / 'nothing').mkdir()
    (folder / 'images' / 'alone.jpg').write_bytes(encoded(drawn[0][1], drawn[0][2])[0])
    (folder / 'images' / 'notes.txt').write_text('')
    Image.fromarray(drawn[0][1]).save(
        folder / 'images' / 'twin.png'
    )  # its pixels differ from the JPEG
    Image.fromarray(drawn[0][1]).save(folder / 'images' / 'third.bmp')
    whole, dot, empty = (np.zeros(shape, np.uint8) for _ in range(3))
    whole[:] = dot[5, 5:7] = 1
    for place, mask in (
        ('lone', whole),
        (f'{SORTED[0]}/gone', whole),
        (f'{SORTED[0]}/TWIN', whole),
        (f'{SORTED[0]}/twin', whole),
        (f'{SORTED[1]}/twin', dot),
        (f'{SORTED[2]}/twin', empty),
        (f'{SORTED[0]}/third', dot),
    ):
        Image.fromarray(mask).save(folder / 'masks' / f'{place}.png')
    source = prepared(folder)
    report = capsys.readouterr().out
    for line in (
        '1 x class without a mask (left out)\n      nothing',
        '1 x image without a mask (left out)\n      alone',
        'is no picture (not used)',
        'lone.png',
        f'1 x mask without an image (not used)\n      {SORTED[0]}/gone.png',
        'in upper and lower case only (not used)',
        'TWIN.png and twin.png',
        f'empty mask (not used)\n      {SORTED[2]}/twin',
        'overlap (the one of the smaller area is on top)',
        '2 x object smaller than the networks can see',
        f'wrong way round? (--invert)\n      {SORTED[0]} in twin.png (100%)',
        'twice, on one list\n      third and twin',
    ):
        assert line in report, (line, report)
    assert 'MISTAKES' not in report and f'{SORTED[0]} ' in report
    label = decoded(source.example(source.ids.index('twin'))[1])
    assert label[5, 5] == 2 and (label == 1).sum() == label.size - 2


def spoil(folder, scene, mistake):
    name, image, label = scene
    picture, mask = (
        folder / 'images' / f'{name}.jpg',
        next((folder / 'masks').glob(f'*/{name}.png')),
    )
    match mistake:
        case 'unreadable image':
            picture.write_bytes(picture.read_bytes()[:500])
        case 'unreadable mask':
            mask.write_bytes(b'nothing')
        case 'shades':
            Image.fromarray(
                np.linspace(0, 255, label.size).reshape(label.shape).astype(np.uint8)
            ).save(mask)
        case 'size':
            Image.fromarray(label[:-1] > 0).save(mask)
        case 'unturned':
            turned = Image.Exif()
            turned[274] = 6
            Image.fromarray(image[:, : image.shape[0] - 9]).save(picture, exif=turned)
            Image.fromarray(label[:, : image.shape[0] - 9] > 0).save(mask)
        case 'twin':
            Image.fromarray(image).save(picture.with_suffix('.png'))
        case 'lists':
            (folder / 'train.txt').write_text(name)
            (folder / 'val.txt').write_text(f'{name}\n')
        case 'fold':
            (folder / 'folds.json').write_text('[["cat"]]')
        case 'background':
            (folder / 'masks' / 'background').mkdir()
            mask.rename(folder / 'masks' / 'background' / mask.name)
        case 'few':
            (folder / 'val.txt').write_text(name)


@pytest.mark.parametrize(
    'mistake, line',
    [
        ('unreadable image', '1 x image that cannot be read\n.*cannot be read as a picture'),
        ('unreadable mask', '1 x mask that cannot be read\n.*is not a picture of any known format'),
        ('shades', '1 x mask that cannot be read\n.*has shades of gray'),
        (
            'size',
            r'1 x mask of another size than its image\n +[\w ]+/0_1.png is \d+ x \d+, 0_1.jpg \d+ x \d+\n',
        ),
        ('unturned', 'as it is before its EXIF data turn it: save the image turned'),
        ('twin', '1 x name that two files have, but for the ending'),
        ('lists', '1 x image that is both in train.txt and in val.txt\n      0_1'),
        ('fold', '1 x class in folds.json that has no masks; there are .*\n      fold 0: cat'),
        ('background', '1 x class called background'),
        (
            'few',
            'list without a class that has 2 images: a query (.|\n)* val, which has 1 images; add images',
        ),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(drawn, tmp_path, capsys, mistake, line):
    folder = write_masks(tmp_path / 'photos', drawn[:4])
    spoil(folder, drawn[0], mistake)
    with pytest.raises(SystemExit) as ended:
        main([str(folder), '--out', str(tmp_path / 'out')])
    printed = capsys.readouterr()
    assert (
        ended.value.code == 2 and 'has mistakes, listed above; nothing was written' in printed.err
    )
    assert re.search(line, printed.out.split('ODD')[0]), printed.out
    assert [path.name for path in tmp_path.iterdir()] == ['photos']


def test_folders_that_are_none(tmp_path, refused, drawn):
    with refused('there is no folder .*none'):
        main([str(tmp_path / 'none')])
    with refused('.* has no folder images/'):
        main([str(tmp_path)])
    (tmp_path / 'images').mkdir()
    with refused('.*images has no pictures: no file there ends in'):
        main([str(tmp_path)])
    Image.new('RGB', (9, 9)).save(tmp_path / 'images' / 'a.png')
    with refused('.* has no folder masks/'):
        main([str(tmp_path)])
    with refused('there is no file .*x.json'):
        main([str(tmp_path), '--coco', str(tmp_path / 'x.json')])
    with refused('.* is there already: delete it, or give another --out'):
        main([str(tmp_path), '--out', str(tmp_path)])
    with pytest.raises(
        FileNotFoundError,
        match='is not a prepared folder .*`simpropnet prepare folder',
    ):
        open_source('folder', tmp_path)


@pytest.mark.slow
def test_fine_tuning_on_your_own_classes(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'build', tiny.build)
    folder = write_masks(tmp_path / 'photos', drawn)
    (folder / 'folds.json').write_text(json.dumps([[SORTED[0]], list(SORTED)]))
    prepared(folder)
    _, weights = write_checkpoint(tmp_path / 'start', steps=(1, 2))  # the first is the best
    config = finetune.get_config(f'start={tmp_path / "start"}')
    changes = {
        name: value for name, value in SMALL.items() if not name.startswith(('data.name', 'model'))
    }
    config.update_from_flattened_dict(
        changes
        | {
            'data.dir': str(tmp_path / 'photos_prepared'),
            'train.steps': 2,
            'select.every': 2,
            'train.classes': 'base',
            'train.frozen': ('backbone', 'project/bias'),
            'eval.own_size': False,
        }
    )
    assert (
        config.train.learning_rate == pytest.approx(2.5e-4) and config.model.attention_gain == 50.0
    )
    before = evaluate_run(config, tmp_path / 'before', pictures=False)
    state = train_and_evaluate(config, tmp_path / 'mine')
    after = evaluate_run(None, tmp_path / 'mine', pictures=False)

    assert before['classes'] == after['classes'] == [SORTED[0]] and before['folds'] == 2
    assert before['protocol'] == after['protocol'] and before['data'] == 'folder/photos_prepared'
    assert before['method'] == 'SimPropNet' and after['method'] == 'SimPropNet + fine-tuned'
    assert (
        'step 1, trained on pascal5i/subset, fold 1' in before['weights']
        and before['checkpoint']['step'] is None
    )
    assert after['trained'] == {'classes': 'base', 'start': str(tmp_path / 'start')}

    start, now = (flatten_dict(one['params'], sep='/') for one in (weights[1], state.variables))
    moved = {name for name in now if not np.array_equal(now[name], start[name])}
    assert moved == {'project/kernel'}
    shutil.rmtree(tmp_path / 'start')  # it was read once
    assert train_and_evaluate(config, tmp_path / 'mine').step == 2

    def refused(sentence, **changes):
        changed = ConfigDict(config.to_dict())
        changed.update_from_flattened_dict(
            {name.replace('__', '.'): value for name, value in changes.items()}
        )
        with pytest.raises(ValueError, match=sentence):
            train_and_evaluate(changed, tmp_path / 'other')
        assert not (tmp_path / 'other').exists()

    refused('config.train.start is .*start, a folder in which nothing was trained')
    write_checkpoint(tmp_path / 'start')
    refused(
        'config.model.width is 8, but .*start, from which the training is to start, has 4: take',
        model__width=8,
    )
    refused(
        'fold 1 holds out all classes of .*so no class is left to train on: set config.train.classes',
        fold=1,
    )
    refused('fold must be from 0 to 1, got 2', fold=2)
    refused(
        "train.frozen names 'head', but no parameter path begins with it", train__frozen=('head',)
    )
    every = ('backbone', 'project')
    refused(
        'config.train.frozen is .* which is every parameter: nothing would be trained',
        train__frozen=every,
    )


def write_disks(folder, shades=None, background=0):
    """Six images with a disk of 255, a rim of another value or a void one, for class cat."""
    rng = np.random.default_rng(0)
    for part in ('images', 'masks/cat'):
        (folder / part).mkdir(parents=True)
    rows, columns = np.mgrid[:60, :80]
    distance = np.hypot(rows - 30, columns - 40)
    for number in range(6):
        pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / f'{number}.png')
        mask = np.select([distance < 14, distance < 16], [255, shades or 255], background)
        Image.fromarray(mask.astype(np.uint8)).save(folder / 'masks' / 'cat' / f'{number}.png')
    return (distance < 16).mean(), (distance < 14).mean()


def test_masks_with_shades_are_mistakes_until_a_flag_says_how_to_read_them(tmp_path, capsys):
    share, inner = write_disks(tmp_path / 'trimap', 128)
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'trimap')])
    said = capsys.readouterr().out
    assert '6 x mask that cannot be read' in said and 'Nothing is odd' not in said
    assert 'shades of gray (0, 128, 255)' in said and '--mask_threshold 128' in said
    for flag, expected in (('--mask_threshold=128', share), ('--mask_value=255', inner)):
        main([str(tmp_path / 'trimap'), flag])
        row = capsys.readouterr().out.splitlines()[1].split()
        assert row[0] == 'cat' and row[3:5] == [f'{expected:.1%}', '0.0%']


def test_black_objects_on_white_and_much_void_are_odd(tmp_path, capsys):
    share, inner = write_disks(tmp_path / 'white', 1, 0)
    for path in (tmp_path / 'white' / 'masks' / 'cat').iterdir():
        Image.fromarray(np.where(np.asarray(Image.open(path)), 0, 255).astype(np.uint8)).save(path)
    main([str(tmp_path / 'white')])
    said = capsys.readouterr().out
    assert '6 x mask that covers nearly the whole border: is it the wrong way round? (--inv' in said
    main([str(tmp_path / 'white'), '--invert'])
    said = capsys.readouterr().out
    assert f'{share:.1%}' in said and 'Nothing is odd.' in said
    write_disks(tmp_path / 'void', 1)
    main([str(tmp_path / 'void')])
    said = capsys.readouterr().out
    header, row = said.splitlines()[:2]
    assert 'of the image              void' in header
    assert row.split()[3:5] == [f'{share - inner:.1%}', f'{inner:.1%}']
    assert '6 x void larger than the object' in said
    shutil.copytree(tmp_path / 'void' / 'masks' / 'cat', tmp_path / 'void' / 'masks' / 'dog')
    main([str(tmp_path / 'void')])
    assert '6 x image where two classes have the same mask' in capsys.readouterr().out


def test_flags_for_masks_do_not_go_with_annotations(tmp_path, refused):
    write_disks(tmp_path / 'p')
    with refused('--mask_value, --mask_threshold and --invert are for masks/'):
        main([str(tmp_path / 'p'), '--coco', 'x.json', '--invert'])
