"""H-PASCAL-5i from label maps to the table: built, evaluated by partition, averaged, printed."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import hpascal as hpascal_config
from configs import simpropnet
from simpropnet_jax.analysis import hierarchy_build, hierarchy_table
from simpropnet_jax.analysis.hierarchy import (
    cmps,
    evaluate_hierarchy,
    evaluate_hierarchy_predictions,
    partition_scores,
)
from simpropnet_jax.backbones.extractor import Extractor
from simpropnet_jax.cli.main import main
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets import shapes5i
from simpropnet_jax.datasets.folds import CLASS_NAMES, novel_classes
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.hpascal import Parameters
from simpropnet_jax.episodes.loader import own_labels
from simpropnet_jax.evaluation.engine.evaluator import evaluate
from simpropnet_jax.evaluation.engine.metrics import Counts
from simpropnet_jax.evaluation.external.episode_list import list_episodes
from simpropnet_jax.evaluation.oracle import oracle_quality, write_label
from simpropnet_jax.evaluation.results.episode_counts import EpisodeCounts
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.setup import data
from tests.fakes import SMALL, fake_source, records_of
from tests.small_checkpoint import write_checkpoint

# Improved Similarity Propagation, Table 3: CANet, split-1 to split-4 by partition, and its row CMPS.
TABLE_3 = np.array(
    [
        [61.64, 77.24, 51.40, 50.27],
        [62.38, 71.86, 55.51, 61.83],
        [59.43, 57.56, 49.18, 44.79],
        [61.41, 60.38, 46.97, 50.85],
        [26.27, 39.11, 30.80, 32.22],
        [24.88, 38.54, 31.22, 30.08],
        [17.99, 17.51, 18.44, 14.45],
        [8.46, 19.72, 24.69, 15.84],
    ]
)
CMPS = [40.29, 47.74, 38.52, 37.54]
PARAMETERS = {'rule': 'sigma', 'partition': 20}
FILE = {
    'parameters': PARAMETERS,
    'image_list': 'val',
    'tiny_rule': 'oslsm',
    'oracle': {'folder': 'labels', 'miou': 0.41349, 'images': 9, 'listed': 9, 'weak': True},
    'features': {
        'network': 'resnet50',
        'layer': 'layer3 of ResNet-50',
        'source': 'layer3, a.h5',
        'size': 224,
    },
}


def record(fold, column=None, method='CANet', inputs='episodes', empty=(), **changes):
    column = TABLE_3[:, fold] if column is None else column
    classes = [CLASS_NAMES[c] for c in novel_classes(fold)]
    partitions = {
        f'L{i}': {'classes': classes, 'square': {'miou': miou / 100}}
        for i, miou in enumerate(column)
    }
    partitions |= dict.fromkeys(empty)
    score = cmps(one and one['square']['miou'] for one in partitions.values())
    return {
        'method': method,
        'fold': fold,
        'inputs': inputs,
        'data': 'drawn',
        'void': 'ignore',
        'label_size': 321,
        'protocol': {'name': 'hpascal', 'hash': f'f{fold}'},
        'checkpoint': {'selection': 'last'},
        'shots': {'1': {}},
        'hpascal': FILE,
        'fold_classes': classes,
        'partitions': partitions,
        'cmps': {'square': score},
    } | changes


def built(fold, **changes):
    """Of a file that was built otherwise."""
    return record(fold, hpascal=FILE | changes)


def rows(text):
    """First word of each line -> its cells, which two spaces part, without the first."""
    split = [
        [cell.strip() for cell in line.split('  ') if cell.strip()]
        for line in text.splitlines()
        if line
    ]
    return {line[0].split()[0]: line[1:] for line in split}


def test_cmps_is_the_papers():
    """As near as what it prints: the mean of its column split-1 is 40.31."""
    assert [cmps(column.tolist()) for column in TABLE_3.T] == pytest.approx(CMPS, abs=0.02)
    assert cmps([0.5, None, 0.1, None]) == pytest.approx(0.3)


def test_the_table_of_one_method_is_the_papers():
    found = rows(hierarchy_table.table([record(fold) for fold in (0, 1, 2, 3)]))
    assert found['partition'] == ['split-1', 'split-2', 'split-3', 'split-4', 'mean']
    assert found['L0'] == ['61.64', '77.24', '51.40', '50.27', '60.14']
    assert found['CMPS'][-1] == '41.03'  # 41.02 there


def test_below_it_cmps_by_method_is_the_papers_table_5():
    """Test folds built in separate files, with the oracle's folder written in another way."""
    apart = built(1, oracle=FILE['oracle'] | {'folder': './labels'}, sha256='another')
    better = [record(fold, TABLE_3[:, fold] + 1, method='CANet + CRC') for fold in (0, 1)]
    text = hierarchy_table.table([record(0), apart, record(2), record(3), *better])
    first, second = text.split('\n\n')
    found = rows(second)
    assert found['method'] == ['split-1', 'split-2', 'split-3', 'split-4', 'mean']
    assert [line.split()[0] for line in second.splitlines()[3:]] == ['CANet', 'CANet']
    assert second.splitlines()[3].split()[1:] == ['40.31', '47.74', '38.53', '37.54', '41.03']
    assert second.splitlines()[4].split()[-5:] == ['41.31', '48.74', '-', '-', '-']
    assert 'CMPS by method; ' in second and all(', weak oracle\n' in one for one in (first, second))
    assert (
        'Oracle labels, val mIoU 41.3 %: a weak oracle. Similarity by layer3 of ResNet-50 (the paper'
        in first
    )


