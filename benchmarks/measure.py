"""Shared code of the benchmarks: a fair clock, the rate of matrix products, the machine, and a check for PyTorch."""

import importlib.util
import math
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh
from ml_collections import ConfigDict

from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.evaluation.results import result_file

os.environ.setdefault(
    'XLA_PYTHON_CLIENT_PREALLOCATE', 'false'
)  # else JAX takes all of a GPU's memory

MATRIX_SIDES = {'cpu': 2048, 'cuda': 8192}
WORDS = ('eager', 'channels_last', 'autocast', 'compile')
"""What a setting of PyTorch is made of, joined by '+': 'eager' changes nothing, 'autocast' is to bfloat16."""


class Times(NamedTuple):
    """Seconds of one contestant: of its compilation, and of the runs after it."""

    compilation: float
    runs: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def __str__(self):
        return f'{self.median:.4g} s ({min(self.runs):.4g} to {max(self.runs):.4g})'

    def scaled(self, factor: float) -> 'Times':
        """Of as many times the work."""
        return Times(self.compilation, [factor * one for one in self.runs])

    def record(self) -> dict[str, Any]:
        """For the JSON file."""
        found = {
            'median': self.median,
            'lowest': min(self.runs),
            'highest': max(self.runs),
            'runs': self.runs,
        }
        return found | {'compilation': self.compilation}


def clock(run: Callable[[], Any]) -> float:
    """Seconds of one run, which must wait for its own end."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(
    contestants: Mapping[str, Callable[[], Any]],
    repeats: int,
    warm: Mapping[str, Callable[[], Any]] | None = None,
    settle: bool = False,
) -> dict[str, Times]:
    """Times of all contestants, which run in turn, so that a disturbance hits each alike.

    Before, each is warmed up twice; compilation is what the first time takes longer. One that cannot run here (no
    compiler, too little memory) is named on the error stream, and left out.

    Args:
      warm: shorter runs to warm up with; None: the whole ones.
      settle: each turn begins with a run that is not counted: memory and threads are then the contestant's own again,
        as they are in a training, where step follows step.
    """
    compilation = {}
    for name, run in (warm or contestants).items():
        try:
            compilation[name] = max(clock(run) - clock(run), 0.0)
        except RuntimeError as error:  # of JAX and PyTorch alike
            print(f'{name} is left out: {str(error).strip().splitlines()[0]}', file=sys.stderr)
    runs = {name: [] for name in compilation}
    for _ in range(repeats):
        for name, own in runs.items():
            if settle:
                contestants[name]()
            own.append(clock(contestants[name]))
    return {name: Times(compilation[name], own) for name, own in runs.items()}


def fastest(times: Mapping[str, Times], beginning: str) -> float:
    """Return the shortest median among the contestants with names that begin with `beginning`.

    Raises:
      ValueError: none of them could run.
    """
    medians = [one.median for name, one in times.items() if name.startswith(beginning)]
    if not medians:
        raise ValueError(
            f'none of the rows {beginning}... could run here, so there is nothing to compare'
        )
    return min(medians)


def require_torch() -> None:
    """Check that PyTorch is installed, without importing it: its memory must not count as ours.

    Raises:
      ImportError: it is not.
    """
    if importlib.util.find_spec('torch') is None:
        raise ImportError(
            "the benchmarks compare with PyTorch, which is not installed: pip install 'torch>=2.5,<2.14'"
        )


def torch_device() -> str:
    """The device of the same kind as JAX's.

    Raises:
      ValueError: PyTorch has none of that kind, so that a comparison would say nothing.
    """
    import torch

    if jax.default_backend() == 'cpu':
        return 'cpu'
    if jax.default_backend() != 'gpu' or not torch.cuda.is_available():
        raise ValueError(
            f'JAX computes on {jax.default_backend()}, PyTorch here does not: install one that does'
        )
    torch.backends.cudnn.benchmark = (
        True  # shapes stay the same: it may choose the fastest algorithm for each
    )
    return 'cuda'


def wait_for_torch(device: str) -> None:
    """Wait until PyTorch has finished its work."""
    import torch

    if device == 'cuda':
        torch.cuda.synchronize()


def one_device() -> Mesh:
    """The first device alone: the peer has one, too."""
    return jax.make_mesh((1,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


def random_params(method, seed: int = 0) -> dict:
    """Parameters of a method, its pretrained ones as they are, kernels of the others from N(0, 2 / fan in).

    So the signal neither grows nor fades, and outputs differ enough between pixels to be compared.

    Args:
      method: a setup.method.Method.
    """
    rng = np.random.default_rng(seed)

    def draw(path, value):
        if path[0].key in method.pretrained:
            return None
        fan_in = math.prod(value.shape[:-1]) if len(value.shape) > 1 else 200  # a bias is small
        return rng.normal(0, math.sqrt(2 / fan_in), value.shape).astype(np.float32)

    drawn = jax.tree_util.tree_map_with_path(draw, method.abstract()['params'])
    return jax.tree.map(np.asarray, {**drawn, **method.pretrained})


def matrix_rates(
    dtypes: Sequence[str], device: str, side: int = 0, repeats: int = 5
) -> dict[str, dict[str, float]]:
    """Operations a second of a square matrix product, {dtype: {'jax': ..., 'torch': ...}}, the best of several runs.

    Args:
      dtypes: 'float32', 'bfloat16'.
      device: PyTorch's.
      side: of the matrices; 0: one at which the device is at its best.
    """
    import torch

    side, rates = side or MATRIX_SIDES[device], {}
    for dtype in dtypes:
        ours = jnp.full((side, side), 0.5, dtype)
        theirs = torch.full((side, side), 0.5, dtype=getattr(torch, dtype), device=device)
        product = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32))

        def in_torch(theirs=theirs):
            torch.mm(theirs, theirs)
            wait_for_torch(device)

        runs = {'jax': lambda a=ours, f=product: jax.block_until_ready(f(a)), 'torch': in_torch}
        times = take_turns(runs, repeats)
        rates[dtype] = {name: 2 * side**3 / min(one.runs) for name, one in times.items()}
    return rates


def peak_memory() -> dict[str, int]:
    """Bytes that this process had at most: of the host, and of the accelerator as JAX sees it."""
    unit = 1 if sys.platform == 'darwin' else 1024
    found = {'host': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    statistics_of = jax.devices()[0].memory_stats() or {}
    return found | (
        {'accelerator': statistics_of['peak_bytes_in_use']}
        if 'peak_bytes_in_use' in statistics_of
        else {}
    )


def machine() -> dict[str, Any]:
    """Return versions and hardware for the JSON file, including PyTorch's if it took part."""
    torch = sys.modules.get('torch')
    peers = {'torch': torch.__version__} if torch else {}
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return {
        'versions': {**result_file.versions(), **peers},
        'device': result_file.device(),
        'processor': models[0] if models else platform.processor(),
        'cores': os.cpu_count(),
        **({'torch_threads': torch.get_num_threads()} if torch else {}),
    }


