"""The input of training dispatches: a streamed batch, or the numbers of images that are on the device."""

import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from simpropnet_jax.episodes import decoded, loader, resident
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.run import TrainingRun
from simpropnet_jax.training.state import Group, make_group_step, make_step

logger = logging.getLogger(__name__)


class Feed:
    """Decide where the training images are kept, and bring them to the training step.

    Attributes:
      resident: whether the images stay on the device; else they are streamed.
      decoded: whether they are streamed from files of decoded images; else the loader decodes them.
      images: number of images.
      bytes: bytes that they take, or would take, on each device.
      files: the files of decoded images, of the whole image list: all folds share them.
      gather: (resident images, numbers) -> the batch.
      steps_per_dispatch: most steps of one dispatch.
    """

    def __init__(self, run: TrainingRun, mesh: jax.sharding.Mesh):
        """Plan the feed; nothing is read yet.

        Raises:
          ValueError: the images do not fit where the config wants them.
        """
        self._source, self._sampler, self._mesh, plan = run.source, run.sampler, mesh, run.loading
        self._plan, self._sizes = plan, plan.sizes
        if run.method.episodic:
            self._stream, self._numbers = loader.train_batches, loader.train_numbers
            self._from_files, gather = decoded.episode_batches, resident.gather_episodes
        else:
            self._stream, self._numbers = loader.supervised_batches, loader.supervised_numbers
            self._from_files, gather = decoded.labelled_batches, resident.gather_labelled
        self.gather = functools.partial(gather, **self._sizes)
        self._listed = np.unique(run.sampler.pairs.image)
        self.images = len(self._listed)
        self.bytes = resident.bytes_of(self.images, tuple(self._sizes.values()))
        self.resident = resident.is_wanted(plan.residency, self.bytes)
        whole_list = np.flatnonzero(run.source.index.lists[plan.image_list])
        self.files = decoded.DecodedFiles(
            run.source, whole_list, self._sizes.values(), decoded.folder()
        )
        self.decoded = not self.resident and decoded.is_wanted(plan.decoded, self.files)
        self.steps_per_dispatch = plan.steps_per_dispatch

    def make_step(self, objective: Callable, optimizer) -> Callable:
        """Return the jitted step (state, batch) -> (state, metrics) for the batches of `groups`; see state.py."""
        shared = dict(seed=self._plan.seed, mesh=self._mesh)
        if not self.resident:
            return make_step(objective, optimizer, **shared)
        return make_group_step(objective, optimizer, self.gather, self.steps_per_dispatch, **shared)

    def load(self, progress: Progress | None = None) -> None:
        """Read resident images, or write the files of decoded ones; do nothing for images that the loader decodes.

        Args:
          progress: is told how many images have been read.
        Raises:
          ValueError: names an image that cannot be decoded.
          OSError: the files cannot be written, and config.data.decoded is 'always'.
        """
        how = dict(backend=self._plan.backend, workers=self._plan.workers, progress=progress)
        if self.resident:
            sizes = tuple(self._sizes.values())
            self._loaded = resident.load(self._source, self._listed, sizes, self._mesh, **how)
        elif self.decoded:
            try:
                self._loaded = self.files.open(**how)
            except OSError as error:
                if self._plan.decoded == 'always':
                    raise
                logger.warning('%s. Images are decoded while they are streamed', error)
                self.decoded = False

    def groups(self, first: int, counts: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """Yield the number of steps of every dispatch and its batch on the devices, after `load`.

        Args:
          first: first step.
          counts: steps of each dispatch, at most `steps_per_dispatch`.
        """
        shared = dict(
            batch=self._plan.batch,
            first_step=first,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        if self.resident:
            return _ahead(self._grouped(self._numbers(self._sampler, **shared), counts))
        return self._streamed(shared, counts)

    def _streamed(self, shared, counts):
        how = dict(workers=self._plan.workers, **self._sizes)
        if self.decoded:
            numbers = self._numbers(self._sampler, **shared)
            batches = self._from_files(self._loaded, numbers, **how)
        else:
            how |= dict(backend=self._plan.backend, **shared)
            batches = self._stream(self._source, self._sampler, **how)
        with contextlib.closing(batches):
            yield from zip(counts, sharding.prefetch(self._mesh, batches), strict=False)

    def _grouped(self, numbers, counts):
        """Stack the numbers of several steps; pad a short group with its last step's numbers, which are not used."""
        for count in counts:
            steps = list(itertools.islice(numbers, count))
            steps += steps[-1:] * (self.steps_per_dispatch - count)
            stacked = {name: np.stack([one[name] for one in steps]) for name in steps[0]}
            yield (
                count,
                Group(
                    self._loaded, sharding.to_devices(self._mesh, stacked, axis=1), np.int32(count)
                ),
            )


def _ahead(items: Iterator) -> Iterator:
    """Yield the items while another thread makes the next one: a dispatch may wait for the device."""
    with ThreadPoolExecutor(1, thread_name_prefix='numbers') as maker:
        coming = maker.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = maker.submit(next, items, None)
            yield item
