"""`simpropnet segment` as a user types it."""

import functools
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.inference import outputs
from tests.small_checkpoint import write_checkpoint

ROOT = Path(__file__).parent.parent


@pytest.fixture
def run(run_here, one_device):
    """run(words): the command."""
    return functools.partial(run_here, '-m', 'simpropnet_jax', 'segment')


@pytest.fixture
def files(tmp_path):
    """A support with its mask, and a folder of queries."""
    (tmp_path / 'photos').mkdir()
    rng, mask = np.random.default_rng(0), np.zeros((30, 40), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(tmp_path / 'mask.png')
    for name in ('image.jpg', 'photos/one.jpg', 'photos/two.png'):
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


@pytest.mark.slow
def test_a_folder_with_a_damaged_file_is_segmented_but_for_that(files, run):
    write_checkpoint(files / 'run')
    (files / 'photos' / 'broken.png').write_text('no picture')
    support, out = ('--support', files / 'image.jpg', files / 'mask.png'), files / 'out'
    done = run(
        '--checkpoint', files / 'run', *support, *support, '--query', files / 'photos', '--out', out
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stdout == f'2 of 3 pictures segmented: masks and overlays are in {out}\n'
    assert 'broken.png is not a picture' in done.stderr.splitlines()[-1]
    masks = {f'{n}_{e}' for n in ('one', 'two') for e in ('mask.png', 'overlay.jpg')}
    assert {p.name for p in out.iterdir()} == masks | {'run.json', 'done.jsonl'}
    assert set(np.unique(Image.open(out / 'one_mask.png'))) <= {0, 255}
    one = ('--query', files / 'photos' / 'one.jpg', '--out', out)
    done = run('--checkpoint', files / 'run', *support, *one)
    assert (
        done.returncode == 2
        and 'out has masks made with other supports or classes: give another' in done.stderr
    )
    done = run('--checkpoint', files / 'run', *support, *one, '--overwrite')
    assert done.returncode == 0 and '1 of 1 pictures' in done.stdout, done.stderr[-2000:]
    assert not (out / 'two_mask.png').exists()


def test_a_mistake_ends_in_one_sentence(files, run):
    enough = ['--checkpoint', files / 'run', '--query', files / 'photos', '--out', files / 'out']
    support = ['--support', files / 'image.jpg', files / 'mask.png']
    wrong = ['--checkpoint', 'run@bset', *enough[2:], *support]
    for words, sentence in (
        (wrong, "after run@ must come best, latest or a step, got 'bset'"),
        (enough, '--support is missing; --help says what it is'),
        (
            [*enough, '--support', 'image.jpg'],
            'takes IMAGE MASK, or CLASS IMAGE MASK, got 1 values: image.jpg',
        ),
        (
            ['more.jpg', *enough, *support],
            "unexpected argument 'more.jpg'; --help lists all arguments",
        ),
        ([*enough, *support], 'run is not a checkpoint: it has no config.json'),
    ):
        done = run(*words)
        assert done.returncode == 2
        assert (
            len(done.stderr.splitlines()) == 1
            and done.stderr.startswith('error: ')
            and sentence in done.stderr
        )
    assert not (files / 'out').exists()


@pytest.mark.slow
def test_a_run_that_is_stopped_says_how_to_go_on(files, run):
    write_checkpoint(files / 'run')
    words = (
        '--checkpoint',
        files / 'run',
        '--support',
        'cat',
        files / 'image.jpg',
        files / 'mask.png',
        '--query',
        files / 'photos',
        '--out',
        files / 'out',
    )
    command = [sys.executable, '-m', 'simpropnet_jax', 'segment', *words]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        said = (
            process.stderr.readline()
        )  # that the checkpoint is read: what comes now takes seconds to compile
        process.send_signal(signal.SIGTERM)  # ends it as Ctrl+C does
        rest = process.stderr.read()
    assert process.returncode == 130 and 'checkpoint: step 1' in said
    assert (
        rest.endswith('error: stopped. Re-run the same command to resume\n')
        and 'Traceback' not in rest
    )
    done = run(*words)
    assert done.returncode == 0 and '2 of 2 pictures segmented' in done.stdout, done.stderr[-2000:]


def test_help_has_an_example_and_says_what_a_mask_may_be(run):
    done = run('--help')
    assert all(re.search(rf'^  {kind} ', done.stdout, re.M) for kind in outputs.KINDS)
    assert (
        done.returncode == 0
        and 'simpropnet segment --checkpoint runs/fold2 --support' in done.stdout
    )
    assert 'every pixel that is not black is the object' in done.stdout
