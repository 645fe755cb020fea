"""Damaged files end in one sentence, or are read as they were; a small part of `simpropnet bench fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import fuzz

QUICK = ('pictures', 'masks', 'annotations', 'H-PASCAL-5i', 'report', 'outputs of segment')


def test_damaged_files_are_named_and_never_read_as_something_else(tmp_path):
    reader = fuzz.Reader(tmp_path, QUICK)
    found = {
        case: fuzz.judged(case, tmp_path, reader)
        for case in fuzz.cases(tmp_path, reader.files, 96, seed=1)
    }
    bad = {case: told for case, told in found.items() if told.outcome not in fuzz.GOOD}
    assert not bad and len(found) == 96
    assert sum(told.outcome == 'refused' for told in found.values()) > 48


@pytest.mark.slow
def test_damaged_files_of_every_kind(capsys):
    counts = fuzz.main(200)  # the page of results has 600
    assert not sum(found[one] for found in counts.values() for one in fuzz.BAD)
    assert '| all | 200 |' in capsys.readouterr().out


@pytest.mark.slow
def test_killed_commands_give_the_same_results_and_leave_nothing_behind():
    words = ['--files', '0', '--kills', '4']
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.fuzz', *words],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and '| all | 4 | 0 | 4 |' in done.stdout, done.stdout
