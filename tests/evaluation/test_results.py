"""Result files and the tables made of them."""

import json

import pytest

from configs import simpropnet
from simpropnet_jax.evaluation.results.naming import method_name, method_words, result_name
from simpropnet_jax.evaluation.results.result_file import read_result, write_result
from simpropnet_jax.evaluation.results.tables import class_table, fold_table, main
from simpropnet_jax.runtime import records


def scores(*mious):
    def one(m):
        return {'miou': m, 'fb_iou': m + 0.2, 'per_class': {'bus': m, 'car': m}}

    seeds = {str(seed): one(m) for seed, m in enumerate(mious)}
    mean = sum(mious) / len(mious)
    return {
        'miou': mean,
        'miou_std': 0.01,
        'fb_iou': mean + 0.2,
        'fb_iou_std': 0.01,
        'per_class': {'bus': mean + 0.1, 'car': mean - 0.1},
        'seeds': seeds,
    }


def write(path, fold=1, mious=(0.3, 0.4, 0.5), method='SimPropNet', **changes):
    shots = {'1': {'episodes': {'0': 9}, 'distinct_episodes': 9, 'square': scores(*mious)}}
    result = {
        'shots': shots,
        'classes': ['bus', 'car'],
        'void': 'ignore',
        'size': 321,
        'label_size': 321,
        'images': 7,
    }
    facts = {'protocol': 'simpropnet', 'protocol_hash': 'ab12', 'data': 'pascal5i/subset'}
    facts |= {'selection': 'last', 'checkpoint_step': 700}
    return write_result(path, result, method=method, fold=fold, **(facts | changes))


def test_a_result_states_what_the_number_means_and_reads_back(tmp_path):
    path = tmp_path / 'eval' / 'fold1.json'
    record = write(path)
    assert read_result(path) == record == records.verify(json.loads(path.read_text()), path, '')
    assert record['protocol'] == {'name': 'simpropnet', 'hash': 'ab12'}
    assert record['checkpoint'] == {'path': None, 'step': 700, 'selection': 'last'}
    assert set(record['versions']) == {'python', 'jax', 'jaxlib', 'flax', 'numpy'}
    assert record['device']['count'] >= 1
    assert [p.name for p in path.parent.iterdir()] == ['fold1.json']


def test_bad_results_and_files_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / 'fold1.json'
    with pytest.raises(ValueError, match='its result is not finite'):
        write(path, mious=(float('nan'),))
    with pytest.raises(ValueError, match="selection must be one of .*, got 'best'"):
        write(path, selection='best')
    assert not path.exists()
    path.write_text('{"format": 1')
    with pytest.raises(ValueError, match='fold1.json is damaged: it is not JSON .* Evaluate again'):
        read_result(path)
    path.write_text('{"format": 1}')
    with pytest.raises(
        ValueError, match='another kind of file: object missing required field `method`. Evaluate'
    ):
        read_result(path)


def test_class_table(tmp_path):
    record = write(tmp_path / 'r.json')
    table = class_table(record).splitlines()
    assert table[0].startswith('SimPropNet, fold 1 (split-2); ')
    assert 'pascal5i/subset' in table[0] and 'selection last' in table[0]
    assert table[1].split() == ['shot', 'labels', 'bus', 'car', 'mIoU', 'FB-IoU']
    assert table[3].split() == '1 321px 50.00 30.00 40.00 ± 1.00 60.00 ± 1.00'.split()
    assert class_table(record | {'inputs': 'zero_mask'}).startswith(
        'SimPropNet (zero_mask), fold 1 '
    )


@pytest.mark.parametrize(
    ('rounds', 'word', 'words'),
    [
        (0, '', 'SimPropNet'),
        (1, '_self_support1', 'SimPropNet (self-support)'),
        (2, '_self_support2', 'SimPropNet (self-support 2)'),
    ],
)
def test_a_result_with_self_support_says_so(rounds, word, words):
    config = simpropnet.get_config('fold=1')
    config.eval.self_support = rounds
    assert result_name(config, 'best') == f'simpropnet_fold1_321px_best{word}.json'
    assert method_words({'method': 'SimPropNet', 'eval': config.eval.to_dict()}) == words


