"""Draw what methods segment: a query with supports of growing similarity, and two methods side by side.

As in Figures 4 and 5 of SimPropNet, with a row for each novel class of the fold. Truth is blue, predictions are
orange with the outline of the truth; the IoU is of the drawn picture, at the network's input size.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from simpropnet_jax.backbones.extractor import load_extractor, pool
from simpropnet_jax.backbones.normalise import normalise
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.episode_files import Sets
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine.image_bank import ImageBank, load_bank
from simpropnet_jax.evaluation.panels import PanelMaker, SegmentedEpisode, cases, iou
from simpropnet_jax.io import overlay
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.published.header import config_file
from simpropnet_jax.runtime import sharding
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import prepare, with_episodes
from simpropnet_jax.setup.weights import backbone_weights, load_variables

logger = logging.getLogger(__name__)

ENDINGS = ('.png', '.jpg')
OWN = 'own'  # features of the method's own encoder
CASES = ('best', 'median', 'worst')
BATCH = 8  # images encoded at a time
SCALE = 2  # a picture's side over the network's


@dataclass(frozen=True)
class OpenedRun:
    """A work directory's method, weights and episodes."""

    name: str
    method: Method
    variables: dict
    source: Source
    protocol: Protocol
    sets: Sets

    @property
    def episodes(self) -> dict[int, list[Episode]]:
        """Return class id -> the episodes of the first set at the fewest shots, in order."""
        chosen = self.sets[min(self.sets)]
        return {
            c: [e for e in chosen if e.class_id == c] for c in sorted({e.class_id for e in chosen})
        }


def open_run(workdir: Path, which: str = 'best') -> OpenedRun:
    """Open the method, weights and episodes of a work directory, from its stored config.

    Args:
      which: checkpoint, 'best', 'latest' or a step.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    if not config_file(workdir).exists():
        raise ValueError(
            f'{workdir} has no config.json: train there first, or evaluate there what needs no training, with '
            '`simpropnet eval --config`'
        )
    prepared = with_episodes(prepare(None, workdir))
    method = prepared.method
    variables, _ = load_variables(method, workdir, which, sharding.make_mesh())
    return OpenedRun(
        str(workdir), method, variables, prepared.source, prepared.protocol, prepared.episodes
    )


def similar(
    workdir: Path,
    which: str = 'best',
    *,
    columns: int = 5,
    candidates: int = 50,
    features: str = OWN,
    weights: str = 'keras',
) -> UInt8[np.ndarray, 'H W 3']:
    """Draw one query of each class with supports from the least to the most similar: SimPropNet, Figure 4.

    Similarity is the L2 distance of pooled features. Of the class's supports in the episodes, `candidates` are ranked;
    those shown are evenly spread over the ranks, the first and the last among them.

    Args:
      workdir, which: see `open_run`.
      columns: supports shown for a query.
      candidates: supports ranked for a query.
      features: 'own' for the method's encoder, or one of `backbones.extractor.NETWORKS`.
      weights: of such a network, see `backbone_weights`.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled.
    """
    if not 2 <= columns <= candidates:
        raise ValueError(
            f'columns must be from 2 to the number of candidates, {candidates}, got {columns}'
        )
    run = open_run(workdir, which)
    if features == OWN:
        encode = _own_encoder(run)
    else:
        encode = _pooled(load_extractor(features, backbone_weights(weights)))
    pools = {c: _candidates(episodes, candidates) for c, episodes in run.episodes.items()}
    bank = _bank(run, {(1, c): pool for c, pool in pools.items()})
    described = _describe(encode, bank.images)
    make, rows = _panel_maker(run, bank), []
    for class_id, found in pools.items():
        ranked = _ranked(bank, described, found)
        places = np.unique(np.linspace(0, len(ranked) - 1, columns).round().astype(int))
        shown = [(make.segment(run.variables, ranked[i]), i + 1) for i in places]
        rows += _similar_rows(shown, len(ranked), columns, run, class_id)
    return overlay.below(rows)


def side_by_side(
    workdirs: Sequence[Path], which: str = 'best', *, case: str = 'median', episodes: int = 20
) -> UInt8[np.ndarray, 'H W 3']:
    """Draw two methods on the same episode of each class: SimPropNet, Figure 5.

    Args:
      workdirs: work directories of A and B; the episodes come from A's evaluation.
      which: checkpoint of both, see `open_run`.
      case: how to choose the episode, by B's IoU minus A's: 'best', 'median' (what to expect) or 'worst'.
      episodes: number of episodes of each class to choose from, the first ones.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong, before anything is compiled.
    """
    if len(workdirs) != 2:
        raise ValueError(
            f'two runs are drawn side by side, got {len(workdirs)}: give --checkpoint RUN RUN'
        )
    if case not in CASES:
        raise ValueError(f'case must be one of {", ".join(CASES)}, got {case!r}')
    if episodes < 1:
        raise ValueError(f'episodes must be 1 or more, got {episodes}')
    a, b = (open_run(workdir, which) for workdir in workdirs)
    _check_alike(a, b)
    chosen = [e for listed in a.episodes.values() for e in listed[:episodes]]
    bank = _bank(a, {(len(chosen[0].supports), 0): chosen})
    found = []
    for run in (a, b):
        make = _panel_maker(run, bank)
        found.append({e: make.segment(run.variables, e) for e in chosen})
    void = a.protocol.void
    gains = [(e, iou(found[1][e], void) - iou(found[0][e], void)) for e in dict.fromkeys(chosen)]
    return overlay.below(
        [
            _side_row([one[e] for one in found], (a, b), e)
            for e in cases(gains, sorted(a.episodes))[case]
        ]
    )


def _check_alike(a, b):
    get = {
        'fold': lambda c: c.fold,
        'data.name': lambda c: c.data.name,
        'eval.size': lambda c: c.eval.size,
    }
    for name, value in get.items():
        one, other = value(a.method.config), value(b.method.config)
        if one != other:
            raise ValueError(
                f'config.{name} is {one!r} in {a.name}, but {other!r} in {b.name}: side by side stand methods of one '
                'fold, data set and input size'
            )


def _candidates(episodes, count):
    """Make one-shot episodes of the first query with each of the episodes' supports except itself."""
    query, class_id = episodes[0].query, episodes[0].class_id
    supports = dict.fromkeys(s for e in episodes for s in e.supports if s != query)
    return [Episode(query, (s,), class_id, episodes[0].pair) for s in list(supports)[:count]]


