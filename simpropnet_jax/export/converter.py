"""Write a method's entry points as ONNX files; `simpropnet_jax.export.onnx` runs it with the converter on the path.

python -m simpropnet_jax.export.converter WORKDIR CHECKPOINT OPSET OUT
"""

import logging
import sys
from pathlib import Path

import jax
import jax.extend
import jax2onnx
from jax2onnx.plugins.jax.lax.reduce_window_max import ReduceWindowMaxPrimitivePlugin

from simpropnet_jax.export.entry_points import EntryPoint, entry_points, in_float32, load_method
from simpropnet_jax.ops.convolve import tracing_for
from simpropnet_jax.runtime import paths


def main(workdir: str, which: str, opset: str, out: str) -> None:
    """Write the .onnx files of a trained method; `onnx` runs this in a separate process."""
    logging.getLogger('jax2onnx').setLevel(
        logging.CRITICAL
    )  # plugins for libraries that are not installed
    ReduceWindowMaxPrimitivePlugin.lower = _max_pool
    method, variables, _ = load_method(paths.parse(workdir), which)
    for name, entry_point in entry_points(in_float32(method), variables).items():
        convert(entry_point, int(opset), Path(out, f'{name}.onnx'))


def convert(entry_point: EntryPoint, opset: int, path: Path) -> None:
    """Write one function; its inputs and outputs are named as in the entry point."""

    def flat(*arrays):
        found = entry_point.function(**dict(zip(entry_point.inputs, arrays, strict=True)))
        return tuple(found[name] for name in entry_point.outputs)

    shapes = tuple(entry_point.inputs.values())
    # The converter replaces functions of jax.numpy and flax by its own; in a jaxpr it sees only primitives.
    with tracing_for('onnx'):
        jaxpr = jax.make_jaxpr(flat)(*shapes)
    model = jax2onnx.to_onnx(
        jax.extend.core.jaxpr_as_fun(jaxpr),
        shapes,
        opset=opset,
        input_names=list(entry_point.inputs),
        output_names=list(entry_point.outputs),
    )
    path.write_bytes(
        model.SerializeToString()
    )  # the converter's default puts weights into a separate file


def _max_pool(self, context, equation):
    """Convert max pooling of [N, h, w, C]; the converter's version uses 4-D windows, which onnxruntime lacks."""
    (x,), (result,) = equation.invars, equation.outvars

    def inner(values):
        return tuple(values)[1:3]

    before, after = zip(*inner(equation.params['padding']), strict=True)
    build, name = context.builder, context.fresh_name
    channels_first = build.Transpose(
        context.get_value_for_var(x), perm=(0, 3, 1, 2), _outputs=[name('pool_in')]
    )
    pooled = build.MaxPool(
        channels_first,
        kernel_shape=inner(equation.params['window_dimensions']),
        strides=inner(equation.params['window_strides']),
        pads=(*before, *after),
        _outputs=[name('pool')],
    )
    context.bind_value_for_var(
        result, build.Transpose(pooled, perm=(0, 2, 3, 1), _outputs=[name('pool_out')])
    )


if __name__ == '__main__':
    main(*sys.argv[1:])
