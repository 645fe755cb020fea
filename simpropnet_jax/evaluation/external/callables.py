"""Score any Python callable on the episodes that our own methods are evaluated on, with the same result files.

def mine(supports, query):                  # SupportSet, uint8 [H, W, 3]
    return query.mean(-1) > 128             # a mask or probabilities, of the query's size or any square

evaluate(mine, 'hsnet', fold=2)
"""

import itertools
import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from ml_collections import ConfigDict
from PIL import Image

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes.loader import binary_label, own_images, own_labels
from simpropnet_jax.episodes.protocols import Protocol, protocol_hash
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation import shared_pictures
from simpropnet_jax.evaluation.external import predictions, scoring
from simpropnet_jax.evaluation.external.journal import Journal
from simpropnet_jax.evaluation.external.maps import as_map
from simpropnet_jax.evaluation.results.naming import protocol_word
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.runtime.paths import AnyPath
from simpropnet_jax.runtime.progress import Progress
from simpropnet_jax.setup.data import data_word, evaluation_episodes, open_data

logger = logging.getLogger(__name__)

READERS = 2  # threads that decode ahead


class SupportSet(NamedTuple):
    """The supports of one class, as a callable gets them.

    Attributes:
      images: uint8 [H, W, 3] each, RGB.
      masks: bool [H, W] each, true on the object.
      void: bool [H, W] each, true on unlabelled pixels; all false where the protocol counts void as background.
      class_id, class_name: class of the object, e.g. 8 and 'cat'.
    """

    images: list[UInt8[np.ndarray, '...']]
    masks: list[Bool[np.ndarray, '...']]
    void: list[Bool[np.ndarray, '...']]
    class_id: int
    class_name: str


class Options(NamedTuple):
    """How a callable is used.

    Attributes:
      name: the method's name in results.
      size: side of the squares that images are stretched to; None: their own sizes.
      batch: most episodes in a call, which then has lists; 0: no lists.
      restart: whether to forget what an unfinished evaluation has done.
    """

    name: str
    size: int | None
    batch: int
    restart: bool


class Case(NamedTuple):
    """An episode to be segmented: a support set for each of its classes, the query, and the query's label."""

    supports: list[SupportSet]
    query: UInt8[np.ndarray, 'H W 3']
    label: UInt8[np.ndarray, '...']