def test_two_methods_and_the_zero_mask_stand_side_by_side():
    better = record(0, TABLE_3[:, 0] + 1, method='CANet + CRC')
    text = hierarchy_table.table(
        [record(0), better, record(0, TABLE_3[:, 0] / 2, inputs='zero_mask')]
    )
    assert 'A  CANet\nB  CANet + CRC\nC  CANet (zero_mask)\n' in text
    found = rows(text)
    assert found['partition'] == ['split-1 A', 'split-1 B', 'split-1 C']  # no column is empty
    assert found['L0'] == ['61.64', '62.64', '30.82'] and found['CMPS'] == [
        '40.31',
        '41.31',
        '20.15',
    ]
    text = hierarchy_table.table([record(0), better, record(3)])
    found = rows(text)
    assert found['partition'] == [
        'split-1 A',
        'split-1 B',
        'split-4 A',
        'split-4 B',
        'mean A',
        'mean B',
    ]
    assert found['CMPS'][1] == '41.31' and found['CMPS'][3:] == ['-', '-', '-']


def test_empty_partitions_print_as_empty_and_are_left_out_of_means():
    records = [
        record(fold, np.full(8, 10.0 * fold), empty=('L1', 'L3') if fold == 2 else ())
        for fold in (0, 1, 2, 3)
    ]
    records[3]['partitions']['L2'] = records[3]['partitions']['L2'] | {
        'classes': ['sheep', 'sofa', 'train']
    }
    text = hierarchy_table.table(records)
    found = rows(text)
    assert found['L1'] == ['0.00', '10.00', 'empty', '30.00', '13.33']
    assert found['CMPS'] == ['0.00', '10.00', '20.00', '30.00', '15.00']
    assert 'Empty (fewer than 20 queries), left out of CMPS and means: split-3 L1, L3.' in text
    assert 'Not all classes: split-4 L2 without pottedplant, tvmonitor.' in text


@pytest.mark.parametrize(
    ('other', 'sentence'),
    [
        (record(0), 'two results are of CANet, fold 0'),
        (
            record(0, method='SimPropNet', protocol={'name': 'hpascal', 'hash': 'x'}),
            'fold 0 are of different episodes',
        ),
        (record(1, void='background'), 'results with different void rule'),
        (built(1, parameters={'rule': 'halves'}), 'results with different parameters'),
        (
            built(1, oracle=FILE['oracle'] | {'miou': 0.4135}),
            r"different oracle's val mIoU \(0.41349, 0.4135\)",
        ),
        (
            built(1, features=FILE['features'] | {'size': 225}),
            'different features .*layer3, a.h5, 225 pixels',
        ),
        (built(1, tiny_rule='px2048'), 'results with different tiny-object rule'),
        (
            built(1, oracle='labels'),
            'CANet, fold 1, does not say how good the oracle is, .*: build the H-PASCAL-5i',
        ),
        (
            {name: value for name, value in record(1).items() if name != 'partitions'},
            'fold 1, has no partitions',
        ),
    ],
)
def test_results_that_do_not_belong_together_are_refused(other, sentence):
    with pytest.raises(ValueError, match=sentence):
        hierarchy_table.table([record(0), other])


