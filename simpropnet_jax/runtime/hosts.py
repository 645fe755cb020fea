"""Several processes that make one run: how they find each other, and that none waits for one that has failed."""

import atexit
import contextlib
import itertools
import logging
import os
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from typing import NoReturn

import jax
from jax._src import distributed  # its client is what orbax uses, too; there is no public name

from simpropnet_jax.runtime.paths import AnyPath

SWITCH, SECONDS = 'SIMPROPNET_MULTIHOST', 'SIMPROPNET_MULTIHOST_SECONDS'
ADDRESS, COUNT, NUMBER = GIVEN = 'JAX_COORDINATOR_ADDRESS', 'JAX_NUM_PROCESSES', 'JAX_PROCESS_ID'
START_SECONDS = 300  # that processes wait for each other, if SECONDS does not say otherwise
_CHECKS = itertools.count()  # every process makes the same
FAILED = 'simpropnet_jax/failed'  # key under which the coordinator is told of a failure
LOOK_SECONDS = 1  # after which a process looks whether another has failed
NOTICE_SECONDS = (
    3  # that the coordinator's process lives on after its failure, so that the others hear of it
)


def start() -> None:
    """Joins the processes of a multi-host run where SIMPROPNET_MULTIHOST=1; must come before any other use of JAX.

    On a cluster that JAX knows (Cloud TPU, Slurm, ...) nothing else is needed; elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say who is who. Only process 0 reports, and writes what all have found.

    Raises:
      ValueError: an environment variable has a value that it cannot have, or one is missing.
      SystemExit: not raised, but the process ends so where the others do not answer in time.
    """
    if not _wanted():
        return
    address, count, number = _given()
    seconds = _whole(SECONDS, 1) if os.environ.get(SECONDS) else START_SECONDS
    timer = threading.Timer(seconds, _give_up, [seconds, address, count, number])
    timer.daemon = True
    timer.start()
    try:
        # JAX's own end of waiting is an abort with a stack trace: it is not to come first.
        jax.distributed.initialize(address, count, number, initialization_timeout=seconds + 60)
    except ValueError as error:
        raise ValueError(
            f'{SWITCH} is 1, but JAX knows no cluster here ({error}): set {ADDRESS} (host:port of process 0), {COUNT} '
            f'and {NUMBER}, or unset {SWITCH}'
        ) from error
    finally:
        timer.cancel()
    _Heeding()
    if jax.process_index() != 0:
        logging.getLogger('simpropnet_jax').setLevel(logging.WARNING)
        sys.stdout = open(os.devnull, 'w')  # tables are of the same numbers everywhere


def _wanted() -> bool:
    """Return whether this is one of several processes. Raises ValueError if that is not clear."""
    switch = os.environ.get(SWITCH, '')
    if switch not in ('', '0', '1'):
        raise ValueError(
            f'{SWITCH} must be 1 (several processes make one run), 0 or unset, got {switch!r}'
        )
    said = [name for name in GIVEN if os.environ.get(name)]
    if switch != '1' and said:
        raise ValueError(
            f'{said[0]} is set, but not {SWITCH}: every process would make a run of its own; set {SWITCH} to 1, or '
            f'unset {said[0]}'
        )
    return switch == '1'


def _given() -> tuple[str | None, int | None, int | None]:
    """Address of the coordinator, number of processes, number of this one; of all three, None: the cluster says."""
    said = [name for name in GIVEN if os.environ.get(name)]
    if not said:
        return None, None, None
    missing = [name for name in GIVEN if name not in said]
    if missing:
        raise ValueError(
            f'{said[0]} is set, but not {missing[0]}: {", ".join(GIVEN[:2])} and {NUMBER} go together'
        )
    address, count = os.environ[ADDRESS], _whole(COUNT, 1)
    if not address.rpartition(':')[0] or not address.rpartition(':')[2].isdigit():
        raise ValueError(
            f'{ADDRESS} must be host:port of process 0, such as node1:12345, got {address!r}'
        )
    number = _whole(NUMBER, 0)
    if number >= count:
        raise ValueError(
            f'{NUMBER} must be from 0 to {count - 1}, as {COUNT} is {count}, got {number}'
        )
    return address, count, number


def _whole(name: str, least: int) -> int:
    text = os.environ[name]
    if not text.isdecimal() or int(text) < least:
        raise ValueError(f'{name} must be a whole number, {least} or more, got {text!r}')
    return int(text)


def _give_up(seconds, address, count, number) -> NoReturn:
    who = f'process {number} of {count}' if count else 'this process'
    where = f' at {address}' if address else ''
    _end(
        f'{who} waited {seconds} s in vain for the others (process 0 is to be{where}): start all of them within that '
        f'time (or set {SECONDS}), see that the address is that of process 0, its port free and open to the others',
        2,
    )


def check_shared(folder: AnyPath) -> None:
    """Has all processes look for a file that process 0 makes in a folder and then removes.

    Raises:
      ValueError: it is missing: each process has a separate folder, and their checkpoints would never meet.
    """
    client = distributed.global_state.client
    if client is None or jax.process_count() == 1:
        return
    number, wait = next(_CHECKS), 1000 * START_SECONDS
    if jax.process_index() == 0:
        file = folder / f'shared_{uuid.uuid4().hex}'
        file.write_text('')
        client.key_value_set(f'simpropnet_jax/shared/{number}', file.name)
    elif not (
        folder / client.blocking_key_value_get(f'simpropnet_jax/shared/{number}', wait)
    ).exists():
        raise ValueError(
            f'{folder} is not one folder for all processes: process {jax.process_index()} does not see what process 0 '
            'writes there; give a --workdir on storage that they share'
        )
    client.wait_at_barrier(f'simpropnet_jax/shared/{number}', wait)
    if jax.process_index() == 0:
        file.unlink()


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """In a multi-host run: where this process fails, the others end with its sentence, and do not wait for it.

    To be put around all that a command does; the process then ends here, without JAX's goodbye, which waits too.
    """
    try:
        yield
    except BaseException as error:
        ordinary = isinstance(error, SystemExit) and not isinstance(error.__context__, Exception)
        if ordinary or distributed.global_state.client is None:
            raise
        _tell(error.__context__ if isinstance(error, SystemExit) else error)
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        _leave(error.code if isinstance(error, SystemExit) else 1)


def _tell(error) -> None:
    """Leaves word with the coordinator; the first failure counts."""
    sentence = str(error).partition('\n')[0] or type(error).__name__
    with contextlib.suppress(Exception):  # another was first, or the coordinator has ended
        distributed.global_state.client.key_value_set(FAILED, f'{jax.process_index()} {sentence}')
    if jax.process_index() == 0:
        time.sleep(NOTICE_SECONDS)


class _Heeding:
    """A thread that ends this process soon after another has failed."""

    def __init__(self):
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._heed, daemon=True)
        self._thread.start()
        # Before JAX takes leave of the coordinator, and before the interpreter ends, which the call below would upset.
        atexit.register(self._stop)

    def _stop(self):
        self._over.set()
        self._thread.join()

    def _heed(self):
        while not self._over.wait(LOOK_SECONDS):
            try:
                number, _, sentence = distributed.global_state.client.key_value_try_get(
                    FAILED
                ).partition(' ')
            except jax.errors.JaxRuntimeError:  # nobody has
                continue
            if int(number) != jax.process_index():
                _end(
                    f'process {number} has failed, so process {jax.process_index()} ends: {sentence}',
                    1,
                )
            return


def _end(sentence: str, status: int) -> NoReturn:
    print(f'error: {sentence}', file=sys.stderr)
    _leave(status)


def _leave(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
