"""Time an evaluation against plain PyTorch ones, after checking that all count the same pixels.

    simpropnet bench evaluation --config simpropnet:fold=1 --config.data.name=pascal5i/subset
    simpropnet bench evaluation --checkpoint runs/fold1 --config.eval.shots='(1,)'          (trained weights)
    simpropnet bench evaluation --config canet:fold=1 --config.data.loader=threads   (no TensorFlow)

Needs PyTorch and a prepared data set. It uses the episodes of one seed of the protocol: 1,000 of 'simpropnet'.
Without --checkpoint the head is random, which takes as long. Timed is all that an evaluation does but for compilation:
decoding, stretching, networks, counting. Against ours stand

    PyTorch, loop      each episode decodes and encodes its query and its supports
    PyTorch, cached    each image is decoded and encoded once, and its features are kept, as ours are

both with decoding ahead in threads. As each episode costs the loop the same, --loop_episodes may be fewer than all: its
time is then multiplied, and its row says so. First, ours and both are held against each other in float32 on the first
episodes (--check), pixel by pixel; after timing, their mIoU over all. The table says how many times as fast as each it
is; the JSON file (--out) also the runs, where our time goes, versions, hardware, our peak memory, and the bytes that
the features of an image take in float32, also for the method with the most.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import measure
from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.cli import run_folder
from simpropnet_jax.config import command_line, recipes
from simpropnet_jax.config.rules import stored_config
from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.evaluation import run
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.data import evaluation_episodes, open_data
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import EvaluationRun, prepare_method
from simpropnet_jax.setup.weights import load_variables

# What a config may not change, as the peer has nothing else.
FIXED = {'eval.scales': (1.0,), 'eval.random_support': False, 'eval.refinement': 'fixed'}
GPU_SETTINGS = ('eager', 'channels_last+autocast', 'compile+channels_last+autocast')
WIDEST = 'prototype'  # the method whose features of an image take the most bytes
TOLERANCE = 1e-3  # of mIoU, and of the share of pixels that may differ


class Work(NamedTuple):
    """What is evaluated; `protocol` and `sets` as `evaluation_episodes` gives them, but one set a shot."""

    method: Method
    params: dict
    source: Any
    protocol: Any
    sets: dict


def main(
    config: ConfigDict | None,
    workdir: Path | None = None,
    settings: Sequence[str] = (),
    dtypes: Sequence[str] = (),
    repeats: int = 3,
    check: int = 50,
    peer_batch: int = 1,
    loop_episodes: int = 0,
    out: Path | None = None,
    which: str = 'best',
) -> dict[str, Any]:
    """Check, time, print the table and write the JSON file.

    Args:
      config: None: the work directory's.
      workdir: work directory with trained weights; None: a random head.
      settings: of PyTorch, see `measure.WORDS`; (): eager on a CPU, several on a GPU.
      dtypes: of ours, 'float32' or 'bfloat16'; (): the former on a CPU, both on a GPU.
      repeats: timed evaluations.
      check: episodes that are compared before.
      peer_batch: episodes that PyTorch's loop segments at a time.
      loop_episodes: that PyTorch's loop is timed on, the first ones, as if for all; 0: all.
      out: the JSON file; None: none.
      which: checkpoint of the work directory, 'best', 'latest' or a step.
    Returns: what is written.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, or that both sides do not compute the same.
    """
    measure.require_torch()
    for flag, value in (('repeats', repeats), ('check', check), ('peer_batch', peer_batch)):
        measure.whole_numbers(flag, [value])
    work = prepare(config, workdir, which)
    settings = measure.chosen_settings(settings, GPU_SETTINGS)
    dtypes = measure.chosen_dtypes(dtypes)
    ours = {(shot, dtype): Ours(work, shot, dtype) for shot, _ in work.sets for dtype in dtypes}
    first = {key: measure.clock(one) for key, one in ours.items()}
    memory = measure.peak_memory()  # before PyTorch is imported
    device = measure.torch_device()
    checked = {str(shot): compare_first(work, shot, check, device) for shot, _ in work.sets}
    record = facts(work) | {
        'checked': checked,
        'peak_memory': memory,
        **measure.machine(),
        'shots': {},
    }
    for shot, _ in work.sets:
        contestants = {f'ours {dtype}': one for (own, dtype), one in ours.items() if own == shot}
        for setting in settings:
            contestants |= peers(
                work, shot, device, setting, peer_batch, loop_count=loop_episodes or None
            )
        times = measure.take_turns(
            contestants, repeats, {name: one.warm for name, one in contestants.items()}
        )
        count = len(class_ids(work, shot))
        times = {
            name: own.scaled(count / len(contestants[name].last)) for name, own in times.items()
        }
        for dtype in dtypes:  # compiled before PyTorch was imported
            own = times[f'ours {dtype}']
            times[f'ours {dtype}'] = own._replace(
                compilation=max(first[shot, dtype] - own.median, 0.0)
            )
        record['shots'][str(shot)] = result_of(work, shot, contestants, times)
    print(table(record))
    if out:
        checkpoint.write_json(out, record)
    return record


def prepare(config: ConfigDict | None, workdir: Path | None, which: str = 'best') -> Work:
    """Weights, data, and the episodes of the protocol's first seed.

    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if config is None and workdir is None:
        raise ValueError(
            '--config is missing; --help says what it is (or give --checkpoint, a run with its own)'
        )
    config = ConfigDict((stored_config(workdir) if config is None else config).to_dict())
    measure.refuse_what_the_peer_lacks(config, FIXED)
    config.eval.own_size = False
    with tempfile.TemporaryDirectory() as nothing:
        method = prepare_method(config, workdir or Path(nothing))
    source = open_data(method.config)
    protocol, sets = evaluation_episodes(method.config, source)
    if protocol.resolution == 'own':
        raise ValueError(
            f'the benchmark compares masks on squares: the protocol {protocol.name!r} does not'
        )
    seed = next(seed for _, seed in sets)
    if workdir is None:
        params = random_params(method, source, next(iter(sets.values())))
    else:
        params = load_variables(method, workdir, which, measure.one_device())[0]['params']
    return Work(
        method,
        params,
        source,
        protocol,
        {key: drawn for key, drawn in sets.items() if key[1] == seed},
    )