def _bank(run, sets) -> ImageBank:
    config = run.method.config
    return load_bank(
        run.source,
        sets,
        size=config.eval.size,
        label_sizes=('square',),
        backend=config.data.loader,
        progress=ProgressBar(),
    )


def _panel_maker(run, bank):
    return PanelMaker(
        run.method.module, bank, run.method.config.model.convention, run.protocol.void
    )


def _own_encoder(run) -> Callable:
    """Return images u8 [N,S,S,3] -> pooled features [N, c] of all levels of the method's encoder."""
    module, convention = run.method.module, run.method.config.model.convention

    @jax.jit
    def encode(variables, images):
        features = module.apply(variables, normalise(images, convention), method='encode')
        return jnp.concatenate([pool(level) for level in jax.tree.leaves(features)], -1)

    return lambda images: encode(run.variables, images)


def _pooled(extractor):
    return lambda images: pool(extractor(images))


def _describe(encode, images) -> Float[np.ndarray, 'n c']:
    """Compute pooled features of the images in batches of one shape, which compile once."""
    padded = np.concatenate([images, np.repeat(images[-1:], -len(images) % BATCH, 0)])
    done = [np.asarray(encode(padded[i : i + BATCH])) for i in range(0, len(padded), BATCH)]
    return np.concatenate(done)[: len(images)]


def _ranked(bank, described, episodes):
    """Sort the episodes by their support, from the least to the most similar to the query."""

    def at(number):
        return described[bank.positions([number])[0]]

    distance = [float(np.linalg.norm(at(e.query) - at(e.supports[0]))) for e in episodes]
    return [episodes[i] for i in np.argsort(distance, kind='stable')[::-1]]


def _truth(image, label):
    return overlay.tinted(image, label == 1, overlay.TRUTH, label == VOID, SCALE)


def _similar_rows(shown, candidates, columns, run, class_id):
    """Draw the query and its supports, with the prediction below each support."""
    first = shown[0][0]
    blank = np.full_like(overlay.captioned(_truth(first.query, first.query_label), ''), 255)
    name = run.source.class_names[class_id]
    supports = [
        overlay.captioned(_truth(one.support, one.support_label), f'support {rank} of {candidates}')
        for one, rank in shown
    ]
    predictions = [_prediction(one, '', run.protocol.void) for one, _ in shown]
    rest = [blank] * (columns - len(shown))
    query = overlay.captioned(_truth(first.query, first.query_label), f'{name}: query')
    return [overlay.beside([query, *supports, *rest]), overlay.beside([blank, *predictions, *rest])]


def _side_row(pair: Sequence[SegmentedEpisode], runs: Sequence[OpenedRun], episode: Episode):
    first, name = pair[0], runs[0].source.class_names[episode.class_id]
    return overlay.beside(
        [
            overlay.captioned(_truth(first.support, first.support_label), f'{name}: support'),
            overlay.captioned(_truth(first.query, first.query_label), 'query'),
            *(
                _prediction(one, f'{Path(run.name).name}: ', runs[0].protocol.void)
                for one, run in zip(pair, runs, strict=True)
            ),
        ]
    )


def _prediction(one, words, void):
    picture = overlay.predicted(one.query, one.prediction, one.query_label == 1, SCALE)
    return overlay.captioned(picture, f'{words}IoU {100 * iou(one, void):.1f} %')
