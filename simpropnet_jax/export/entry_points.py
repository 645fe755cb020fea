"""A trained method as three functions of arrays, with its weights inside: what is exported."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.export import symbolic_shape

from simpropnet_jax import experiment, images, parallel
from simpropnet_jax.models.layers import resize_bilinear
from simpropnet_jax.models.normalise import normalise
from simpropnet_jax.paths import AnyPath

OPEN = ('batch', 'shots')
"""Sizes that may be another in every call."""

Arrays = dict[str, jax.ShapeDtypeStruct]


@dataclass(frozen=True)
class EntryPoint:
    """A function of arrays to arrays by name; in the shapes of both, the sizes of `OPEN` are symbols."""

    function: Callable[..., dict[str, jax.Array]]
    inputs: Arrays
    outputs: Arrays


def load_method(workdir: AnyPath, which: str) -> tuple[experiment.Method, dict, int | None]:
    """The few-shot method of a work directory, its variables on the host, and the step of the checkpoint.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError: it is not a work directory, holds a supervised network, or no such checkpoint or no readable one.
    """
    method = experiment.prepare_method(experiment.stored_config(workdir), workdir)
    experiment.require_few_shot(method, workdir)
    variables, step = experiment.load_variables(method, workdir, which, parallel.make_mesh())
    return method, jax.device_get(variables), step


def in_float32(method: experiment.Method) -> experiment.Method:
    """The method computing in float32, whatever its config says."""
    return replace(method, module=method.module.clone(dtype=jnp.float32))


def entry_points(method: experiment.Method, variables: dict) -> dict[str, EntryPoint]:
    """encode, probe and decode of a method.

    encode(images u8 RGB [batch, S, S, 3]) -> features;
    probe(features [batch, shots, h, w, C], labels u8 [batch, shots, S, S]: 1, 0, and 255 for void) -> a small array or
    two; decode(features [batch, h, w, C], these) -> logits [batch, S, S, 2] and the foreground's probability
    [batch, S, S], where S is `config.eval.size`, and both are float32.
    """
    module, convention, size = method.module, method.config.model.convention, method.config.eval.size
    run = lambda name, *arrays: module.apply(variables, *arrays, method=name)

    def encode(pictures):
        return {'features': run('encode', normalise(pictures, convention))}

    def probe(features, labels):
        masks = (labels == images.FOREGROUND).astype(jnp.float32)
        valid = (labels != images.VOID).astype(jnp.float32)
        return by_name(run('probe', features, masks, valid))

    def decode(features, **probe):
        logits = run('decode', features, jax.tree.unflatten(structure, [probe[name] for name in kept]))
        logits = resize_bilinear(logits.astype(jnp.float32), (size, size))
        return {'logits': logits, 'probability': jax.nn.sigmoid(logits[..., 1] - logits[..., 0])}

    batch, shots = symbolic_shape(', '.join(OPEN))
    pictures = {'images': jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)}
    queries = jax.eval_shape(encode, pictures['images'])
    of_query = queries['features']
    supports = {
        'features': jax.ShapeDtypeStruct((batch, shots, *of_query.shape[1:]), of_query.dtype),
        'labels': jax.ShapeDtypeStruct((batch, shots, size, size), jnp.uint8),
    }
    masks = jax.ShapeDtypeStruct((batch, shots, size, size), jnp.float32)
    own = jax.eval_shape(lambda *given: run('probe', *given), supports['features'], masks)
    structure, kept = jax.tree.structure(own), by_name(own)
    found = {
        'encode': (lambda images: encode(images), pictures, queries),
        'probe': (probe, supports, kept),
        'decode': (decode, queries | kept, jax.eval_shape(decode, **queries, **kept)),
    }
    return {name: EntryPoint(*parts) for name, parts in found.items()}


def by_name(probe) -> dict:
    """The arrays of a method's probe: those of a named tuple by their fields, a single one as 'probe'."""
    return probe._asdict() if hasattr(probe, '_asdict') else {'probe': probe}
