"""Two processes on one machine, as two hosts would be: the same numbers as one, together from start to end."""

import json
import socket

import numpy as np
import pytest

from simpropnet_jax import models
from simpropnet_jax.evaluation import run
from simpropnet_jax.runtime import hosts, sharding
from simpropnet_jax.training import loop
from tests.compiling import for_devices
from tests.training import tiny
from tests.training.test_nothing_lost import losses, newest

STEPS = 9
TIMEOUT = 240  # seconds after which a process that hangs is ended, and its test fails


@pytest.fixture
def run_all(tmp_path_factory):
    """run_all(commands, environments): runs processes of `tests.training.tiny`: [(status, stdout, stderr)]."""

    def call(commands, environments, devices=1):
        flags = {
            'XLA_FLAGS': for_devices(devices),
            'JAX_PLATFORMS': 'cpu',
        }
        outputs, started = [tmp_path_factory.mktemp('output') for _ in commands], []
        for words, environment, output in zip(commands, environments, outputs, strict=True):
            given = [str(word) for word in words], flags | environment, output
            started.append(tiny.processes().Process(target=tiny.run, args=given))
            started[-1].start()
        try:
            for process in started:
                process.join(TIMEOUT)
            return [
                (process.exitcode, (output / 'stdout').read_text(), (output / 'stderr').read_text())
                for process, output in zip(started, outputs, strict=True)
            ]
        finally:
            for process in started:
                process.kill()

    return call


@pytest.fixture
def two(run_all):
    """two(words): two processes that make one run; `second` are the words of the second."""

    def call(*words, second=None, **options):
        with socket.socket() as free:
            free.bind(('localhost', 0))
            address = f'localhost:{free.getsockname()[1]}'
        told = {hosts.SWITCH: '1', hosts.ADDRESS: address, hosts.COUNT: '2'}
        environments = [told | {hosts.NUMBER: number} for number in ('0', '1')]
        return run_all([words, second or words], environments, **options)

    return call


@pytest.fixture(scope='module')
def config_of(small_config, tmp_path_factory):
    """config_of(**changes): a config, and the JSON file of it."""

    def make(**changes):
        config = small_config(**{'train.steps': STEPS, **changes})
        path = tmp_path_factory.mktemp('config') / 'config.json'
        path.write_text(json.dumps(config.to_dict()))
        return config, path

    return make


@pytest.fixture
def on(monkeypatch, mesh_of):
    """on(n, config, workdir): trains in this process, on n devices."""
    monkeypatch.setattr(models, 'build', tiny.build)

    def train(devices, config, workdir):
        monkeypatch.setattr(sharding, 'make_mesh', lambda: mesh_of(devices))
        loop.train_and_evaluate(config, workdir)
        return list(losses(workdir).values())

    return train


def results(workdir):
    """The numbers of an evaluation's file."""
    record = json.loads((workdir / 'eval' / 'simpropnet_fold1_33px_latest.json').read_text())
    return {name: record[name] for name in ('shots', 'protocol', 'images', 'episodes_file')}


@pytest.mark.slow
def test_two_processes_train_and_evaluate_as_one_does_and_go_on_on_other_devices(
    config_of, on, two, tmp_path
):
    often = {'select.every': 2}
    (config, path), workdir = config_of(**often), tmp_path / 'two'
    alone = on(1, config, tmp_path / 'one')
    run.evaluate_run(config, tmp_path / 'one', 'latest')

    ended = two(path, workdir, '--end_at=5')
    assert [status for status, *_ in ended] == [-9, -9], ended
    assert 0 < newest(workdir) < 5
    on(2, config_of(**often, **{'train.steps': 6})[0], workdir)  # from two processes to one
    ended = two(path, workdir, '--evaluate', devices=2)  # and back to two
    (first, printed, said), (second, silent, nothing) = ended
    assert first == second == 0, said + nothing
    assert newest(workdir) == STEPS
    np.testing.assert_allclose(list(losses(workdir).values()), alone, rtol=1e-5)
    assert results(workdir) == results(tmp_path / 'one')
    assert results(workdir)['shots']['1']['square']['miou'] > 0
    assert 'mIoU' in printed and f'trained {STEPS} steps' in said  # one of them reports
    assert 'mIoU' not in silent and 'step' not in nothing