def test_scores_of_partitions_sum_over_their_own_episodes_alone():
    numbers = np.arange(5)
    counts = Counts(np.array([1, 2, 3, 4, 5]), np.array([2, 4, 4, 8, 10]), *np.ones((2, 5), int))
    episodes = EpisodeCounts(
        numbers * 0, numbers // 2, numbers[:, None], np.array([1, 1, 2, 1, 1]), {'square': counts}
    )
    found = partition_scores(episodes, {'L0': 3, 'L1': 0, 'L2': 2}, CLASS_NAMES)
    assert found['L0'] == {
        'episodes': 3,
        'queries': 2,
        'classes': ['aeroplane', 'bicycle'],
        'square': {
            'miou': pytest.approx((3 / 6 + 3 / 4) / 2),
            'per_class': {'aeroplane': 0.5, 'bicycle': 0.75},
        },
    }
    assert found['L1'] is None
    assert found['L2']['square']['miou'] == 0.5 and found['L2']['classes'] == ['aeroplane']


@pytest.fixture(scope='module')
def source():
    """Twelve images of every class of folds 0 and 1 on the val list."""
    drawn = fake_source(n=120, classes=10)
    return Source('drawn', drawn.index, records_of(drawn))


@pytest.fixture(scope='module')
def oracle(source, tmp_path_factory):
    """Label maps that are right in every other image, and elsewhere miss all but the first twenty rows."""
    folder = tmp_path_factory.mktemp('oracle')
    for number, image_id in enumerate(source.ids):
        label = own_labels(source, [number])[0].copy()
        label[label == 255] = 0
        if number // 10 % 2:
            label[20:] = 0
        Image.fromarray(label).save(folder / f'{image_id}.png')
    return folder


@pytest.fixture
def config(oracle, source, monkeypatch):
    """Of a build in which images are as similar as their mean colours."""
    colours = Extractor('resnet50', 'mean colours', lambda images: jnp.asarray(images, jnp.float32))
    monkeypatch.setattr(hierarchy_build, 'load_extractor', lambda network, weights: colours)
    monkeypatch.setattr(hierarchy_build, 'open_source', lambda *given: source)
    config = hpascal_config.get_config()
    config.update_from_flattened_dict(
        {
            'folds': (1,),
            'oracle': str(oracle),
            'data.loader': 'threads',
            'features.size': 33,
            'partitions.rule': 'halves',
            'partitions.supports': 2,
            'partitions.episodes': 3,
            'partitions.cell': 1,
            'partitions.partition': 6,
        }
    )
    return config


def test_build_finds_the_hard_the_small_and_the_similar(config, source, tmp_path):
    built = hierarchy_build.build(config, tmp_path / 'h.json')
    assert built == hpascal_file.read(tmp_path / 'h.json')
    assert built['features'] == {
        'network': 'resnet50',
        'layer': 'layer3 of ResNet-50, stride 8',
        'source': 'mean colours',
        'size': 33,
    }
    assert built['data'] == 'drawn' and built['oracle'] == oracle_quality(
        Path(config.oracle), source
    )
    assert (
        built['oracle']['images'] == 60 and not built['oracle']['weak']
    )  # on the val list, half of it right
    facts = built['folds']['1']['classes']
    assert set(facts) == {'bus', 'car', 'cat', 'chair', 'cow'} and facts['cat']['pairs'] == 12
    assert (
        facts['cat']['difficulty']['easy_from'] > 0.99
        and facts['cat']['difficulty']['hard_to'] < 0.5
    )
    found = hpascal_file.episodes(built, 1, source.ids)
    for name, episodes in found.items():
        assert episodes, name
        hard = {number // 10 % 2 for number in (e.query for e in episodes)}
        assert hard == {0 if name < 'L4' else 1}
    picture = np.asarray(Image.open(tmp_path / 'h_fold1.jpg'))
    assert picture.shape[:2] == (
        8 * (257 + 18) + 7 * 4,
        5 * (2 * 257 + 8 + 8) + 4 * 4,
    )  # rows with captions; pairs
    queries = hierarchy_build.table(built).splitlines()
    assert queries[-1].startswith(
        f'Oracle {config.oracle}, val mIoU {100 * built["oracle"]["miou"]:.1f} %. Simi'
    )
    assert queries[0].split() == ['queries', 'split-2'] and queries[2].startswith(
        'L0 easy, large, similar'
    )


def test_the_config_that_we_ship_has_every_parameter_at_its_default():
    assert Parameters(**hpascal_config.get_config().partitions.to_dict()) == Parameters()


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        ({'folds': (1, 4)}, r'config.folds must be one or more of: .*, got \(1, 4\)'),
        (
            {'features.size': 8},
            'config.features.size must be a whole number, from 32 to 4097, got 8',
        ),
        (
            {'partitions.rule': 'thirds'},
            "rule must be one of sigma, quantile, halves, got 'thirds'",
        ),
        ({'oracle': '/nowhere'}, r'/nowhere has no fake_\d+.png'),
    ],
)
def test_mistakes_in_a_build_are_named_before_anything_is_written(
    config, tmp_path, change, sentence
):
    config.update_from_flattened_dict(change)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        hierarchy_build.build(config, tmp_path / 'h.json')
    assert not list(tmp_path.iterdir())