def refuse_what_the_peer_lacks(config: ConfigDict, fixed: Mapping[str, Any]) -> None:
    """Check that a config describes what the peer has.

    Args:
      fixed: field -> the value that the peer stands for.
    Raises:
      ValueError: names a field that is another.
    """
    if config.model.name not in ('simpropnet', 'canet'):
        raise ValueError(
            f'the peer in PyTorch has simpropnet and canet, config.model.name is {config.model.name!r}'
        )
    found = dict(config_rules.fields(config))
    for name, value in {'model.shots': 'average', 'model.encoder': 'resnet50', **fixed}.items():
        if found.get(name, value) != value:
            raise ValueError(
                f'config.{name} must be {value!r}, as the peer has it, got {found[name]!r}'
            )


def whole_numbers(flag: str, values: Sequence[str | int]) -> list[int]:
    """Parse a flag's values. Raises ValueError if one is not a whole number, 1 or more."""
    for value in values:
        if not str(value).isdigit() or int(value) < 1:
            raise ValueError(f'--{flag} must be whole numbers, 1 or more, got {value!r}')
    return [int(value) for value in values]


def chosen_settings(given: Sequence[str], on_gpu: Sequence[str]) -> list[str]:
    """Return the settings of PyTorch in a flag, or the defaults of the device if it names none.

    Raises:
      ValueError: there is no such setting.
    """
    for setting in given:
        words_of(setting)
    return list(given) or (['eager'] if jax.default_backend() == 'cpu' else list(on_gpu))


def words_of(setting: str) -> set[str]:
    """Return the words of a setting like 'channels_last+autocast'. Raises ValueError for an unknown word."""
    words = set(setting.split('+'))
    if words - set(WORDS):
        raise ValueError(
            f'a setting of PyTorch is made of {", ".join(WORDS)}, joined by +, got {setting!r}'
        )
    return words


def chosen_dtypes(given: Sequence[str]) -> list[str]:
    """Return our dtypes: those in a flag, or float32 and on a GPU also bfloat16. Raises ValueError for others."""
    for dtype in given:
        if dtype not in ('float32', 'bfloat16'):
            raise ValueError(f'--dtypes must be float32, bfloat16 or both, got {dtype!r}')
    return list(given) or (
        ['float32'] if jax.default_backend() == 'cpu' else ['float32', 'bfloat16']
    )


def add_settings(parser: command_line.Parser, on_a_gpu: str) -> None:
    """Add --settings of PyTorch and --dtypes of ours.

    Args:
      on_a_gpu: how many settings are the default there, in a word.
    """
    parser.add_argument(
        '--settings',
        type=command_line.comma_separated,
        default=[],
        metavar='SETTINGS',
        help='settings of PyTorch: eager, or channels_last, autocast and compile joined by +, several with commas '
        f'between (default: eager on a CPU, {on_a_gpu} on a GPU)',
    )
    parser.add_argument(
        '--dtypes',
        type=command_line.comma_separated,
        default=[],
        metavar='DTYPES',
        help='dtypes of ours: float32, bfloat16 (default: float32 on a CPU, both on a GPU)',
    )


def add_out(parser: command_line.Parser) -> None:
    """Add --out, the file for the numbers."""
    parser.add_argument(
        '--out',
        type=Path,
        metavar='FILE.json',
        help='file for the numbers, with versions and hardware',
    )
