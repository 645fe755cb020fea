"""The page of a folder of results: files in, numbers, pictures and the names of bad files out."""

import html
import json
import re

from PIL import Image

from simpropnet_jax.analysis import background, overlap, similarity
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.config import recipes
from simpropnet_jax.datasets.folds import CLASS_NAMES, novel_classes
from simpropnet_jax.evaluation.results import tables
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.report.document import Printed, Section, Table, markdown, to_html

EPISODES = {'0': 10, '1': 10}


def result(fold, miou, method='baseline', inputs='episodes', **changes):
    """A result file with the same IoU of every class."""
    classes = [CLASS_NAMES[c] for c in novel_classes(fold)]
    one = {'miou': miou, 'fb_iou': miou + 0.1, 'per_class': dict.fromkeys(classes, miou)}
    seeds = {'0': one} if inputs == 'identical' else {'0': one, '1': one}
    scores = {**one, 'miou_std': 0.01, 'fb_iou_std': 0.02, 'seeds': seeds}
    return {
        'format': 1,
        'method': method,
        'fold': fold,
        'data': 'pascal5i/subset',
        'inputs': inputs,
        'void': 'ignore',
        'protocol': {'name': 'simpropnet', 'hash': f'ab{fold}'},
        'classes': classes,
        'size': 321,
        'label_size': 321,
        'resolution': 321,
        'checkpoint': {'path': 'x', 'step': 700, 'selection': 'novel_val'},
        'shots': {
            '1': {
                'episodes': {'0': 90 + fold} if inputs == 'identical' else EPISODES,
                'square': scores,
            }
        },
        'versions': {'jax': '0.10.2'},
        'device': {'kind': 'TPU v4', 'count': 8},
    } | changes


def partitions(fold, miou, **changes):
    record = result(fold, miou, protocol={'name': 'hpascal', 'hash': f'h{fold}'}, **changes)
    scores = {
        f'L{i}': {'classes': record['classes'], 'square': {'miou': miou - 0.01 * i}}
        for i in range(8)
    }
    basis = {
        'image_list': 'val',
        'tiny_rule': 'oslsm',
        'features': {
            'network': 'resnet50',
            'layer': 'layer3 of ResNet-50',
            'source': 'layer3, a.h5',
            'size': 224,
        },
        'oracle': {'folder': 'labels', 'miou': 0.41, 'images': 7, 'listed': 9, 'weak': True},
    }
    return record | {
        'partitions': scores | {'L3': None},
        'cmps': {'square': miou - 0.035},
        'fold_classes': record['classes'],
        'hpascal': {'parameters': {'rule': 'sigma', 'partition': 20}, 'sha256': 'c0ffee'} | basis,
    }


FACTS = {
    'features': 'VGG-16, 321 x 321 pixels',
    'versions': {'jax': '0.10.2'},
    'device': {'kind': 'cpu', 'count': 1},
}


def of_folds(method, *folds):
    """What a premise experiment says of the runs that it looked at."""
    known = ('method', 'fold', 'data', 'void', 'protocol', 'checkpoint')
    return FACTS | {
        'method': method,
        'folds': [{k: result(f, 0.5, method)[k] for k in known} for f in folds],
    }


def overlaps(method='CANet', weak=True):
    scores = dict.fromkeys(overlap.QUANTITIES, 0.1234) | {
        'undefined': dict.fromkeys(overlap.QUANTITIES, 0)
    }
    oracle = {
        'folder': 'labels',
        'miou': 0.4567 if weak else 0.7,
        'images': 7,
        'listed': 9,
        'weak': weak,
    }
    return of_folds(method, 1, 2) | {
        'by_class': scores | {'fp_overlap': None},
        'by_image': scores,
        'pairs': 396,
        'oracle': oracle,
    }


def similarities(method='CANet'):
    return of_folds(method, 1) | {
        'ratio': {'mean': 0.765, 'std': None, 'pairs': 1},
        'cosine': {'error': 0.5, 'truth': 0.6},
        'drawn': 990,
        'skipped': 989,
        'undefined': 0,
        'min_pixels': 100,
    }


