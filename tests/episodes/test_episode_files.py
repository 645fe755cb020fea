"""Episodes that go through a file stay the very same; a file that does not fit is refused in one sentence."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.config import common
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes import episode_files
from simpropnet_jax.episodes.episode_files import episode_name, read_episodes, write_episodes
from simpropnet_jax.episodes.protocols import PRESETS, episodes, protocol_hash
from simpropnet_jax.evaluation.external.episode_list import list_episodes
from simpropnet_jax.evaluation.external.published import protocols_of, write_published
from simpropnet_jax.setup import data
from simpropnet_jax.setup.data import evaluation_episodes, selection_episodes, training_sampler
from tests.fakes import decoded, fake_source, records_of

PROTOCOL = dataclasses.replace(PRESETS['pfenet'], episodes=60, seeds=(3, 4))


@pytest.fixture(scope='module')
def index():
    return dataclasses.replace(fake_source(240).index, name='fake')


@pytest.fixture
def written(index, tmp_path):
    sets = {(k, s): episodes(PROTOCOL, index, 2, k, s) for k in (1, 3) for s in PROTOCOL.seeds}
    path = tmp_path / 'new' / 'fold2.json'
    return path, sets, write_episodes(path, PROTOCOL, 2, sets, index)


def named(sets, ids):
    def name(e):
        return (e.class_id, ids[e.query], [ids[s] for s in e.supports])

    return {key: [name(e) for e in drawn] for key, drawn in sets.items()}


def test_they_come_back_with_their_protocol_over_another_numbering_of_the_images(written, index):
    path, sets, digest = written
    more = dataclasses.replace(index, ids=('another', *index.ids))
    protocol, back = read_episodes(path, more, 2)
    assert protocol == PROTOCOL and list(back) == list(sets)
    assert named(back, more.ids) == named(sets, index.ids)

    def every(some):
        return (e for drawn in some.values() for e in drawn)

    assert digest == protocol_hash(every(sets), index.ids) == protocol_hash(every(back), more.ids)
    assert list(read_episodes(path, index, 2, shots=(3,))[1]) == [(3, 3), (3, 4)]
    assert [p.name for p in path.parent.iterdir()] == ['fold2.json']


def test_others_can_read_what_to_segment(written, index):
    path, sets, digest = written
    content = json.loads(path.read_text())
    assert (
        content['hash'] == digest
        and content['protocol']['resolution'] == 'own'
        and content['fold'] == 2
    )
    rows = {one['name']: one for one in content['episodes']}
    assert len(rows) == 240
    row, episode = rows['pfenet_f2_s4_k3_0059'], sets[3, 4][59]
    assert (row['query'], row['class']) == (
        index.ids[episode.query],
        index.class_names[episode.class_id],
    )
    assert row['supports'] == [index.ids[s] for s in episode.supports]
    assert episode_name('hsnet', 3, 1, 0, 12345) == 'hsnet_f3_s0_k1_12345'


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def rehashed(content):
    content['hash'] = episode_files._hash(content['episodes'])
    content['file_hash'] = episode_files._file_hash(content)


MISTAKES = {
    'says that its hash is .* it was changed after': lambda c: c['episodes'].pop(),
    'has episodes of fold 1, not of fold 2': lambda c: c.update(fold=1),
    'has an episode of class 3, which fold 2 does not hold out': lambda c: c['episodes'][7].update(
        class_id=3
    ),
    'names the image nowhere, which fake lacks': lambda c: c['episodes'][7].update(query='nowhere'),
    'has a 1-shot episode with 2 supports': lambda c: c['episodes'][0]['supports'].append(
        'fake_000130'
    ),
    'has no 5-shot episodes, only 1, 3-shot': lambda c: None,
    'does not say its protocol in full': lambda c: c['protocol'].pop('void'),
    "must have a side in pixels or 'own' as resolution": lambda c: c['protocol'].update(
        resolution='square'
    ),
    'is damaged or another kind of file: object missing .*`fold`': lambda c: c.pop('fold'),
    'is damaged or another kind of file: episodes.*query': lambda c: c['episodes'][0].pop('query'),
}


@pytest.mark.parametrize('sentence', MISTAKES)
def test_a_file_that_does_not_fit_is_refused(sentence, written, index):
    path, change = written[0], MISTAKES[sentence]
    edited(path, change)
    if 'hash' not in sentence and 'query' not in sentence:
        edited(path, rehashed)
    with pytest.raises(ValueError, match=f'{path} {sentence}'):
        read_episodes(path, index, 2, shots=(1, 5) if '5-shot' in sentence else None)


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c['protocol'].update(resolution=400),
        lambda c: c['protocol'].update(void='background'),
        lambda c: c['episodes'][5].update(seed=9),
        lambda c: c.update(data='another'),
    ],
)
def test_what_was_changed_besides_the_episodes_is_seen(change, written, index):
    path, _, digest = written
    edited(path, change)
    assert (
        episode_files._hash(json.loads(path.read_text())['episodes']) == digest
    )  # which results would have
    with pytest.raises(
        ValueError,
        match=f'{path} says that its file_hash is .* it was changed after it was written',
    ):
        read_episodes(path, index, 2)


def test_a_file_hash_can_be_made_elsewhere(written):
    """By the recipe that the module's docstring states."""
    content = json.loads(written[0].read_text())
    stated = content.pop('file_hash')
    text = json.dumps(content, sort_keys=True, separators=(',', ':'), ensure_ascii=True)
    assert hashlib.sha256(text.encode('ascii')).hexdigest() == stated


