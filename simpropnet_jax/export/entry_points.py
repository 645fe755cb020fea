"""A trained method as three functions of arrays that contain its weights: the functions to export."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.export import symbolic_shape

from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.ops.resize import resize_bilinear
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.setup.method import Method, require_few_shot
from simpropnet_jax.setup.run import prepare_method
from simpropnet_jax.setup.weights import load_variables

OPEN = ('batch', 'shots')
"""Sizes that may change in every call."""

Arrays = dict[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True)
class EntryPoint:
    """A function from arrays to arrays, by name; in the shapes of both, the sizes of `OPEN` are symbols."""

    function: Callable[..., dict[str, jax.Array]]
    inputs: Arrays
    outputs: Arrays


def load_method(workdir: AnyPath, which: str) -> tuple[Method, dict, int | None]:
    """Load the few-shot method of a work directory, its variables on the host, and the step of the checkpoint.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError: it is not a work directory, holds a supervised network, or lacks a readable checkpoint.
    """
    method = prepare_method(None, workdir)
    require_few_shot(method, workdir)
    variables, step = load_variables(method, workdir, which, sharding.make_mesh())
    return method, jax.device_get(variables), step


def in_float32(method: Method) -> Method:
    """Return the method in float32, whatever its config says."""
    return replace(method, module=method.module.clone(dtype=jnp.float32))


def entry_points(method: Method, variables: dict) -> dict[str, EntryPoint]:
    """Return encode, probe and decode of a method.

    encode(images u8 RGB [batch, S, S, 3]) -> features, and in some methods an array or two more;
    probe(features [batch, shots, h, w, C], labels u8 [batch, shots, S, S]: 1, 0, and 255 for void) -> a small array or
    two; decode(features [batch, h, w, C], these) -> logits [batch, S, S, 2] and the foreground's probability
    [batch, S, S], where S is `config.eval.size`, and both are float32.
    """
    module, convention, size = (
        method.module,
        method.config.model.convention,
        method.config.eval.size,
    )

    def run(name, *arrays):
        return module.apply(variables, *arrays, method=name)

    def encoded(pictures):
        return run('encode', normalise(pictures, convention))

    def probe(labels, **features):
        masks = (labels == FOREGROUND).astype(jnp.float32)
        valid = (labels != VOID).astype(jnp.float32)
        return by_name(
            run('probe', from_names(of_query, features, 'features'), masks, valid), 'probe'
        )

    def decode(**given):
        logits = run(
            'decode', from_names(of_query, given, 'features'), from_names(own, given, 'probe')
        )
        logits = resize_bilinear(logits.astype(jnp.float32), (size, size), module.grid.half_pixel)
        return {'logits': logits, 'probability': jax.nn.sigmoid(logits[..., 1] - logits[..., 0])}

    batch, shots = symbolic_shape(', '.join(OPEN))
    pictures = {'images': jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)}
    of_query = jax.eval_shape(encoded, pictures['images'])
    of_support = jax.tree.map(
        lambda f: jax.ShapeDtypeStruct((batch, shots, *f.shape[1:]), f.dtype), of_query
    )
    masks = jax.ShapeDtypeStruct((batch, shots, size, size), jnp.float32)
    own = jax.eval_shape(lambda *given: run('probe', *given), of_support, masks)
    queries, kept = by_name(of_query, 'features'), by_name(own, 'probe')
    supports = by_name(of_support, 'features') | {
        'labels': jax.ShapeDtypeStruct(masks.shape, jnp.uint8)
    }
    found = {
        'encode': (lambda images: by_name(encoded(images), 'features'), pictures, queries),
        'probe': (probe, supports, kept),
        'decode': (decode, queries | kept, jax.eval_shape(decode, **queries, **kept)),
    }
    return {name: EntryPoint(*parts) for name, parts in found.items()}


def by_name(arrays, alone: str) -> dict:
    """Return the arrays of features or a probe by name: keys of a dict or named tuple, or `alone` for one array."""
    if isinstance(arrays, dict):
        return arrays
    return arrays._asdict() if hasattr(arrays, '_asdict') else {alone: arrays}


def from_names(like, given: dict, alone: str):
    """Undo `by_name` for a structure like `like`; `given` may contain more arrays."""
    if isinstance(like, dict):
        return {name: given[name] for name in like}
    return (
        like._replace(**{name: given[name] for name in like._fields})
        if hasattr(like, '_fields')
        else given[alone]
    )