def evaluate_callable(
    predictor: Callable[..., Any],
    config: ConfigDict,
    workdir: AnyPath,
    options: Options,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a callable on the episodes of `config.eval`; see `simpropnet_jax.evaluate`.

    Args:
      workdir: the result goes to eval/ in it.
    Returns:
      The record that was written.
    Raises:
      ValueError, OSError: in one sentence, what is wrong. What the callable raises is passed on; the same call resumes.
    """
    config_rules.validate(config, devices=1)
    source = open_data(config)
    protocol, sets = evaluation_episodes(config, source)
    _share_gpu()
    path = workdir / 'eval' / _result_name(config, options)
    # Sets share episodes: each is segmented once.
    groups = {key: scoring.split_episodes(drawn, protocol.ways) for key, drawn in sets.items()}
    distinct = list(dict.fromkeys(tuple(one) for drawn in groups.values() for one in drawn))
    every = (episode for drawn in sets.values() for episode in drawn)
    about = {
        'method': options.name,
        'size': options.size,
        'hash': protocol_hash(every, source.ids),
        'resolution': protocol.resolution,
        'void': protocol.void,
        'episodes': len(distinct),
    }
    journal = Journal(path.with_suffix('.unfinished.jsonl'), about, options.restart)
    if journal.done:
        logger.info('resuming: %d of %d episodes are done', len(journal.done), len(distinct))
    place = {one: number for number, one in enumerate(distinct)}
    chosen = shared_pictures.choose(protocol, config.fold, sets)
    shown = {place[(one.episode,)]: one for one in chosen}

    def draw(number, maps):
        if number in shown:
            folder = shared_pictures.folder_beside(path)
            shared_pictures.write(folder, source, shown[number], maps[0] > 0.5)

    speeds = _segment(predictor, distinct, journal, (source, protocol), options, draw, progress)
    counts = {
        key: [row for one in drawn for row in journal.done[place[tuple(one)]]]
        for key, drawn in groups.items()
    }
    classes = source.index.novel_classes(config.fold)
    shots, kept = scoring.of_shots(sets, counts, protocol, source, classes)
    result = {
        'shots': shots,
        'classes': [source.class_names[c] for c in classes],
        'void': protocol.void,
        'size': options.size,
        'label_size': None if protocol.resolution == 'own' else protocol.resolution,
        'images': len({one[0].query for one in distinct}),
        'inputs': 'episodes',
        'episodes_per_second': speeds,
        'program': _program(predictor),
    }
    provenance = {
        'method': options.name,
        'fold': config.fold,
        'data': data_word(config),
        'selection': 'none',
    }
    measured = (protocol, sets, source)
    record = predictions.write_record(path, result, kept, config, measured, provenance)
    journal.remove()
    logger.info('result: %s', path)
    return record


def _result_name(config, options):
    side = [f'{options.size}px'] if options.size else []
    words = [protocol_word(config), f'fold{config.fold}', *side, options.name]
    return re.sub(r'[^\w.+-]+', '_', '_'.join(words)) + '.json'


def _share_gpu() -> None:
    """Keep JAX, if it has not started, from reserving most of a GPU's memory, which another library needs."""
    if set(sys.modules) & {'torch', 'tensorflow'}:
        os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')


def _program(predictor) -> dict[str, Any]:
    """Return the callable's entry in a result file: its name in Python, and PyTorch's version and device if loaded."""
    found = {'name': getattr(predictor, '__qualname__', type(predictor).__qualname__)}
    torch = sys.modules.get('torch')
    if torch is not None:
        found['torch'] = torch.__version__
        found['gpu'] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return found


def _segment(predictor, distinct, journal, measured, options, draw, progress):
    """Segment the episodes that are not done; returns {shot: episodes per second} of this call."""
    (source, protocol), speeds = measured, {}
    for shot in sorted({len(one[0].supports) for one in distinct}):
        numbers = [n for n, one in enumerate(distinct) if len(one[0].supports) == shot]
        waiting = [number for number in numbers if number not in journal.done]
        done, seconds = len(numbers) - len(waiting), 0.0

        def read(number):
            return number, read_case(source, distinct[number], protocol, options.size)

        for cases in _chunks(_ahead(read, waiting), max(options.batch, 1)):
            started = time.perf_counter()
            maps = _call(predictor, [case for _, case in cases], options)
            seconds += time.perf_counter() - started
            maps = _checked(cases, maps, protocol, options.name)
            counts = {}
            for (number, case), one in zip(cases, maps, strict=True):
                class_ids = [episode.class_id for episode in distinct[number]]
                counts[number] = scoring.count(one, case.label, class_ids, protocol)
                draw(number, one)
            journal.add(counts)
            done += len(cases)
            if progress:
                progress(f'{shot}-shot episodes', done, len(numbers))
        speeds[str(shot)] = len(waiting) / seconds if seconds else None
    return speeds


def read_case(
    source, episode: Sequence[Episode], protocol: Protocol, size: int | None = None
) -> Case:
    """Read the images of an episode.

    Args:
      episode: an entry for each class of the episode.
      protocol: `void` is read.
      size: side of the squares that images and masks are stretched to; None: their own sizes.
    """
    query, label = _read(source, episode[0].query, None)
    return Case(
        [_supports(source, one, protocol.void, size) for one in episode],
        query if size is None else _stretched(query, size),
        label,
    )


def _supports(source, episode, void, size) -> SupportSet:
    images, labels = zip(*(_read(source, n, size) for n in episode.supports), strict=True)
    unknown = [(label == VOID) & (void == 'ignore') for label in labels]
    masks = [binary_label(label, episode.class_id) == FOREGROUND for label in labels]
    name = source.class_names[episode.class_id]
    return SupportSet(list(images), masks, unknown, episode.class_id, name)


def _read(source, number, size):
    image, label = own_images(source, [number])[0], own_labels(source, [number])[0]
    if size is None:
        return image, label
    return _stretched(image, size), scoring.resized(label, (size, size))


def _stretched(image, size):
    """Stretch an image to a square as the loader does."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.BILINEAR))


def _call(predictor, cases, options) -> list[list[Any]]:
    """Return what the callable answers for each class of each case."""
    asked = [(supports, case.query) for case in cases for supports in case.supports]
    if options.batch:
        answers = predictor(*(list(part) for part in zip(*asked, strict=True)))
        if len(answers) != len(asked):
            raise ValueError(
                f'{options.name} returned {len(answers)} maps for {len(asked)} queries: return one for each'
            )
    else:
        answers = [predictor(*one) for one in asked]
    found = iter(answers)
    return [list(itertools.islice(found, len(case.supports))) for case in cases]


def _checked(cases, answers, protocol, name) -> list[list[np.ndarray]]:
    """Return the answers for each class of each case as maps."""
    side = () if protocol.resolution == 'own' else ((protocol.resolution,) * 2,)
    found = []
    for (_, case), maps in zip(cases, answers, strict=True):
        sizes = (case.query.shape[:2], case.label.shape, *side)
        try:
            found.append([as_map(one, sizes) for one in maps])
        except ValueError as error:
            raise ValueError(f'{name} returned {error}') from error
    return found


def _ahead(read: Callable, items: Iterable) -> Iterator:
    """Yield `read` of every item, in order, computed by threads a little ahead."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > 2 * READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk
