"""A Python that has imported JAX and the package: a command starts in a fork of it, without seconds of imports.

    with preloaded.python() as executable:
        subprocess.run([executable, '-m', 'simpropnet_jax', 'train', ...])

Each command has a process of its own, with the caller's folder, variables, and open files 0 to 2; it ends when the
caller is killed. Take `sys.executable` where a test is about imports, or about what JAX does when it is imported.
"""

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = (
    'matplotlib.pyplot',
    'orbax.checkpoint',
    'simpropnet_jax.training.loop',
    'simpropnet_jax.evaluation.run',
    'simpropnet_jax.inference.run',
)
# What a caller starts in place of Python: it hands its words to the server, and ends as the command does.
CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(4)], [0, 1, 2])
    server.sendall(request)
    status = server.recv(1)
os._exit(status[0] if status else 1)
"""


@contextlib.contextmanager
def python() -> Iterator[str]:
    """The path of the executable; its server lives as long as this context."""
    # A socket's path must be short: not pytest's folder.
    with tempfile.TemporaryDirectory(prefix='simpropnet_python_') as folder:
        address, executable = f'{folder}/server', Path(folder) / 'python'
        executable.write_text(CLIENT.format(python=sys.executable, address=address))
        executable.chmod(0o755)
        words = [sys.executable, '-m', 'tests.preloaded', address]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout.readline() == 'ready\n'
                yield str(executable)
            finally:
                server.kill()


def serve(address: str) -> Callable[[], object]:
    """Answer requests for ever; return in the process of a command, with what that process must do."""
    for module in MODULES:
        import_module(module)
    warnings.filterwarnings('ignore', message='.*fork', category=RuntimeWarning)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print('ready', flush=True)
        while True:
            caller, _ = listening.accept()
            if os.fork() == 0:
                return answer(caller)
            caller.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # so that their time counts as the server's
                    pass


def answer(caller: socket.socket) -> Callable[[], object]:
    """Start the command of a request and send its status; return in the process of the command."""
    length, files, *_ = socket.recv_fds(caller, 4, 3)
    request = caller.recv(int.from_bytes(length), socket.MSG_WAITALL)
    words, folder, environment = json.loads(request)
    command = os.fork()
    if command == 0:
        caller.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return lambda: run(words, folder, environment)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(command)
    if ended not in select.select([caller, ended], [], [])[0]:  # the caller is gone
        os.kill(command, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):
        caller.send(bytes([status % 256]))
    os._exit(0)


def run(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Do what `python` does with the words."""
    os.chdir(folder)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    configure_jax({name for name in environment if environment[name] != before.get(name)})
    first, *rest = words
    sys.path[0] = folder if first in ('-m', '-c') else str(Path(first).parent.absolute())
    if first == '-c':
        sys.argv = words[:1] + rest[1:]
        exec(rest[0], {'__name__': '__main__'})
        return
    sys.argv = rest if first == '-m' else words
    if first == '-m':
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    else:
        runpy.run_path(first, run_name='__main__')


def configure_jax(changed: set[str]) -> None:
    """Let JAX take the variables that it has read at its import, with other values, again."""
    import jax

    for name, value in list(jax.config.values.items()):
        text = os.environ.get(name.upper(), '')
        if name.upper() in changed and text:
            if isinstance(value, bool):
                jax.config.update(name, text.lower() in ('1', 'true'))
            else:
                jax.config.update(name, type(value)(text) if value is not None else text)


if __name__ == '__main__':
    command = serve(sys.argv[1])
    try:
        command()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