def test_a_work_directory_is_evaluated_by_partition(
    config, source, tmp_path, monkeypatch, mesh_of, capsys
):
    path, workdir = tmp_path / 'h.json', tmp_path / 'run'
    built = hierarchy_build.build(config, path)
    method, weights = write_checkpoint(workdir)
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    given = evaluate_hierarchy(None, workdir, path)
    assert [p.name for p in (workdir / 'eval').glob('*.json')] == ['hpascal_fold1_33px_best.json']
    table = capsys.readouterr().out
    assert all(
        f'{100 * given["partitions"][name]["square"]["miou"]:.2f}' in table for name in ('L0', 'L7')
    )

    # one partition alone, by the ordinary evaluation
    episodes = hpascal_file.episodes(built, 1, source.ids)['L5']
    alone = evaluate(
        method.module,
        weights[1],
        source,
        {(1, 0): episodes},
        classes=sorted({e.class_id for e in episodes}),
        convention='torchvision',
        size=33,
        label_size=33,
        mesh=mesh_of(8),
        batch=8,
        backend='threads',
    )['shots']['1']
    for size in ('square', 'own'):
        assert given['partitions']['L5'][size]['miou'] == pytest.approx(
            alone[size]['miou'], abs=1e-6
        )
        mean = np.mean([one[size]['miou'] for one in given['partitions'].values()])
        assert given['cmps'][size] == pytest.approx(mean)

    without = evaluate_hierarchy(
        config_rules.load(workdir / 'config.json'), workdir, path, inputs='zero_mask'
    )
    assert without['cmps'] != given['cmps'] and without['protocol'] == given['protocol']
    main(['hpascal', 'table', *map(str, sorted((workdir / 'eval').glob('*.json')))])
    assert 'SimPropNet (zero_mask)' in capsys.readouterr().out
    with pytest.raises(ValueError, match='has queries with 2 supports, not 3'):
        evaluate_hierarchy(None, workdir, path, shot=3)


@pytest.fixture
def asked(config, source, tmp_path, monkeypatch):
    """Return a file with an empty L6 and no cat, and the config of its fold."""
    built = hierarchy_build.build(config, tmp_path / 'h.json')
    for name, one in built['folds']['1']['partitions'].items():
        kept = [
            line for line in one['episodes'] if line.split()[0] != str(CLASS_NAMES.index('cat'))
        ]
        one['episodes'] = kept if name != 'L6' else []
    facts = {
        name: built[name] for name in ('data', 'image_list', 'tiny_rule', 'oracle', 'features')
    }
    parameters = Parameters(**built['parameters'])
    hpascal_file.write(tmp_path / 'h.json', parameters, {1: built['folds']['1']}, **facts)
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    few_shot = simpropnet.get_config('fold=1')
    few_shot.update_from_flattened_dict(SMALL)
    return few_shot, tmp_path / 'h.json'


def test_anybodys_masks_are_listed_by_episode_and_scored_by_partition(
    asked, source, tmp_path, capsys
):
    """Of a program that is right on easy queries and sees nothing in hard ones."""
    config, path = asked
    list_episodes(config, str(tmp_path / 'list.json'), str(path), shot=2)
    listed = json.loads((tmp_path / 'list.json').read_text())
    partitions = hpascal_file.episodes(hpascal_file.read(path), 1, source.ids)
    easy = sum(len(found) for name, found in partitions.items() if name < 'L4')
    assert [one['name'] for one in listed['episodes']][
        -1
    ] == f'hpascal_f1_s0_k2_{len(listed["episodes"]) - 1:04d}'
    (tmp_path / 'theirs').mkdir()
    for i, one in enumerate(listed['episodes']):
        label = own_labels(source, [source.ids.index(one['query'])])[0]
        assert len(one['supports']) == 2 and (label == one['class_id']).any()
        right = (label == one['class_id']) & (i < easy)
        Image.fromarray(right.astype(np.uint8)).save(tmp_path / 'theirs' / f'{one["name"]}.png')
    given = evaluate_hierarchy_predictions(
        config, tmp_path / 'W', tmp_path / 'theirs', path, shot=2
    )
    scores = {name: one and one['square']['miou'] for name, one in given['partitions'].items()}
    assert scores == dict.fromkeys(('L0', 'L1', 'L2', 'L3'), 1) | {
        'L4': 0,
        'L5': 0,
        'L6': None,
        'L7': 0,
    }
    assert given['cmps'] == {'square': 4 / 7} and given['protocol']['hash'] == listed['hash']
    written = tmp_path / 'W' / 'eval' / 'hpascal_fold1_predictions_theirs.json'
    assert read_result(written) == given
    printed = capsys.readouterr().out
    assert 'theirs (predictions)' in printed and 'split-2 L0 without cat' in printed
    with pytest.raises(
        ValueError, match='missing .hpascal_f1_s0_k1_0000.png, .* not expected .hpascal_f1_s0_k2_'
    ):
        evaluate_hierarchy_predictions(config, tmp_path / 'W', tmp_path / 'theirs', path)
    with pytest.raises(ValueError, match='--shot is for --hpascal'):
        list_episodes(config, str(tmp_path / 'list.json'), shot=2)


