"""Devices and hosts: one data axis over all of them."""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def start_hosts() -> None:
    """Joins the hosts of a multi-host run where SIMPROPNET_MULTIHOST=1; must come before any other use of JAX.

    On a cluster that JAX knows (Cloud TPU, Slurm, ...) nothing else is needed; elsewhere JAX_COORDINATOR_ADDRESS,
    JAX_NUM_PROCESSES and JAX_PROCESS_ID say who is who.
    """
    if os.environ.get('SIMPROPNET_MULTIHOST') != '1':
        return
    count, number = os.environ.get('JAX_NUM_PROCESSES'), os.environ.get('JAX_PROCESS_ID')
    jax.distributed.initialize(
        num_processes=int(count) if count else None, process_id=int(number) if number else None
    )


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
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


def prefetch(mesh: Mesh, batches: Iterable[dict[str, np.ndarray]], ahead: int = 2) -> Iterator[dict[str, jax.Array]]:
    """Batches on the devices, `ahead` of them already under way while one is used."""
    batches = iter(batches)
    waiting = collections.deque(to_devices(mesh, batch) for batch in itertools.islice(batches, ahead))
    while waiting:
        yield waiting.popleft()
        waiting.extend(to_devices(mesh, batch) for batch in itertools.islice(batches, 1))