def random_params(method: Method, source, episodes: Sequence) -> dict:
    """Return a random head that predicts foreground for half of the pixels, rather than one class everywhere.

    Args:
      episodes: their first queries give the pixels.
    """
    config, params = method.config, measure.random_params(method)
    size, numbers = config.eval.size, [episode.query for episode in episodes[:4]]
    batch = next(
        image_batches(source, numbers, size=size, batch=len(numbers), backend=config.data.loader)
    )
    masks = (batch['label'] > 0).astype(np.float32)
    logits = jax.jit(method.module.apply)(
        {'params': params}, normalise(batch['image'], config.model.convention), masks
    )
    bias = params['decoder']['logits']['bias']
    bias[1] -= np.median(logits[..., 1] - logits[..., 0])
    return params


class Ours:
    """Our evaluation of one shot; a call reads every image again, and returns int64 [E, 2] like the peers.

    Args:
      dtype: of the computation.
      count: of episodes, the first ones; None: all.
    """

    def __init__(self, work: Work, shot: int, dtype: str, count: int | None = None):
        config = ConfigDict(work.method.config.to_dict())
        config.model.dtype = dtype
        method = Method.from_config(config)
        sets = {key: drawn[:count] for key, drawn in work.sets.items() if key[0] == shot}
        classes = tuple(sorted({e.class_id for drawn in sets.values() for e in drawn}))
        self.shot, self.params = shot, work.params
        self.run = EvaluationRun(
            method, work.source, Path(), 'episodes', work.protocol, sets, classes, None
        )
        self.evaluator = None  # of the first run: its compiled functions serve all runs
        self.seconds: dict[str, float] = {}  # where the time of the last run went

    def __call__(self) -> np.ndarray:
        start = time.perf_counter()
        new = run.prepare_evaluator(self.run, measure.one_device())
        self.seconds = {'read': time.perf_counter() - start}
        self.evaluator = self.evaluator or new
        self.seconds |= self.evaluator.run({'params': self.params})['seconds']
        counts = self.evaluator.episode_counts[self.shot].counts['square']
        self.last = np.stack([counts.intersection, counts.union], -1)
        return self.last

    def warm(self) -> None:
        """Nothing: it has run before."""


