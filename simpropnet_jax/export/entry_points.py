"""A trained method as three functions of arrays, with its weights inside: what is exported."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.export import symbolic_shape

from simpropnet_jax import experiment, parallel
from simpropnet_jax.images import FOREGROUND, VOID
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

    encode(images u8 RGB [batch, S, S, 3]) -> features, one array, or several where a method has several levels;
    probe(features [batch, shots, h, w, C], labels u8 [batch, shots, S, S]: 1, 0, and 255 for void) -> a small array or
    two; decode(features [batch, h, w, C], these) -> logits [batch, S, S, 2] and the foreground's probability
    [batch, S, S], where S is `config.eval.size`, and both are float32.
    """
    module, convention, size = method.module, method.config.model.convention, method.config.eval.size
    run = lambda name, *arrays: module.apply(variables, *arrays, method=name)
    encoded = lambda pictures: run('encode', normalise(pictures, convention))
    of = lambda example, named: jax.tree.unflatten(jax.tree.structure(example), named)

    def encode(images):
        return by_name(encoded(images), 'features')

    def probe(labels, **features):
        masks = (labels == FOREGROUND).astype(jnp.float32)
        valid = (labels != VOID).astype(jnp.float32)
        return by_name(run('probe', of(queries, [features[name] for name in seen]), masks, valid), 'probe')

    def decode(**given):
        features, own = (of(one, [given[name] for name in names]) for one, names in ((queries, seen), (support, kept)))
        logits = resize_bilinear(run('decode', features, own).astype(jnp.float32), (size, size))
        return {'logits': logits, 'probability': jax.nn.sigmoid(logits[..., 1] - logits[..., 0])}

    batch, shots = symbolic_shape(', '.join(OPEN))
    pictures = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    queries = jax.eval_shape(encoded, pictures)
    supports = jax.tree.map(lambda x: jax.ShapeDtypeStruct((batch, shots, *x.shape[1:]), x.dtype), queries)
    masks = jax.ShapeDtypeStruct((batch, shots, size, size), jnp.float32)
    support = jax.eval_shape(lambda *given: run('probe', *given), supports, masks)
    seen, kept = by_name(queries, 'features'), by_name(support, 'probe')
    given = by_name(supports, 'features') | {'labels': jax.ShapeDtypeStruct(masks.shape, jnp.uint8)}
    found = {
        'encode': (encode, {'images': pictures}, seen),
        'probe': (probe, given, kept),
        'decode': (decode, seen | kept, jax.eval_shape(decode, **seen, **kept)),
    }
    return {name: EntryPoint(*parts) for name, parts in found.items()}


def by_name(arrays, alone: str) -> dict:
    """What a method's encode or probe gives: the arrays of a named tuple by their fields, a single one by this name."""
    return arrays._asdict() if hasattr(arrays, '_asdict') else {alone: arrays}
