"""Times the heads' convolutions against XLA's own, forward and backward, after checking that both agree.

    simpropnet bench convolution --size 21 --batch 8

Prints a table: milliseconds of XLA's float32 convolution, and how many times as fast ours is, in float32 and bfloat16.
"""

import statistics
import time

import jax
import jax.numpy as jnp

from simpropnet_jax.config import command_line
from simpropnet_jax.ops.convolve import convolve
from simpropnet_jax.ops.convolve_gpu import LAYOUT

# Channels in and out and dilation of SimPropNet's 3x3 convolutions: projection, fusion, ASPP.
LAYERS = ((1536, 256, 2), (512, 512, 1), (512, 256, 6), (512, 256, 12), (512, 256, 18))


def xla(x, kernel, dilation):
    margins = [(dilation, dilation)] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), margins, None, (dilation, dilation), LAYOUT
    )


def gradients(function, dilation):
    """Jitted (x, kernel, weights) -> value and both gradients."""

    def run(x, kernel, weights):
        value, backward = jax.vjp(lambda x, kernel: function(x, kernel, dilation), x, kernel)
        return value, backward(weights)

    return jax.jit(run)


def seconds(function, arguments, repeats):
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def disagreement(ours, theirs):
    def norm(x):  # noqa: E731
        return jnp.linalg.norm(x.astype(jnp.float32))

    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return max(float(norm(a.astype(jnp.float32) - b) / norm(b)) for a, b in pairs)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    parser.add_argument(
        '--size', type=int, default=21, help='side of the features; 21 for 161 pixels, 41 for 321'
    )
    parser.add_argument('--batch', type=int, default=8, help='images')
    parser.add_argument('--repeats', type=int, default=11, help='runs that the median is of')


def main(flags) -> None:
    """Time the convolutions and print the table."""
    print(
        f'jax {jax.__version__}, {jax.default_backend()}, {flags.batch} x {flags.size} x {flags.size}'
    )
    print('| in, out, dilation | XLA float32 | ours float32 | ours bfloat16 |\n|---|---|---|---|')
    for channels, features, dilation in LAYERS:
        keys = jax.random.split(jax.random.key(0), 3)
        shapes = (
            (flags.batch, flags.size, flags.size, channels),
            (3, 3, channels, features),
            (flags.batch, flags.size, flags.size, features),
        )
        wide = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        half = [x.astype(jnp.bfloat16) for x in wide]
        theirs, ours = gradients(xla, dilation), gradients(convolve, dilation)
        for arguments, tolerance in ((wide, 1e-4), (half, 0.02)):
            worst = disagreement(ours(*arguments), theirs(*wide))
            assert worst < tolerance, f'{channels}, {features}, {dilation}: {worst} from XLA'
        base = seconds(theirs, wide, flags.repeats)
        times = [base / seconds(ours, arguments, flags.repeats) for arguments in (wide, half)]
        print(
            f'| {channels}, {features}, {dilation} | {base * 1e3:.0f} ms | {times[0]:.1f} x | {times[1]:.1f} x |'
        )


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, main)
    command_line.run(script, prog='simpropnet bench convolution')
