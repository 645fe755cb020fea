"""What does each encoder cost behind each method? Shapes, parameters, operations and seconds of a picture.

    simpropnet bench encoders
    simpropnet bench encoders --encoders resnet50,dinov2_vits14 --methods simpropnet,prototype --timed resnet50
    simpropnet bench encoders --size 225 --out encoders.json

All weights are random, so no download is needed, and there is no accuracy: train to measure it. A picture is a query of
`--size` pixels, or of the nearest size that fits the encoder's features: it is encoded and decoded, with the probe of
one support at hand. Operations are counted by XLA in the uncompiled program. Seconds are medians. Core seconds are the
time of all cores together, the least of the runs; they hardly depend on what else the machine does. Writes JSON.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import measure
from simpropnet_jax.backbones import registry
from simpropnet_jax.config import command_line, recipes
from simpropnet_jax.runtime import records
from simpropnet_jax.setup.method import Method

METHODS = (
    'simpropnet',
    'canet',
    'panet',
    'sgone',
    'cofcn',
    'amp',
    'oslsm',
    'prototype',
    'matching',
)
REPEATS = 5
UNMEASURED = (
    'Weights are random: this table says nothing about accuracy. To measure it, train with the published weights: '
    'simpropnet train --config METHOD:fold=1,encoder=ENCODER --workdir runs/NAME'
)


def main(
    encoders: Sequence[str] = (),
    methods: Sequence[str] = (),
    size: int = 321,
    timed: Sequence[str] | None = None,
    width: int = 64,
    out: Path | None = None,
) -> dict[str, Any]:
    """Print the table and write the JSON file.

    Args:
      encoders: names of the registry; (): all.
      methods: names of recipes; (): all few-shot methods.
      size: side of the pictures in pixels.
      timed: encoders whose pictures are timed; None: all.
      width: filters of the backbone's first layer; less only to try the benchmark.
    Returns: what is written.
    Raises:
      ValueError: there is no such encoder or method, or a size does not fit.
    """
    encoders, methods = encoders or tuple(registry.ENCODERS), methods or METHODS
    timed = encoders if timed is None else timed
    for name in (*encoders, *timed):
        registry.find(name)
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise ValueError(f'--methods must be of {", ".join(METHODS)}, got {min(unknown)!r}')
    print(header())
    rows = []
    for encoder in encoders:
        for name in methods:
            rows.append(measured(name, encoder, size, width, encoder in timed))
            print(line(rows[-1]), flush=True)
    record = {'accuracy': UNMEASURED, 'weights': 'random', 'rows': rows, **measure.machine()}
    print(f'\n{UNMEASURED}')
    if out:
        records.write_json(out, record)
    return record


def prepared(name: str, encoder: str, size: int, width: int) -> Method:
    """Return a method on an encoder, without weights."""
    config = recipes.get(name, f'fold=1,encoder={encoder}')
    config.model.update(weights='', convention='torchvision', width=width)
    config.eval.size = registry.find(encoder).grid.nearest(size)
    return Method.from_config(config)


def measured(name: str, encoder: str, size: int, width: int, timed: bool) -> dict[str, Any]:
    """Return a row of the table."""
    method = prepared(name, encoder, size, width)
    module, side = method.module, method.config.eval.size
    images, masks = jnp.zeros((1, side, side, 3)), jnp.zeros((1, 1, side, side))

    @jax.jit  # traced once, for all that follows
    def encode(variables, images):
        return module.apply(variables, images, method='encode')

    def probe(variables, images):
        features = jax.tree.map(lambda x: x[None], encode(variables, images))
        return module.apply(variables, features, masks, method='probe')

    def segment(variables, images, kept):
        return module.apply(variables, encode(variables, images), kept, method='decode')

    abstract = method.abstract()
    kept = jax.eval_shape(probe, abstract, images)
    features = jax.tree.leaves(jax.eval_shape(encode, abstract, images))
    counted = jax.jit(segment).lower(abstract, images, kept).cost_analysis() or {}
    in_backbone = {part: jax.tree.leaves(abstract['params'][part]) for part in module.backbones}
    whole = sum(x.size for x in jax.tree.leaves(abstract))
    of_backbone = sum(x.size for part in in_backbone.values() for x in part)
    return {
        'encoder': encoder,
        'method': name,
        'size': side,
        'features': [list(x.shape[1:]) for x in features],
        'parameters_of_encoder': of_backbone,
        'parameters_of_head': whole - of_backbone,
        'operations': float(counted.get('flops', 0)),
        **(times(method, segment, kept, images) if timed else {}),
    }


def times(method: Method, segment, kept, images) -> dict[str, float]:
    """Return the median time of a picture after the compilation, and the least time of all cores together.

    The second hardly depends on what else the machine does.
    """
    variables = {'params': measure.random_params(method)}
    given = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), kept)
    compiled, of_cores = jax.jit(segment).lower(variables, images, given).compile(), []

    def run():
        start = time.process_time()
        jax.block_until_ready(compiled(variables, images, given))
        of_cores.append(time.process_time() - start)

    found = measure.take_turns({'run': run}, REPEATS)['run']
    return {'seconds': found.median, 'core_seconds': min(of_cores)}


def header() -> str:
    """Return the head of the table as Markdown."""
    titles = (
        'encoder',
        'method',
        'px',
        'features',
        'encoder, M',
        'head, M',
        'GFLOP',
        'seconds',
        'core seconds',
    )
    return f'| {" | ".join(titles)} |\n|{"---|" * len(titles)}'


def line(row: dict[str, Any]) -> str:
    """Return a row of the table as Markdown."""
    shapes = ', '.join(' x '.join(map(str, shape)) for shape in row['features'])
    values = (
        row['encoder'],
        row['method'],
        row['size'],
        shapes,
        f'{row["parameters_of_encoder"] / 1e6:.1f}',
        f'{row["parameters_of_head"] / 1e6:.2f}',
        f'{row["operations"] / 1e9:.1f}',
        *(f'{row[name]:.2f}' if name in row else '' for name in ('seconds', 'core_seconds')),
    )
    return f'| {" | ".join(map(str, values))} |'


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    names = command_line.comma_separated
    parser.add_argument(
        '--encoders', type=names, default=[], metavar='NAMES', help='with commas between; none: all'
    )
    parser.add_argument(
        '--methods', type=names, default=[], metavar='NAMES', help='with commas between; none: all'
    )
    parser.add_argument('--size', type=int, default=321, help='side of the pictures in pixels')
    parser.add_argument(
        '--timed',
        type=names,
        metavar='NAMES',
        help='encoders to time; the word none: no times (default: all)',
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    timed = [] if args.timed == ['none'] else args.timed
    main(args.encoders, args.methods, args.size, timed, out=args.out)


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench encoders')