def test_the_label_maps_of_a_supervised_network_are_scored_by_partition(asked, oracle, tmp_path):
    """The oracle itself: right on what it finds easy."""
    config, path = asked
    given = evaluate_hierarchy_predictions(config, tmp_path / 'W', oracle, path)
    scores = {name: one and one['square']['miou'] for name, one in given['partitions'].items()}
    assert all(scores[name] == 1 for name in ('L0', 'L1', 'L2', 'L3'))
    assert all(0 < scores[name] < 0.5 for name in ('L4', 'L5', 'L7'))
    assert given['method'] == oracle.name and given['classes'] == ['bus', 'car', 'chair', 'cow']


@pytest.fixture
def shapes(tmp_path):
    """Drawn data, an oracle that is right in every third image, and random weights; as fields of configs."""
    pytest.importorskip('torch')
    from safetensors.numpy import save_file

    from tests.backbones.torch_resnet import TorchResNet

    shapes5i.load(tmp_path / 'data', {'trainaug': 2, 'val': 100})
    source = open_source('shapes5i', tmp_path / 'data')
    (tmp_path / 'labels').mkdir()
    for number in np.flatnonzero(source.index.lists['val']).tolist():
        label = own_labels(source, [number])[0]
        known = np.where(label == 255, np.uint8(0), label)
        write_label(
            tmp_path / 'labels' / f'{source.ids[number]}.png',
            known if number % 3 == 0 else known * 0,
        )
    weights = TorchResNet().state_dict()
    save_file(
        {name: value.numpy() for name, value in weights.items()}, tmp_path / 'random.safetensors'
    )
    return {'data.name': 'shapes5i', 'data.dir': tmp_path / 'data', 'data.loader': 'threads'}


@pytest.mark.slow
def test_the_commands_as_a_user_types_them(shapes, tmp_path, capsys, run_here, one_device):
    """From an oracle and images to the table."""

    def run_module(name, fields, *words):
        changes = (f'--config.{field}={value}' for field, value in fields.items())
        done = run_here('-m', 'simpropnet_jax', 'hpascal', name, *words, *changes)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    made = {
        'folds': '(1,)',
        'oracle': tmp_path / 'labels',
        'features.network': 'resnet50',
        'features.size': 33,
        'features.weights': tmp_path / 'random.safetensors',
        'partitions.rule': 'halves',
        'partitions.cell': 1,
        'partitions.partition': 5,
        'partitions.episodes': 2,
        'partitions.supports': 1,
    }
    printed = run_module('build', shapes | made, '--out', tmp_path / 'h.json')
    built = json.loads((tmp_path / 'h.json').read_text())
    oracle = f'{100 * built["oracle"]["miou"]:.1f} %: a weak oracle. Similarity by layer3 of ResNet-50, stride 8 (the '
    assert built['oracle']['images'] == 100 and oracle in printed
    given = [
        '--config',
        'prototype:fold=1',
        '--workdir',
        tmp_path / 'run',
        '--hpascal',
        tmp_path / 'h.json',
    ]
    small = {'model.weights': '', 'model.width': 4, 'eval.size': 33, 'eval.label_size': 33}
    printed = run_module('eval', shapes | small, *given)
    (result,) = (tmp_path / 'run' / 'eval').glob('hpascal_*.json')
    main(['hpascal', 'table', str(result)])
    assert capsys.readouterr().out == printed
    score = f'{100 * json.loads(result.read_text())["cmps"]["square"]:.2f}'
    assert rows(printed)['prototype'] == rows(printed)['CMPS'] == [score] and oracle in printed
