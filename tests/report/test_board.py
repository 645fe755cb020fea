"""The leaderboard: only results of the very same episodes are compared, and damaged files are named."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from simpropnet_jax import evaluate
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.protocols import PRESETS
from simpropnet_jax.setup import data
from tests.fakes import fake_source, records_of


@pytest.fixture
def results(monkeypatch, tmp_path):
    """The folder results/ with three methods of fold 0, one of them with other episodes, too."""
    fake = fake_source(n=120, name='fake')
    source = Source('fake', fake.index, records_of(fake))
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    few = replace(PRESETS['hsnet'], episodes=80, seeds=(0,), resolution=33)
    monkeypatch.setitem(PRESETS, 'hsnet', few)

    def near(supports, query):
        colour = supports.images[0][supports.masks[0]].mean(0)
        return np.square(query - colour).sum(-1) < 3000

    def upper(supports, query):
        return np.arange(len(query))[:, None] < len(query[..., 0]) * 3 // 4 + 0 * query[..., 0]

    folder = tmp_path / 'results'
    evaluate(near, 'hsnet', 0, shots=(1, 2), workdir=folder / 'theirs', name='near <colour>')
    for name in ('upper', 'again'):
        evaluate(upper, 'hsnet', 0, shots=(1,), workdir=folder / name, name='upper part')
    return folder


def section(text, title):
    return text.split(f'\n## {title}')[1].split('\n## ')[0]


def cells(text, first):
    line = next(line for line in text.splitlines() if line.startswith(f'| {first} |'))
    return [cell.strip() for cell in line.strip('|').split('|')][1:]


def test_methods_are_ranked_compared_and_shown_on_the_same_episodes(results, tmp_path, capsys):
    (results / 'half.json').write_text('{"protocol": ')
    (results / 'config.json').write_text('{"fold": 0}')
    other = json.loads(next((results / 'upper' / 'eval').glob('*.json')).read_text())
    other['shots']['1']['square']['seeds']['0']['per_class'] = {'boat': 0.5}
    (results / 'edited.json').write_text(json.dumps(other))
    capsys.readouterr()
    simpropnet(['board', str(results), '--out', str(tmp_path / 'board'), '--resamples', '200'])
    printed = capsys.readouterr()
    assert '3 results' in printed.out
    assert re.findall('left out: ([^:]+):', printed.err) == ['edited.json', 'half.json']
    text, page = ((tmp_path / 'board' / f'board.{end}').read_text() for end in ('md', 'html'))
    one, two = section(text, 'hsnet, fold 0, 1-shot'), section(text, 'hsnet, fold 0, 2-shot')
    assert float(cells(one, '1. near &lt;colour&gt;')[0]) > 50
    assert '1. near' in two and 'is | than' not in two
    twins = [f'upper part ({run})' for run in ('again', 'upper')]
    verdicts = [line for line in one.splitlines() if ' better | ' in line or 'undecided' in line]
    assert len(verdicts) == 3 and sum('undecided' in line for line in verdicts) == 1
    assert all(html.escape(name) in page for name in twins)
    figures = re.findall(r'\]\((figures/[\w.-]+)\)', text)
    assert len(figures) == 5 + 2 and set(figures) == set(re.findall('src="([^"]+)"', page))
    assert all((tmp_path / 'board' / name).stat().st_size > 0 for name in figures)


def test_mistakes_end_in_one_sentence(tmp_path, refused):
    (tmp_path / 'empty').mkdir()
    for folder, out, sentence in (
        ('nowhere', 'board', 'there is no folder .*nowhere: give one that holds result files'),
        ('empty', 'board', 'empty has no results: `simpropnet eval` writes'),
        ('empty', '.', '--out .* holds the results themselves'),
    ):
        with refused(f'.*{sentence}'):
            simpropnet(['board', str(tmp_path / folder), '--out', str(tmp_path / out)])