def backgrounds():
    one = {'object': 0.25, 'background': 0.5, 'pairs': 41}
    return FACTS | {
        'data': 'pascal5i/subset',
        'image_list': 'val',
        'per_class': {'cat': one, 'dog': one},
        'mean': one,
        'more_alike': 2,
        'drawn': 82,
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def page(tmp_path, capsys):
    """Runs the command: Markdown, HTML, and what it printed."""
    simpropnet(['report', str(tmp_path / 'runs'), '--out', str(tmp_path / 'report')])
    return *(
        (tmp_path / 'report' / f'report.{kind}').read_text() for kind in ('md', 'html')
    ), capsys.readouterr()


def row(text, first):
    """The cells of the first row of Markdown that starts so, without that."""
    line = next(line for line in text.splitlines() if line.startswith(f'| {first} |'))
    return [cell.strip() for cell in line.strip('|').split('|')][1:]


def section(text, title):
    return text.split(f'\n## {title}')[1].split('\n## ')[0]


def test_files_that_the_product_wrote(small_config, tmp_path, capsys):
    """Evaluations of the prototype; tests/test_wheel.py makes a page of runs that were trained."""
    runs, small = tmp_path / 'runs', small_config()
    config = recipes.get('prototype', 'fold=1')
    config.data.update(small.data)
    config.eval.update(small.eval)
    config.model.update(weights='', width=small.model.width)
    first = evaluate_run(config, runs / 'prototype', pictures=False)
    evaluate_run(config, runs / 'prototype', inputs='identical', pictures=False)
    capsys.readouterr()
    text, _, printed = page(tmp_path, capsys)
    assert first['folds'] == 4  # a number here, a list in premise experiments
    miou = f'{100 * first["shots"]["1"]["square"]["miou"]:.2f}'
    assert row(section(text, 'mIoU by fold'), 'prototype')[3] == miou
    assert 'prototype (identical)' in section(text, 'Identical inputs')
    origins = section(text, 'Where the numbers come from')
    name = 'prototype/eval/simpropnet_fold1_33px_untrained.json'
    assert row(origins, name)[:3] == ['prototype', '1', 'pascal5i/subset']
    assert '## Left out' not in text and printed.err == '' and '2 results, 0 curves' in printed.out


def test_folds_parts_and_inputs_stand_in_tables_as_the_papers_have_them(tmp_path, capsys):
    runs = tmp_path / 'runs'
    for fold in (0, 1, 2, 3):
        write(
            runs / f'full{fold}' / 'eval' / 'a.json', result(fold, 0.5 + 0.01 * fold, 'SimPropNet')
        )
        write(runs / f'base{fold}' / 'eval' / 'a.json', result(fold, 0.4 + 0.01 * fold))
    write(runs / 'base1' / 'eval' / 'b.json', result(1, 0.61, inputs='identical'))
    write(runs / 'base1' / 'eval' / 'c.json', result(1, 0.35, inputs='zero_mask'))
    text, html, printed = page(tmp_path, capsys)
    folds = section(text, 'mIoU by fold')
    assert '2 x 10 episodes; protocol simpropnet, data pascal5i/subset, void rule ignore' in folds
    assert row(folds, 'baseline')[:5] == ['321', '321px', '1', '40.00 ± 1.00', '41.00 ± 1.00']
    assert row(folds, 'SimPropNet')[-2:] == ['51.50 ± 0.00', '61.50 ± 0.00']
    parts = section(text, r'Parts of SimPropNet')
    assert row(parts, 'baseline')[-1] == '41.50 ± 0.00' and parts.index('| baseline') < parts.index(
        '| SimPropNet'
    )
    assert row(section(text, 'Identical inputs'), 'baseline (identical)')[3] == '61.00 ± 1.00'
    assert row(section(text, 'Empty support masks'), 'baseline (zero_mask)')[3] == '35.00 ± 1.00'
    assert row(section(text, 'mIoU by class'), 'SimPropNet')[3] == '50.00'
    assert row(text, 'base1/eval/c.json')[-2:] == ['8 x TPU v4', '0.10.2']

    def cells(text):
        return re.findall(r'\d\d\.\d\d', text)

    assert cells(html.split('<h2>')[1]) == cells(folds)  # of one list of rows
    assert '## Left out' not in text and printed.err == ''


def test_partitions_studies_supervised_curves_and_pictures(tmp_path, capsys):
    runs = tmp_path / 'runs'
    for fold in (0, 2):
        write(runs / f'a{fold}' / 'eval' / 'hpascal.json', partitions(fold, 0.6))
    write(runs / 'b0' / 'eval' / 'hpascal.json', partitions(0, 0.7, method='CANet + CRC'))
    study = {
        'canet': {
            'method': 'CANet',
            'shot': 1,
            'against': None,
            'minutes': 3.25,
            'miou': {'episodes': {'miou': 0.123, 'std': None}},
            'results': {},
        }
    }
    write(runs / 'study' / 'study.json', study)
    classes = dict.fromkeys(CLASS_NAMES, 0.25) | {'sofa': None}
    write(
        runs / 'oracle' / 'supervised' / 'best_321px.json',
        {
            'method': 'deeplabv3plus',
            'data': 'pascal5i/subset',
            'list': 'val',
            'size': 321,
            'images': 7,
            'miou': 0.4567,
            'pixel_accuracy': 0.8,
            'per_class': classes,
            'weak_oracle': True,
        },
    )
    write(
        runs / 'a0' / 'metrics.jsonl',
        '{"step": 5, "novel_val_miou": 0.1}\n{"step": 9, "novel_val_miou": 0.372}\n',
    )
    (runs / 'a0' / 'figures' / 'my best').mkdir(parents=True)
    Image.new('RGB', (9, 9)).save(runs / 'a0' / 'figures' / 'my best' / '1shot (1).jpg')
    text, html, printed = page(tmp_path, capsys)
    found = section(text, 'H-PASCAL-5i')
    assert 'A  baseline' not in found and 'A baseline' in found and 'B CANet + CRC' in found
    assert row(found, 'L0 easy, large, similar')[:3] == ['60.00', '70.00', '60.00']
    assert row(found, 'CMPS')[:3] == ['56.50', '66.50', '56.50'] and 'split-3 L3' in found
    assert row(found, 'CANet + CRC') == ['66.50', '-']
    assert 'a weak oracle' in found
    study = row(section(text, 'Studies'), 'CANet')
    assert study == ['1', '1', '12.3', '3.2']  # without empty columns
    supervised = section(text, 'Supervised')
    assert (
        row(supervised, 'mIoU') == ['45.67']
        and row(supervised, 'sofa') == ['-']
        and 'weak oracle' in supervised
    )
    assert row(section(text, 'Training'), 'a0')[1:3] == ['37.20', '9']
    pictures = re.findall(r'\]\((figures/[\w./-]+)\)', text)
    assert len(pictures) == 3 and set(pictures) == set(re.findall('src="([^"]+)"', html))
    assert all((tmp_path / 'report' / path).stat().st_size > 0 for path in pictures)
    assert '4 results, 1 curves, 1 pictures' in printed.out


def test_premise_experiments_stand_as_their_commands_print_them_beside_the_papers_numbers(
    tmp_path, capsys
):
    runs, found = (
        tmp_path / 'runs',
        {
            'a/over.json': (overlaps(), overlap),
            'strong.json': (overlaps('DPr & FBAF', weak=False), overlap),
            'a/figures/alike.json': (similarities(), similarity),
            'background.json': (backgrounds(), background),
        },
    )
    for name, (record, _) in found.items():
        write(runs / name, record)
    write(
        runs / 'a' / 'config.json', {'fold': 1, 'model': {'name': 'canet'}}
    )  # JSON that is none of the page's
    write(runs / 'list.json', ['by_class', 'by_image'])
    text, html_text, printed = page(tmp_path, capsys)
    errors = section(text, 'Where the errors are')
    for name, (record, command) in found.items():
        said = command.table(record).rstrip()
        assert f'<p>{name}</p>\n<pre>{html.escape(said)}</pre>' in html_text
        assert f'\n\n{name}\n\n' + '\n'.join(f'    {line}' for line in said.splitlines()) in errors
    assert (
        '396 pairs of split-2, split-3, pascal5i/subset' in errors
        and errors.count('A weak oracle') == 1
    )
    assert re.search('CANet, the papers +18.32 +9.11 +23.28', errors) and re.search(
        '0.87 +0.25 +1000', errors
    )
    assert 'Figure 3: 20 of 20' in errors
    (picture,) = re.findall(r'\]\((figures/[\w./-]+)\)', errors)
    assert (tmp_path / 'report' / picture).stat().st_size > 0
    assert [line.split(' | ')[:3] for line in text.splitlines() if 'over.json |' in line] == [
        ['| a/over.json', 'CANet', '1'],
        ['| a/over.json', 'CANet', '2'],
    ]
    assert row(text, 'background.json') == [
        '-',
        '-',
        'pascal5i/subset',
        '-',
        '-',
        '-',
        '1 x cpu',
        '0.10.2',
    ]
    assert printed.err == '' and '4 results' in printed.out


def test_protocols_of_the_same_weights_and_predictions_of_others_have_their_tables(
    tmp_path, capsys
):
    runs = tmp_path / 'runs'
    ours = [
        result(1, 0.5),
        result(1, 0.375, protocol={'name': 'hsnet', 'hash': 'cd1'}, resolution=400),
    ]
    for record in ours:
        write(runs / 'a' / 'eval' / f'{record["protocol"]["name"]}.json', record)
    elsewhere = result(
        1,
        0.25,
        protocol={'name': 'hsnet', 'hash': 'cd1'},
        checkpoint={'step': 9, 'selection': 'last'},
    )
    write(runs / 'b' / 'eval' / 'hsnet.json', elsewhere)
    write(
        runs / 'c' / 'eval' / 'masks.json',
        result(1, 0.125, 'masks', inputs='predictions', size=None),
    )
    text, html_text, _ = page(tmp_path, capsys)
    table = tables.protocol_table(ours[::-1])  # in the order of the files
    assert (
        html_text.count('<pre>') == 1
        and f'<p>a</p>\n<pre>{html.escape(table.rstrip())}</pre>' in html_text
    )
    assert '400px' in table and '37.50' in table and 'cd1' in table
    assert row(section(text, 'mIoU by fold'), 'masks (predictions)')[
        :4
    ] == [  # without empty splits
        '-',
        '321px',
        '1',
        '12.50 ± 1.00',
    ]


def test_damaged_and_foreign_files_are_named_and_left_out(tmp_path, capsys):
    runs = tmp_path / 'runs'
    write(runs / 'good' / 'eval' / 'a.json', result(0, 0.5))
    broken = result(1, 0.5)
    broken['shots']['1']['square'] = {'miou': 'high'}
    bad = {
        'half/eval/a.json': '{"format": 1, "met',
        'foreign/eval/a.json': '[1, 2]',
        'broken/eval/a.json': broken,
        'fold/eval/a.json': result(0, 0.5) | {'fold': 7},
        'net/supervised/a.json': {'miou': 0.5},
        'old/study.json': {'canet': 3},
        'empty/metrics.jsonl': '{"step": 3, "loss": 1.0}\n',
        'cut.json': '{"by_class": {',
        'empty/alike.json': similarities() | {'ratio': {}},
        'words/metrics.jsonl': '{"step": 3, "novel_val_miou": "good"}\n',
        'good/figures/a.jpg': 'no picture',
    }
    for name, content in bad.items():
        write(runs / name, content)
    text, html, printed = page(tmp_path, capsys)
    assert row(text, 'baseline')[3] == '50.00 ± 1.00'
    for name in bad:
        assert f'left out: {runs.joinpath(name).relative_to(runs)}: ' in printed.err
        assert name in section(text, 'Left out') and name in html
    assert printed.err.count('left out: ') == len(bad)
    assert 'line 1 of ' in printed.err and 'novel_val_miou is no number' in printed.err


def test_results_that_cannot_be_compared_or_are_of_one_fold_are_told_apart(tmp_path, capsys):
    runs = tmp_path / 'runs'
    for fold in (0, 1):
        write(runs / f'first{fold}' / 'eval' / 'a.json', result(fold, 0.5))
        write(runs / f'again{fold}' / 'eval' / 'a.json', result(fold, 0.6))
    write(runs / 'again0' / 'eval' / 'b.json', result(0, 0.3, void='background'))
    text, *_ = page(tmp_path, capsys)
    assert section(text, 'mIoU by fold').count('\n| method |') == 2
    assert row(text, r'baseline (first\*)')[3:5] == ['50.00 ± 1.00', '50.00 ± 1.00']
    assert row(text, r'baseline (again\*)')[3:5] == ['60.00 ± 1.00', '60.00 ± 1.00']
    write(runs / 'again0' / 'eval' / 'latest.json', result(0, 0.7))
    text, *_ = page(tmp_path, capsys)
    assert row(text, 'baseline (again0/eval/latest)')[3] == '70.00 ± 1.00'


def test_a_page_within_its_own_folder_is_not_taken_for_results(tmp_path, capsys):
    runs = tmp_path / 'runs'
    (runs / 'a' / 'figures').mkdir(parents=True)
    Image.new('RGB', (9, 9)).save(runs / 'a' / 'figures' / 'x.png')
    for _ in range(2):
        simpropnet(['report', str(runs), '--out', str(runs / 'report')])
        assert '1 pictures' in capsys.readouterr().out


def test_mistakes_end_in_one_sentence(tmp_path, refused):
    (tmp_path / 'runs').mkdir()
    for words, sentence in {
        ('nowhere', 'report'): 'there is no folder .*nowhere: give one that holds run folders',
        ('runs', 'report'): 'runs has no results: `simpropnet eval` writes RUN/eval/',
        ('runs', '.'): '--out .* holds the results themselves: give another folder',
    }.items():
        with refused(f'.*{sentence}'):
            simpropnet(['report', str(tmp_path / words[0]), '--out', str(tmp_path / words[1])])
    assert not (tmp_path / 'report').exists()


def test_text_is_shown_as_it_is():
    sections = [Section('A & B', [Table(['a|b', 'c'], [['<b>', '*x*']])])]
    assert r'| a\|b | c |' in markdown('t', sections) and r'| &lt;b&gt; | \*x\* |' in markdown(
        't', sections
    )
    assert '<td>&lt;b&gt;</td><td>*x*</td>' in to_html(
        't', sections
    ) and '<h2>A &amp; B</h2>' in to_html('t', sections)
    sections = [Section('S', [Printed('a|b  <c>\n\n*x*  ```\n')])]
    assert markdown('t', sections).endswith('\n\n    a|b  <c>\n\n    *x*  ```\n')
    assert '<pre>a|b  &lt;c&gt;\n\n*x*  ```</pre>' in to_html('t', sections)