def test_a_file_that_is_none(tmp_path, index):
    with pytest.raises(FileNotFoundError, match='there is no file of episodes .*nowhere.json'):
        read_episodes(tmp_path / 'nowhere.json', index, 2)
    (tmp_path / 'half.json').write_text('{"format": 1, "episo')
    with pytest.raises(ValueError, match='half.json is damaged: it is not JSON .* Write it again'):
        read_episodes(tmp_path / 'half.json', index, 2)


@pytest.fixture
def config(monkeypatch):
    """SimPropNet's, fold 2, on drawn images."""
    from configs import simpropnet

    fake = fake_source(n=240, name='fake')
    source = Source('fake', fake.index, records_of(fake))
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    return simpropnet.get_config('fold=2'), source


def test_the_command_writes_what_an_evaluation_then_takes(config, tmp_path, capsys):
    config, source = config
    config.eval.update(protocol='bam', shots=(1,), episodes=40, seeds=(7, 8))
    drawn = evaluation_episodes(config, source)
    path = tmp_path / 'bam.json'
    list_episodes(config, str(path))
    assert '80 episodes of bam, fold 2, hash ' in capsys.readouterr().out
    config.eval.update(protocol='simpropnet', episodes_file=str(path), episodes=0, seeds=())
    protocol, taken = evaluation_episodes(config, source)
    assert protocol == drawn[0] and named(taken, source.ids) == named(drawn[1], source.ids)


def test_a_folder_has_all_that_a_program_needs_but_the_truth(config, tmp_path):
    config, source = config
    config.eval.update(protocol='panet_2way', shots=(2,), episodes=6, seeds=(7,))
    out = tmp_path / 'plain'
    for _ in range(2):  # an interrupted command may be repeated
        list_episodes(config, str(out))
    protocol, sets = read_episodes(out / 'episodes.json', source.index, 2)
    assert protocol.ways == 2 and len(sets[2, 7]) == 12
    rows = json.loads((out / 'episodes.json').read_text())['episodes']
    assert rows[0]['query_image'] == rows[1]['query_image'] == f'images/{rows[0]["query"]}.jpg'
    used = set()
    for row, episode in zip(rows, sets[2, 7], strict=True):
        image, label = source.example(episode.query)
        assert (out / row['query_image']).read_bytes() == image
        used |= {row['query_image'], *row['support_images'], *row['support_masks']}
        for name, support in zip(row['support_masks'], episode.supports, strict=True):
            mask, label = np.asarray(Image.open(out / name)), decoded(source.example(support)[1])
            assert ((mask == 255) == (label == episode.class_id)).all() and set(mask.flat) == {
                0,
                255,
            }
    files = {path.relative_to(out).as_posix() for path in out.rglob('*.*')}
    assert files == used | {'episodes.json'}
    (out / 'mine.txt').touch()
    with pytest.raises(ValueError, match='plain exists and holds other files: give a new folder'):
        list_episodes(config, str(out))


def test_all_published_files_and_their_hashes(config, tmp_path):
    config, source = config
    config.eval.update(episodes=9, label_size=33)  # of a recipe
    table = write_published(config, tmp_path, shots=(1, 11), episodes=6)
    record = json.loads((tmp_path / 'hashes.json').read_text())
    assert record['seeds'] == [0, 1, 2, 3, 4] and 'panet_2way_fold3' in record['hashes']
    assert len(record['hashes']) == 4 * len(protocols_of('pascal5i/sbd')) and not record['left_out']
    for key, digest in record['hashes'].items():
        _, sets = read_episodes(tmp_path / f'{key}.json', source.index, int(key[-1]))
        assert list(sets) == [(k, s) for k in (1, 11) for s in range(5)] and digest in table
        assert len(sets[1, 0]) in (6, 12)
    # The list val has 12 images of a class.
    table = write_published(config, tmp_path, shots=(12,), episodes=6)
    assert 'left out: hsnet_fold0: class 1 (aeroplane) has 12' in table


def test_fields_of_the_config_change_a_protocol_where_they_are_not_empty(config):
    config, source = config
    assert config.eval.label_size == 0
    protocol, drawn = evaluation_episodes(config, source)
    assert protocol == dataclasses.replace(PRESETS['simpropnet'], void='ignore')
    assert list(drawn) == [(k, s) for k in (1, 5) for s in (0, 1, 2)] and len(drawn[5, 2]) == 1000
    config.data.void = (
        'background'  # of the training, which 'simpropnet' follows, and hsnet does not
    )
    assert evaluation_episodes(config, source)[0].void == 'background'
    config.eval.update(protocol='hsnet', shots=(1,), episodes=30, seeds=(9,), label_size=99)
    protocol, drawn = evaluation_episodes(config, source)
    assert protocol == dataclasses.replace(PRESETS['hsnet'], episodes=30, seeds=(9,), resolution=99)
    assert drawn == {(1, 9): episodes(protocol, source.index, 2, 1, 9)} and len(drawn[1, 9]) == 30


def test_selection_does_not_depend_on_what_an_evaluation_says(config):
    config, source = config
    before = selection_episodes(config, source)
    config.eval.update(protocol='panet', episodes=3, seeds=(5,))
    assert selection_episodes(config, source) == before


def test_a_model_for_use_is_trained_and_selected_on_every_class(config):
    config, source = config
    config.select.on = 'base_val'
    assert selection_episodes(config, source)[0] == source.index.base_classes(config.fold)
    common.all_classes(config)
    trained = training_sampler(config, source).pairs.class_id
    classes, drawn = selection_episodes(config, source)
    assert set(trained) == set(classes) == {episode.class_id for episode in drawn}
    assert classes == tuple(range(1, 21))