def peers(
    work: Work,
    shot: int,
    device: str,
    setting: str,
    batch: int,
    count: int | None = None,
    loop_count: int | None = None,
) -> dict[str, Any]:
    """PyTorch's evaluations of one shot by name; `count` as for `Ours`.

    Args:
      batch: batch size of the loop; the cached evaluation has our batch size.
      loop_count: of the loop's episodes, the first ones; None: all.
    """
    from benchmarks import peer, peer_loops

    config = work.method.config
    episodes = next(drawn for key, drawn in work.sets.items() if key[0] == shot)[:count]
    task = peer_loops.Task(
        work.source,
        episodes,
        config.eval.size,
        work.protocol.resolution,
        work.protocol.void,
        min(os.cpu_count() or 1, 16),
    )  # the same number of threads as ours
    first = replace(task, episodes=episodes[:loop_count])
    network = peer.with_weights(config.model, work.params, device, setting)
    said = f' (of {len(first.episodes)})' * (len(first.episodes) < len(episodes))
    return {
        f'PyTorch, loop, {setting}{said}': peer_loops.Loop(network, first, batch, device, setting),
        f'PyTorch, cached, {setting}': peer_loops.Cached(
            network, task, config.eval.batch, device, setting
        ),
    }


def compare_first(work: Work, shot: int, count: int, device: str) -> dict[str, Any]:
    """Compare the counts of the first episodes in float32, and their mIoU.

    Raises:
      ValueError: more than boundary pixels differ.
    """
    import torch

    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    with jax.default_matmul_precision('highest'):
        ours = Ours(work, shot, 'float32', count)
        counts, found = ours(), {}
    if (
        min(
            ours.evaluator.episode_counts[shot].counts['square'].background_intersection.sum(),
            counts[:, 0].sum(),
        )
        == 0
    ):
        raise ValueError(
            'these weights find only foreground, or none, so pixels that are the same prove nothing'
        )
    for name, evaluation in peers(work, shot, device, 'eager', 1, count).items():
        found[name] = difference(work, shot, counts, evaluation())
    torch.backends.cudnn.allow_tf32 = allowed
    for name, one in found.items():
        if max(one['miou'], one['share_of_pixels']) > TOLERANCE:
            raise ValueError(f'{name} does not compute what we do, so its times say nothing: {one}')
        print(
            f'{shot}-shot, {name}: the first {len(counts)} episodes differ in {one["pixels"]} pixels, '
            f'at most {one["most_of_an_episode"]} of an episode'
        )
    return found


def difference(work: Work, shot: int, counts: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """Pixels that two evaluations count in different ways, and how far their mIoU are apart."""
    pixels = np.abs(counts.astype(np.int64) - others).sum(1)
    classes = class_ids(work, shot)[: len(counts)]
    return {
        'pixels': int(pixels.sum()),
        'most_of_an_episode': int(pixels.max()),
        'share_of_pixels': float(pixels.mean() / work.protocol.resolution**2),
        'miou': abs(miou(counts, classes) - miou(others, classes)),
    }


def class_ids(work: Work, shot: int) -> np.ndarray:
    return np.array(
        [e.class_id for key, drawn in work.sets.items() if key[0] == shot for e in drawn]
    )


def miou(counts: np.ndarray, classes: np.ndarray) -> float:
    """Average intersection over union over the existing classes."""
    sums = [counts[classes == one].sum(0) for one in np.unique(classes)]
    return float(np.mean([intersection / max(union, 1) for intersection, union in sums]))


def facts(work: Work) -> dict[str, Any]:
    """What was evaluated, for the JSON file."""
    config = work.method.config
    size = config.eval.size
    used = {n for drawn in work.sets.values() for e in drawn for n in (e.query, *e.supports)}
    own, widest = (
        ConfigDict(config.to_dict()),
        recipes.get(WIDEST),
    )
    for one in (own, widest):
        one.model.update(
            convention=config.model.convention, width=config.model.width, dtype='float32'
        )
    return {
        'method': config.model.name,
        'data': work.source.name,
        'fold': config.fold,
        'protocol': work.protocol.name,
        'size': size,
        'images': len(used),
        'feature_bytes_per_image': {
            one.model.name: feature_bytes(Method.from_config(one).module, size)
            for one in (own, widest)
        },
    }


def feature_bytes(module, size: int) -> int:
    """Bytes of the features of one image."""
    image = jnp.zeros((1, size, size, 3))
    shapes = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), image, method='encode')[0]
    )
    return sum(one.size * one.dtype.itemsize for one in jax.tree.leaves(shapes))


