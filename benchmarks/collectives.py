"""What crosses the network in a training step? The collectives of the compiled program, and the bytes on the wire.

    simpropnet bench collectives --config simpropnet --devices 32 --batch 256
    simpropnet bench collectives --config simpropnet --processes 2,4,8 --config.train.size=65

The first compiles the step for that many devices, which need not exist, and runs nothing. It lists what the program
sends, by kind: how many operations, of how many bytes. The second starts processes on this machine, one device each,
and counts the bytes that cross its loopback interface in a step. A ring all-reduce of G bytes of gradients sends
2 (n - 1) G in total. Needs no data and no weights; other programs must not use the loopback interface meanwhile.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType
from ml_collections import ConfigDict

from benchmarks import measure
from benchmarks.training import our_batch, our_objective, random_batch
from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import hosts, records, sharding
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.parameters import split
from simpropnet_jax.training import history
from simpropnet_jax.training.state import (
    from_items,
    from_variables,
    make_optimizer,
    make_step,
    to_items,
)

COLLECTIVE = re.compile(
    r'= (?P<shape>\(.*?\)|\S+) (?P<kind>all-reduce|all-gather|reduce-scatter|all-to-all|'
    r'collective-permute|collective-broadcast)(?:-start)?\('
)
ARRAY = re.compile(r'\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]')
"""An array in a compiled program: its type, the bits of one number, and its shape."""
LOOPBACK = Path('/sys/class/net/lo/statistics/rx_bytes')
STEPS = 4  # whose bytes are counted, after one that is not


class Program(NamedTuple):
    """A training step, compiled.

    Attributes:
      gradients: bytes of the gradients of the trainable parameters.
      collectives: {kind: bytes of each operation}.
    """

    gradients: int
    collectives: dict[str, list[int]]


def compiled(config: ConfigDict, devices: int, batch: int) -> Program:
    """Compile the training step of a config for the first `devices` devices, and read what it sends."""
    step, make, given, mesh = _step(config, devices, batch)
    frozen = config.train.frozen

    def from_checkpoint(items, batch):
        return step(from_items(items, frozen), batch)

    items = jax.eval_shape(lambda key: to_items(make(key)), jax.random.key(0))
    whole, split_over_data = sharding.replicated(mesh), sharding.sharded(mesh)
    lowered = jax.jit(from_checkpoint, in_shardings=(whole, split_over_data)).lower(items, given)
    trained, _ = split(items['variables']['params'], frozen)
    return Program(_bytes_of(trained), collectives_of(lowered.compile().as_text()))


def collectives_of(text: str) -> dict[str, list[int]]:
    """Return the bytes of each collective of a compiled program, {kind: bytes}, largest first.

    Example:
      >>> collectives_of('%a = (f32[2,3]{1,0}, bf16[4]{0}) all-reduce(%b, %c), to_apply=%add')
      {'all-reduce': [32]}
    """
    found = {}
    for match in COLLECTIVE.finditer(text):
        found.setdefault(match['kind'], []).append(_bytes_in(match['shape']))
    return {kind: sorted(sizes, reverse=True) for kind, sizes in found.items()}


def _bytes_in(shape: str) -> int:
    """Return the bytes of the arrays that a type in a compiled program names."""
    total = 0
    for _, bits, sides in ARRAY.findall(shape):
        count = int(np.prod([int(side) for side in sides.split(',') if side], dtype=np.int64))
        total += count * max(int(bits or 8) // 8, 1)
    return total


def _bytes_of(tree: Any) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _step(config: ConfigDict, devices: int, size: int):
    """Return the step, how to make its state from a key, a batch, and the mesh."""
    method = Method.from_config(config)
    optimizer = make_optimizer(config.train, 1000)
    mesh = jax.make_mesh(
        (devices,), ('data',), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    step = make_step(our_objective(method), optimizer, seed=config.seed, mesh=mesh)
    batch, past = our_batch(random_batch(method, size))
    maps = None if past is None else history.blank(len(past), past.shape[1:])

    def create(key):
        variables = method.init(key, method.pretrained)
        return from_variables(variables, config.train.frozen, optimizer, maps)

    make = jax.jit(create, out_shardings=sharding.replicated(mesh))
    return step, make, batch, mesh


def on_the_wire(config: ConfigDict, processes: int) -> dict[str, Any]:
    """Train for a few steps in several processes, a pair each, and count the bytes on the loopback interface.

    Returns: bytes of the gradients, bytes of a step, and what a ring all-reduce would send.
    Raises:
      ValueError: a process failed; its last words follow.
    """
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    told = {hosts.SWITCH: '1', hosts.ADDRESS: address, hosts.COUNT: str(processes)}
    told |= {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'config.json'
        records.write_json(path, config_rules.plain(config))
        words = [
            sys.executable,
            '-c',
            f'from benchmarks import collectives as c; c.process({str(path)!r})',
        ]
        started = [
            subprocess.Popen(
                words,
                env=os.environ | told | {hosts.NUMBER: str(number)},
                cwd=Path(__file__).parent.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(processes)
        ]
        try:
            ended = [one.communicate() for one in started]
        finally:
            for one in started:
                one.kill()
                one.wait()
    for one, (_, errors) in zip(started, ended, strict=True):
        if one.returncode:
            raise ValueError(f'one of {processes} processes failed: {errors.strip()[-500:]}')
    measured = json.loads(ended[0][0].splitlines()[-1])  # Gloo greets before
    ring = 2 * (processes - 1) * measured['gradients']
    return {'processes': processes, **measured, 'ring': ring}


def process(path: str) -> None:
    """Be one of several processes: read the config, make some steps, print what was counted."""
    hosts.start()
    from jax.experimental import multihost_utils

    config = config_rules.load(Path(path))
    count = jax.process_count()
    step, make, _, mesh = _step(config, count, count)
    own, _ = our_batch(random_batch(Method.from_config(config), 1))
    batch = sharding.to_devices(mesh, own)
    state = make(jax.random.key(0))
    gradients = _bytes_of(state.params)
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))
    counted = []
    for name in ('before', 'after'):
        multihost_utils.sync_global_devices(name)
        counted.append(int(LOOPBACK.read_text()))
        multihost_utils.sync_global_devices(f'{name} counted')
        if name == 'before':
            for _ in range(STEPS):
                state, metrics = step(state, batch)
            jax.block_until_ready((state, metrics))
    print(json.dumps({'gradients': gradients, 'bytes': (counted[1] - counted[0]) / STEPS}))


def main(
    config: ConfigDict,
    devices: int = 0,
    batch: int = 0,
    processes: Sequence[int | str] = (),
    out: Path | None = None,
) -> dict[str, Any]:
    """Print what is sent, and write the JSON file.

    Args:
      devices: to compile for; 0: do not.
      batch: pairs of a step on all of them.
      processes: numbers of processes whose bytes are counted.
    Returns: what is written.
    Raises:
      ValueError: in one sentence, what is wrong.
    """
    processes = measure.whole_numbers('processes', processes)
    if not devices and not processes:
        raise ValueError('give --devices and --batch, or --processes')
    if devices and (batch < devices or batch % devices):
        raise ValueError(
            f'--batch must be a multiple of --devices, as each device takes as many pairs, got {batch} and {devices}'
        )
    if jax.device_count() < devices:
        raise ValueError(
            f'--devices is {devices}, but JAX has {jax.device_count()} here: compile for fewer, or set '
            'JAX_PLATFORMS=cpu, which can stand for any number'
        )
    config = ConfigDict(config.to_dict())
    config.model.weights = ''
    if config.model.convention == 'auto':
        config.model.convention = 'torchvision'
    config_rules.validate(config, devices=1)
    record = {'method': config.model.name, 'size': config.train.size, **measure.machine()}
    if devices:
        found = compiled(config, devices, batch)
        record |= {'devices': devices, 'batch': batch, **found._asdict()}
        print(program_table(found))
    record['wire'] = []
    for count in processes:
        record['wire'].append(on_the_wire(config, count))
    if processes:
        print(wire_table(record['wire']))
    if out:
        records.write_json(out, record)
    return record


def program_table(found: Program) -> str:
    """Return the collectives of a program as Markdown."""
    lines = [
        f'gradients: {found.gradients / 1e6:.1f} MB',
        '| collective | how many | bytes in all | the largest |',
        '|---|---|---|---|',
    ]
    for kind, sizes in found.collectives.items():
        lines.append(f'| {kind} | {len(sizes)} | {sum(sizes):,} | {sizes[0]:,} |')
    return '\n'.join(lines)


def wire_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the counted bytes as Markdown."""
    lines = [
        '| processes n | bytes a step on the wire, MB | 2 (n - 1) G, MB | ratio |',
        '|---|---|---|---|',
    ]
    for row in rows:
        counted, ring = row['bytes'] / 1e6, row['ring'] / 1e6
        lines.append(f'| {row["processes"]} | {counted:.1f} | {ring:.1f} | {counted / ring:.3f} |')
    return '\n'.join(lines)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    command_line.add_config(parser, required=True, only=('model.', 'train.'))
    parser.add_argument('--devices', type=int, default=0, metavar='N', help='compile for N devices')
    parser.add_argument('--batch', type=int, default=0, metavar='PAIRS', help='on all devices')
    parser.add_argument(
        '--processes',
        type=command_line.comma_separated,
        default=[],
        metavar='N,...',
        help='count the bytes between so many processes on this machine',
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed; a CPU stands for as many devices as they say."""
    if args.devices > 0:
        jax.config.update('jax_num_cpu_devices', args.devices)
    main(args.config, args.devices, args.batch, args.processes, args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench collectives')