def test_four_folds_have_the_deviation_of_their_mean(tmp_path):
    mious = [(0.3, 0.4, 0.5), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), (0.6, 0.6, 0.6)]
    records = [write(tmp_path / f'{f}.json', fold=f, mious=m) for f, m in enumerate(mious)]
    row = fold_table(records).splitlines()[-1].split()
    # the first two folds move against each other, so the mean of four does not move at all
    assert row[:4] == ['SimPropNet', '321', '321px', '1']
    assert (
        row[4:]
        == '40.00 ± 1.00 40.00 ± 1.00 20.00 ± 1.00 60.00 ± 1.00 40.00 ± 0.00 60.00 ± 0.00'.split()
    )


def test_a_missing_fold_leaves_the_mean_open(tmp_path):
    ours, theirs = (
        write(tmp_path / 'a.json', fold=0),
        write(tmp_path / 'b.json', fold=3, method='prototype'),
    )
    table = fold_table([ours, theirs])
    first, second = (line.split() for line in table.splitlines()[-2:])
    assert first == 'SimPropNet 321 321px 1 40.00 ± 1.00 - - - - -'.split()
    assert second == 'prototype 321 321px 1 - - - 40.00 ± 1.00 - -'.split()


def test_numbers_that_cannot_be_compared_are_not_put_in_one_table(tmp_path):
    one = write(tmp_path / 'a.json')
    with pytest.raises(ValueError, match=r'different protocol \(other, simpropnet\)'):
        fold_table([one, write(tmp_path / 'b.json', fold=2, protocol='other')])
    with pytest.raises(
        ValueError, match='two results are of SimPropNet, fold 1, 1-shot, input 321'
    ):
        fold_table([one, one])


def test_the_command_prints_every_result_and_the_folds(tmp_path, capsys):
    paths = [str(tmp_path / f'{fold}.json') for fold in (0, 1)]
    for fold, path in enumerate(paths):
        write(path, fold=fold)
    main(paths)
    printed = capsys.readouterr().out
    assert (
        'fold 0 (split-1)' in printed
        and 'fold 1 (split-2)' in printed
        and 'mean of four folds' in printed
    )


def test_each_kind_of_results_has_a_table_with_its_heading(tmp_path, capsys):
    paths = [tmp_path / f'{name}.json' for name in 'abcd']
    write(paths[0], fold=0)
    write(paths[1], fold=1, data='pascal5i/sbd')
    write(paths[2], fold=1)
    write(paths[3], fold=1, protocol='pfenet')
    main([str(path) for path in paths])
    tables = capsys.readouterr().out.split('mIoU, mean of four folds; ')[1:]
    headings = [table.splitlines()[0].rpartition(',')[0] for table in tables]
    assert headings == [
        'protocol simpropnet, data pascal5i/subset, void rule ignore',
        'protocol simpropnet, data pascal5i/sbd, void rule ignore',
        'protocol pfenet, data pascal5i/subset, void rule ignore',
    ]
    assert tables[0].rstrip().splitlines()[-1].split()[4:9] == '40.00 ± 1.00 40.00 ±'.split()


def test_two_runs_of_one_method_have_their_folders_in_their_names(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = []
    for run, miou in {'first0': 0.1, 'first1': 0.2, 'again0': 0.3}.items():
        paths.append(f'runs/{run}/eval/r.json')
        write(tmp_path / paths[-1], fold=int(run[-1]), mious=(miou,))
    main([*paths, paths[0]])  # the same file twice counts once
    first, again = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith('SimPropNet (runs/first*)') and again.startswith(
        'SimPropNet (runs/again*)'
    )
    assert '10.00' in first and '20.00' in first and '30.00' in again


@pytest.mark.parametrize(
    ('words', 'changes', 'name'),
    [
        ('', {}, 'SimPropNet'),
        ('', {'train.ica': 0.0}, 'DPr + FBAF'),
        ('dpr', {}, 'DPr'),
        ('baseline,tpc', {'train.start': 'runs/x'}, 'baseline + TPC + fine-tuned'),
    ],
)
def test_a_run_has_one_name(words, changes, name):
    config = simpropnet.get_config(words)
    config.update_from_flattened_dict(changes)
    assert method_name(config) == name
    assert method_name(config, trained=False) == name.removesuffix(' + fine-tuned')
