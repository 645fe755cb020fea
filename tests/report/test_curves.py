"""Validation scores over training, from metrics.jsonl as a training writes it."""

import json
import re

from PIL import Image

from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.report.curves import read_curve


def write_run(path, scores, score='novel_val_miou', conditioning=0, epoch=0):
    """A work directory with scores {step: mIoU}, lines of training between them and half a line at the end."""
    path.mkdir(parents=True)
    with (path / 'metrics.jsonl').open('w') as file:
        for step, miou in scores.items():
            row = {'step': step, score: miou, score.replace('miou', 'fb_iou'): 0.9}
            row |= {'conditioning_steps': float(conditioning)} if conditioning else {}
            row |= {'steps_per_epoch': float(epoch)} if epoch else {}
            file.write(json.dumps({'step': step, 'loss': 0.3}) + '\n' + json.dumps(row) + '\n')
        file.write('{"step": 9')
    return str(path)


def rows(printed):
    return {line.split()[0]: line.split()[1:] for line in printed.splitlines()[2:]}


def test_the_table_and_the_picture_of_two_runs_in_steps(tmp_path, capsys):
    slow = write_run(tmp_path / 'slow', {250: 0.2, 500: 0.379, 750: 0.38, 1000: 0.4})
    # 0.39 comes first, in the conditioning phase, which is not counted
    fast = write_run(
        tmp_path / 'fast', {250: 0.39, 550: 0.35, 800: 0.39, 1050: 0.4, 1300: 0.3}, conditioning=300
    )
    out = tmp_path / 'new' / 'curves.png'
    simpropnet(['curves', slow, fast, '--out', str(out)])
    assert rows(capsys.readouterr().out) == {
        'slow': ['4', '40.00', '1000', '750', '0'],
        'fast': ['4', '40.00', '750', '500', '300'],
    }
    with Image.open(out) as picture:
        assert picture.format == 'PNG' and picture.width > 1000
    assert read_curve(fast, 'fast').steps.tolist() == [250, 500, 750, 1000]


def test_epochs_where_every_run_says_how_long_they_are(tmp_path, capsys):
    scores = {30: 0.3, 100: 0.1, 130: 0.37, 230: 0.39, 330: 0.4, 430: 0.38}
    run = write_run(tmp_path / 'tpc', scores, 'base_val_miou', conditioning=30, epoch=100)
    other = write_run(
        tmp_path / 'short', {250: 0.1, 500: 0.39, 600: 0.4}, 'base_val_miou', epoch=500
    )
    simpropnet(
        ['curves', run, other, '--out', str(tmp_path / 'curves.svg'), '--labels', 'TPC', 'CANet']
    )
    printed = capsys.readouterr().out
    assert re.search('epochs to 95 % of it +steps to 95 % of it +conditioning epochs', printed)
    assert rows(printed) == {
        'TPC': ['6', '40.00', '3', '2', '200', '0.3'],
        'CANet': ['3', '40.00', '1.2', '1', '500', '0'],
    }
    drawn = (tmp_path / 'curves.svg').read_text()
    for words in (
        'TPC (after 0.3 epochs of conditioning)',
        'mIoU on base_val, %',
        '2 (200)',
        '1 (500)',
    ):
        assert words in drawn
    older = write_run(tmp_path / 'older', {4: 0.3}, 'base_val_miou')
    simpropnet(['curves', run, older, '--out', str(tmp_path / 'curves.png')])
    assert rows(capsys.readouterr().out)['tpc'] == ['6', '40.00', '300', '200', '30']


def test_mistakes_end_in_one_sentence(tmp_path, refused):
    good, out = write_run(tmp_path / 'a' / 'good', {3: 0.5}), tmp_path / 'curves.png'
    base = write_run(tmp_path / 'base', {3: 0.5}, 'base_val_miou')
    early = write_run(tmp_path / 'early', {3: 0.5}, conditioning=30)
    (tmp_path / 'none').mkdir()
    (tmp_path / 'none' / 'metrics.jsonl').write_text('{"step": 20, "loss": 0.7}\n')
    for runs, message in {
        (
            'nowhere',
        ): 'there is no run in nowhere: it has no metrics.jsonl, which `simpropnet train` writes',
        (
            good,
            str(tmp_path / 'none'),
        ): r'none/metrics.jsonl has no validation score \(novel_val_miou or base_val_miou',
        (
            early,
        ): 'early/metrics.jsonl has no validation score .* after its conditioning phase of 30 steps',
        (
            good,
            base,
        ): 'good has novel_val_miou, base has base_val_miou: scores of different classes do not belong',
        (good, '--labels', 'x', 'y'): 'there are 2 labels for 1 runs: give one for each',
    }.items():
        with refused(f'.*{message}'):
            simpropnet(['curves', *runs, '--out', str(out)])
    assert not out.exists()
    with refused("Format 'xyz' is not supported"):
        simpropnet(['curves', good, '--out', 'curves.xyz'])


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, capsys):
    runs = [write_run(tmp_path / name / 'fold0', {3: 0.5}) for name in ('a', 'b')]
    simpropnet(['curves', *runs, '--out', str(tmp_path / 'curves.png')])
    assert set(rows(capsys.readouterr().out)) == set(runs)
