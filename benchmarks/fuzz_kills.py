"""Kill mode of `fuzz`: commands are killed at random moments, run again, and compared with an undisturbed run.

Each command runs in a process forked from one that has imported everything, on a network of two convolutions, so that
a kill takes seconds. After each kill the same command runs again, without its earlier output having been touched.
`same` means that the files which matter are the same afterwards as those of a run that nobody disturbed; `SILENT` that
one differs, or that something is left over: unfinished files and folders, or uploads of the page. A command that ends
before its kill is started anew and does not count.
"""

import collections
import contextlib
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.fuzz_commands import COMMANDS, PORT, make_inputs, use_tiny_network

LEFT_OVER = ('unfinished', '.tmp', 'orbax-checkpoint-tmp', 'incomplete', 'simpropnet_jax_app_')
SERVED = 'in a browser'  # what the page says when it is there
LONGEST = 300  # seconds to wait for the page
PRELOADED = (
    'clu.metric_writers',
    'gradio',
    'matplotlib.pyplot',
    'orbax.checkpoint',
    'tensorflow',
    'simpropnet_jax.training.loop',
    'simpropnet_jax.sweeps.sweep',
    'simpropnet_jax.evaluation.run',
    'simpropnet_jax.inference.run',
    'simpropnet_jax.datasets.folder.prepare',
    'simpropnet_jax.datasets.pascal5i.prepare',
)


def kill_commands(
    root: Path,
    names: Sequence[str],
    count: int,
    seed: int,
    counts: dict[str, collections.Counter],
) -> None:
    """Kill each command in turn, so many times together, and count the outcomes."""
    inputs = root / 'inputs'
    # In a process of its own: a fork of one in which JAX has started would wait for its threads for ever.
    maker = multiprocessing.get_context('spawn').Process(target=make_inputs, args=(inputs,))
    maker.start()
    maker.join()
    # Gradio reads these at its import; `app.start` sets them before.
    os.environ['GRADIO_TEMP_DIR'] = str(root / 'out' / 'temporary' / 'gradio')
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    for module in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    use_tiny_network()
    counts |= {name: collections.Counter() for name in names}
    whole, seconds = {}, {}
    draw = random.Random(f'kills {seed}')
    for number in range(count):
        name = names[number % len(names)]
        if name not in whole:
            whole[name], seconds[name] = _undisturbed(name, inputs, root / 'whole')
        outcome, words = _killed_once(name, inputs, root / 'out', draw, seconds[name], whole[name])
        counts[name][outcome] += 1
        if outcome != 'same':
            print(f'{outcome}: kill {number} of {name}\n    {words[-1500:]}', flush=True)


def _undisturbed(name: str, inputs: Path, out: Path) -> tuple[dict[str, str], float]:
    """Run a command twice to its end, the second time for its duration with everything compiled."""
    endless = COMMANDS[name].endless
    for _ in range(2):
        _empty(out)
        start = time.monotonic()
        code, words = _run(name, inputs, out, LONGEST if endless else None, stop_by=signal.SIGTERM)
        if code != 0 or (endless and SERVED not in words):
            raise ValueError(f'{name} fails undisturbed: status {code}: {words[-1500:]}')
        seconds = time.monotonic() - start
    return COMMANDS[name].result(out), seconds


def _empty(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    (out / 'temporary').mkdir(parents=True)


def _killed_once(name, inputs, out, draw, seconds, whole) -> tuple[str, str]:
    command, answers = COMMANDS[name], []
    code, words = 0, ''
    while code != -signal.SIGKILL:  # else it had ended before
        _empty(out)
        longest = 1.3 if command.endless else 1.0  # the page is killed after an upload, too
        code, words = _run(name, inputs, out, draw.uniform(0.02, longest) * seconds, _upload)
    if 'Traceback' not in words:
        code, words = _run(
            name,
            inputs,
            out,
            LONGEST if command.endless else None,
            lambda: answers.append(_ask('')),
            signal.SIGTERM,
        )
    if 'Traceback' in words:
        return 'TRACEBACK', words
    # What was finished before the kill may be refused: it is there already.
    result = command.result(out)
    different = [one for one in whole.keys() | result.keys() if whole.get(one) != result.get(one)]
    refused = code > 0 and 'error: ' in words and not command.endless
    if (code != 0 and (different or not refused)) or (command.endless and answers != [200]):
        return 'CRASH', f'status {code}, answers {answers}: {words}'
    left = [str(path) for path in out.rglob('*') if any(one in path.name for one in LEFT_OVER)]
    if command.endless:
        left += [str(path) for path in (out / 'temporary').rglob('*') if path.is_file()]
    if different or left:
        return 'SILENT', f'different: {different}; left over: {left}; {words}'
    return 'same', ''


def _ask(place: str, data: bytes | None = None, **headers: str) -> int:
    request = urllib.request.Request(f'http://127.0.0.1:{PORT}/{place}', data, headers)
    with urllib.request.urlopen(request, timeout=LONGEST) as answer:
        return answer.status


def _upload() -> None:
    """Send the page a file."""
    lines = ['--x', 'Content-Disposition: form-data; name="files"; filename="a.png"', '', 'private']
    body = '\r\n'.join([*lines, '--x--', '']).encode()
    kind = {'Content-Type': 'multipart/form-data; boundary=x'}
    _ask('gradio_api/upload', body, **kind)


def _run(
    name: str,
    inputs: Path,
    out: Path,
    seconds: float | None,
    when_served: Callable[[], object] | None = None,
    stop_by: signal.Signals | None = None,
) -> tuple[int, str]:
    """Run a command in a forked process and return its status and its words.

    Args:
      name: of the command.
      inputs, out: its folders.
      seconds: time after which it is killed; None: never.
      when_served: called as soon as the page is there.
      stop_by: signal that ends the page then; None: none.
    """
    command = COMMANDS[name]
    words = command.words(inputs, out)
    log = out.parent / f'{out.name}.log'
    log.write_text('')
    process = os.fork()
    if process == 0:
        _child(words, log, out / 'temporary')
    end = None if seconds is None else time.monotonic() + seconds
    waiting = command.endless
    try:
        while True:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                process = 0
                break
            if end is not None and time.monotonic() > end:
                os.kill(process, signal.SIGKILL)
            elif waiting and SERVED in log.read_text(errors='replace'):
                waiting = False
                if when_served:
                    when_served()
                if stop_by:
                    os.kill(process, stop_by)
            time.sleep(0.01)
    finally:
        if process:  # an error has left it running
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors='replace')


def _child(words: list[str], log: Path, temporary: Path) -> None:
    """Run a command and end the process."""
    code = 1
    try:
        screen = os.open(log, os.O_WRONLY | os.O_TRUNC)
        os.dup2(screen, 1)
        os.dup2(screen, 2)
        tempfile.tempdir = os.environ['TMPDIR'] = str(temporary)
        os.environ |= {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0', 'XLA_FLAGS': ''}
        import jax

        jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
        from simpropnet_jax.cli.main import main

        main(words)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 1
    except KeyboardInterrupt:
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code or 0)