def result_of(work: Work, shot: int, contestants, times) -> dict[str, Any]:
    """Times, mIoU and distances of one shot, for the JSON file and the table."""
    classes = class_ids(work, shot)
    reference = next(one for name, one in contestants.items() if name.startswith('ours'))
    rows = {}
    for name, one in times.items():
        contestant = contestants[name]
        count = len(contestant.last)
        rows[name] = {
            'seconds': one.record(),
            'shown': str(one),
            'episodes': count,
            'miou': miou(contestant.last, classes[:count]),
            'from_ours': difference(work, shot, reference.last[:count], contestant.last),
        }
        if name.startswith('ours'):
            rows[name]['where'] = contestant.seconds
            for kind in ('loop', 'cached'):
                rows[name][f'times_{kind}'] = (
                    measure.fastest(times, f'PyTorch, {kind}') / one.median
                )
    distinct = {
        (e.query, e.supports, e.class_id)
        for key, drawn in work.sets.items()
        if key[0] == shot
        for e in drawn
    }
    return {'episodes': len(classes), 'distinct_episodes': len(distinct), 'rows': rows}


def table(record: dict[str, Any]) -> str:
    """The rows as Markdown, and what they rest on below."""
    lines = [
        '| shot | | an evaluation | x loop | x cached | compilation | mIoU | pixels apart |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for shot, found in record['shots'].items():
        for name, row in found['rows'].items():
            ratios = [
                f'{row[key]:.2f}' if key in row else '' for key in ('times_loop', 'times_cached')
            ]
            lines.append(
                f'| {shot} | {name} | {row["shown"]} | {" | ".join(ratios)} '
                f'| {row["seconds"]["compilation"]:.1f} s | {row["miou"]:.4f} | {row["from_ours"]["pixels"]} |'
            )
    for shot, found in record['shots'].items():
        lines.append(
            f'\n{shot}-shot: {found["episodes"]} episodes, {found["distinct_episodes"]} of them distinct.'
        )
    bytes_of = ', '.join(
        f'{name} {size / 1e6:.2f} MB' for name, size in record['feature_bytes_per_image'].items()
    )
    peak = ', '.join(
        f'{where} {size / 2**30:.2f} GiB' for where, size in record['peak_memory'].items()
    )
    lines.append(
        f'\n{record["images"]} images; float32 features of an image: {bytes_of}; our peak memory: {peak}.'
    )
    return '\n'.join(lines)


def add_arguments(parser: command_line.Parser) -> None:
    """Add the flags."""
    run_folder.add_run(parser, 'its weights are taken (default: random ones)')
    command_line.add_config(parser, only=run_folder.MAY_DIFFER)
    measure.add_settings(parser, 'three')
    parser.add_argument(
        '--repeats', type=int, default=3, help='timed evaluations, of which the median is taken'
    )
    parser.add_argument('--check', type=int, default=50, help='episodes that are compared before')
    parser.add_argument(
        '--peer_batch', type=int, default=1, help="episodes that PyTorch's loop segments at a time"
    )
    parser.add_argument(
        '--loop_episodes',
        type=int,
        default=0,
        help="episodes that PyTorch's loop is timed on, the first ones; its time is then multiplied; 0: all",
    )
    measure.add_out(parser)


def run_typed(args) -> None:
    """Run the benchmark with the flags that were typed."""
    trained, config = None, args.config
    if args.checkpoint or args.workdir:
        trained = run_folder.given_run(args)
        config = run_folder.given_config(args, trained.folder)
    main(
        config,
        trained and trained.folder,
        args.settings,
        args.dtypes,
        args.repeats,
        args.check,
        args.peer_batch,
        args.loop_episodes,
        args.out,
        trained.which if trained else 'best',
    )


if __name__ == '__main__':
    script = command_line.Script(__doc__, add_arguments, run_typed)
    command_line.run(script, prog='simpropnet bench evaluation')
