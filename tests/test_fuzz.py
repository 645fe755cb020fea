"""Damaged files end in one sentence, or are read as they were; a small part of `simpropnet bench fuzz`."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import fuzz, fuzz_kinds

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
def test_damaged_files_of_all_other_kinds(capsys):
    kinds = [name for name in fuzz_kinds.KINDS if name not in QUICK]
    counts = fuzz.main(90, kinds)  # the page of results has 600
    assert not sum(found[one] for found in counts.values() for one in fuzz.BAD)
    assert '| all | 90 |' in capsys.readouterr().out


@pytest.mark.slow
def test_killed_commands_give_the_same_results_and_leave_nothing_behind():
    # A sweep trains and evaluates.
    words = ['--files', '0', '--kills', '2', '--only', 'segment,sweep']
    done = subprocess.run(
        [sys.executable, '-m', 'benchmarks.fuzz', *words],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and '| all | 2 | 0 | 2 |' in done.stdout, done.stdout