@pytest.mark.slow
def test_sigterm_to_one_stops_both_at_one_step_with_a_checkpoint(config_of, two, tmp_path):
    _, path = config_of(**{'train.steps': 100_000, 'select.every': 50_000, 'train.log_every': 100})
    words = [path, tmp_path / 'run']
    ended = two(*words, second=[*words, '--end_at=20', '--by=SIGTERM'])
    assert [status for status, *_ in ended] == [loop.STOPPED_BY_SIGNAL] * 2, ended
    step = newest(tmp_path / 'run')
    for _, _, said in ended:
        assert f'stopped by a signal; step {step} of 100000 is saved' in said


@pytest.mark.slow
def test_where_one_fails_the_other_does_not_wait_for_it(config_of, two, tmp_path):
    good, bad = config_of()[1], config_of(**{'data.dir': '/nowhere'})[1]
    (first, _, heard), (second, _, said) = two(good, tmp_path, second=[bad, tmp_path])
    assert second == 2 and 'error: pascal5i/subset is not prepared in /nowhere' in said
    assert (
        first == 1
        and 'error: process 1 has failed, so process 0 ends: pascal5i/subset is not' in heard
    )


@pytest.mark.slow
def test_a_work_directory_for_each_process_is_refused(config_of, two, tmp_path):
    path = config_of()[1]
    (first, _, heard), (second, _, said) = two(
        path, tmp_path / 'one', second=[path, tmp_path / 'other']
    )
    assert (first, second) == (1, 2), heard + said
    assert (
        f'error: {tmp_path}/other is not one folder for all processes: process 1 does not see'
        in said
    )
    assert not newest(tmp_path / 'one')


@pytest.mark.parametrize(
    ('variables', 'sentence'),
    [
        ({hosts.COUNT: '2'}, 'JAX_NUM_PROCESSES is set, but not SIMPROPNET_MULTIHOST'),
        ({hosts.SWITCH: 'yes'}, "SIMPROPNET_MULTIHOST must be 1 .*, got 'yes'"),
        (
            {hosts.SWITCH: '1', hosts.NUMBER: '0'},
            'JAX_PROCESS_ID is set, but not JAX_COORDINATOR_ADDRESS',
        ),
        (
            {hosts.SWITCH: '1', hosts.ADDRESS: 'node1', hosts.COUNT: '2', hosts.NUMBER: '0'},
            "host:port .* got 'node1'",
        ),
        (
            {hosts.SWITCH: '1', hosts.ADDRESS: 'node1:1', hosts.COUNT: 'two', hosts.NUMBER: '0'},
            "JAX_NUM_PROCESSES must be a whole number, 1 or more, got 'two'",
        ),
        (
            {hosts.SWITCH: '1', hosts.ADDRESS: 'node1:1', hosts.COUNT: '2', hosts.NUMBER: '2'},
            'JAX_PROCESS_ID must be from 0 to 1, as JAX_NUM_PROCESSES is 2, got 2',
        ),
    ],
)
def test_a_wrong_environment_is_named_before_anything_waits(variables, sentence, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=sentence):
        hosts.start()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('variables', 'sentence'),
    [
        (
            {hosts.SECONDS: '1', hosts.ADDRESS: 'localhost:9', hosts.COUNT: '2', hosts.NUMBER: '1'},
            'error: process 1 of 2 waited 1 s in vain for the others (process 0 is to be at localhost:9): start',
        ),
        ({}, 'error: SIMPROPNET_MULTIHOST is 1, but JAX knows no cluster here'),
    ],
)
def test_a_coordinator_that_does_not_answer_ends_in_a_sentence(
    variables, sentence, config_of, run_all, tmp_path
):
    words = [config_of()[1], tmp_path]
    ((status, _, said),) = run_all([words], [{hosts.SWITCH: '1', **variables}])
    assert status == 2 and sentence in said, said
