"""Devices and hosts: one data axis over all of them."""

import collections
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh() -> Mesh:
    """All devices of all hosts along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """One axis, the first by default, split over the devices."""
    return NamedSharding(mesh, P(*[None] * axis, 'data'))


def to_devices(mesh: Mesh, batch: dict[str, np.ndarray], axis: int = 0) -> dict[str, jax.Array]:
    """This host's share of a batch, as global arrays split over the devices along an axis."""
    sharding = sharded(mesh, axis)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def place(arrays: Any, sharding: NamedSharding) -> Any:
    """Host arrays that every host has, the whole of each, as global arrays.

    Nothing crosses the network; `jax.device_put` would send all of them, to compare what the hosts have.
    """

    def whole(x):
        return jax.make_array_from_process_local_data(sharding, x, x.shape)

    return jax.tree.map(whole, arrays)


def prefetch(
    mesh: Mesh, batches: Iterable[dict[str, np.ndarray]], ahead: int = 2
) -> Iterator[dict[str, jax.Array]]:
    """Batches on the devices, `ahead` of them already under way while one is used."""
    batches = iter(batches)
    waiting = collections.deque(
        to_devices(mesh, batch) for batch in itertools.islice(batches, ahead)
    )
    while waiting:
        yield waiting.popleft()
        waiting.extend(to_devices(mesh, batch) for batch in itertools.islice(batches, 1))
