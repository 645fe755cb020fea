"""Measure how similar a few-shot method's mispredicted regions are, relative to the similarity of objects.

`simpropnet diagnose similarity --help` defines the ratio.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from simpropnet_jax.backbones.extractor import Extractor
from simpropnet_jax.episodes.loader import image_batches
from simpropnet_jax.episodes.sampler import EVALUATION, random_bits
from simpropnet_jax.evaluation.engine import metrics
from simpropnet_jax.evaluation.external.predictors import Predictor
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.text_table import aligned
from simpropnet_jax.io.labels import VOID
from simpropnet_jax.ops.resize import host_interpolation_matrix

logger = logging.getLogger(__name__)

PAPER = {'method': 'CANet, the papers', 'mean': 0.87, 'std': 0.25, 'pairs': 1000}
PAIRS = EVALUATION + 3  # stream of random numbers, after sampler, protocols and H-PASCAL
MIN_PIXELS = 100  # fewer give noise: a cell of VGG-16's features covers 256 input pixels
BATCH = 8  # images encoded at a time

Regions = Mapping[tuple[int, int], Mapping[str, Bool[np.ndarray, 'H W']]]
"""(class id, image number) -> name of a region -> its mask."""
Vectors = dict[tuple[int, int], dict[str, Float[np.ndarray, ' c']]]
"""(class id, image number) -> name of a region -> its masked average."""


def masked_average(
    features: Float[np.ndarray, 'h w c'], mask: Bool[np.ndarray, 'H W']
) -> Float[np.ndarray, ' c']:
    """Average the features, resized (bilinear) to the mask's size, over the mask; zero if empty. SG-One, section 3.

    The features are not actually resized: the mask is multiplied by the transposed resize weights instead.
    """
    sizes = zip(features.shape, mask.shape, strict=False)
    rows, columns = (host_interpolation_matrix(n, size, np.float64) for n, size in sizes)
    cells = rows.T @ mask.astype(np.float64) @ columns
    return np.tensordot(cells, features.astype(np.float64), 2) / max(int(mask.sum()), 1)


def cosine(a: Float[np.ndarray, ' c'], b: Float[np.ndarray, ' c']) -> float:
    """Compute the cosine similarity; nan if a vector is zero."""
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms > 0 else float('nan')


def same_class_pairs(
    images: Mapping[int, Iterable[int]], count: int, seed: int = 0
) -> list[tuple[int, int, int]]:
    """Draw distinct pairs of images of a class, equally many per class: (class id, image, image).

    Args:
      images: class id -> image numbers.
      count: number of pairs over all classes. A class with too few images gives all its pairs, so there are fewer.
    """
    found = []
    for place, class_id in enumerate(sorted(images)):
        numbers = np.unique(np.fromiter(images[class_id], np.int64))
        first, second = np.triu_indices(len(numbers), 1)
        share = count // len(images) + (place < count % len(images))
        drawn = np.argsort(random_bits(len(first), seed, 0, PAIRS, class_id), kind='stable')[:share]
        found += [(class_id, int(numbers[first[i]]), int(numbers[second[i]])) for i in drawn]
    return found


def error_ratios(
    pairs: Sequence[tuple[int, int, int]],
    vectors: Vectors,
    pixels: Mapping[tuple[int, int], int],
    min_pixels: int,
) -> tuple[list[tuple[int, float, float]], int, int]:
    """Return (class id, cosine of mispredicted regions, cosine of true masks) of each valid pair.

    Args:
      pairs: (class id, image, image).
      vectors: vectors of the regions 'error' and 'truth'.
      pixels: (class id, image) -> mispredicted pixels.
      min_pixels: a pair is skipped if either image has fewer of them.
    Returns:
      These pairs; the number skipped; and the number of further pairs with an undefined ratio (a zero average).
    """
    found, skipped, undefined = [], 0, 0
    for class_id, a, b in pairs:
        a, b = (class_id, a), (class_id, b)
        if min(pixels[a], pixels[b]) < min_pixels:
            skipped += 1
            continue
        error, truth = (cosine(vectors[a][name], vectors[b][name]) for name in ('error', 'truth'))
        if np.isnan(error) or not truth > 0:
            undefined += 1
        else:
            found.append((class_id, error, truth))
    return found, skipped, undefined


def region_vectors(
    source,
    regions: Regions,
    extractor: Extractor,
    size: int,
    batch: int = BATCH,
    backend: str = 'auto',
) -> Vectors:
    """Compute masked averages of every region; each image is encoded once, and its features are not kept.

    Args:
      source: source of the images.
      regions: masks of each (class id, image number), of the whole image at any size.
      extractor: images -> features; images are stretched to squares of `size` pixels.
    """
    by_image: dict[int, list[tuple[int, int]]] = {}
    for key in regions:
        by_image.setdefault(key[1], []).append(key)
    vectors: Vectors = {}
    for one in image_batches(
        source, sorted(by_image), size=size, label_size=1, batch=batch, backend=backend
    ):
        features = np.asarray(extractor(one['image']))
        for number, of_image, valid in zip(
            one['number'].tolist(), features, one['valid'], strict=True
        ):
            for key in by_image[number] if valid else ():
                vectors[key] = {
                    name: masked_average(of_image, mask) for name, mask in regions[key].items()
                }
    return vectors


def mispredicted(
    predictors: Sequence[Predictor],
) -> dict[tuple[int, int], dict[str, Bool[np.ndarray, 'H W']]]:
    """Return the regions 'error' and 'truth' of each class and query, from its first episode."""
    regions = {}
    for one in predictors:
        for episode, label, prediction in one:
            key = (episode.class_id, episode.query)
            if key not in regions:
                truth = label == 1
                regions[key] = {'error': (truth != prediction) & (label != VOID), 'truth': truth}
    return regions


def measure(
    predictors: Sequence[Predictor],
    extractor: Extractor,
    *,
    size: int,
    pairs: int = 1000,
    min_pixels: int = MIN_PIXELS,
    seed: int = 0,
    backend: str = 'auto',
) -> dict[str, Any]:
    """Measure the ratio over pairs of images of one class.

    Args:
      predictors: predictors of one method, one per fold.
      size: side in pixels to which images are stretched for the extractor.
      pairs, min_pixels, seed: see `same_class_pairs`, `error_ratios`.
      backend: backend of the loader.
    Returns:
      A record: `ratio` (`mean`, `std` with n - 1, `pairs`), `cosine` (means of `error` and `truth`), `per_class` means
      of the ratio, `drawn`, `skipped`, `undefined`, and the settings.
    Raises:
      ValueError: no pair is left.
    """
    regions, images = mispredicted(predictors), {}
    for class_id, number in regions:
        images.setdefault(class_id, []).append(number)
    drawn = same_class_pairs(images, pairs, seed)
    source = predictors[0].source
    pixels = {key: int(one['error'].sum()) for key, one in regions.items()}
    used = {(c, n) for c, *both in drawn for n in both}
    vectors = region_vectors(
        source, {key: regions[key] for key in used}, extractor, size, backend=backend
    )
    found, skipped, undefined = error_ratios(drawn, vectors, pixels, min_pixels)
    logger.info(
        '%d pairs, %d skipped with fewer than %d mispredicted pixels',
        len(drawn),
        skipped,
        min_pixels,
    )
    if not found:
        raise ValueError(
            f'no pair of {len(drawn)} has {min_pixels} mispredicted pixels in both images: give fewer'
        )
    class_ids, error, truth = (np.array(values) for values in zip(*found, strict=True))
    ratios = error / truth
    mean, std = metrics.mean_and_std(ratios.tolist())
    names = source.index.class_names
    return {
        'method': predictors[0].name,
        'folds': [one.facts() for one in predictors],
        'ratio': {'mean': mean, 'std': std, 'pairs': len(found)},
        'cosine': {'error': float(error.mean()), 'truth': float(truth.mean())},
        'per_class': {names[c]: float(ratios[class_ids == c].mean()) for c in np.unique(class_ids)},
        'drawn': len(drawn),
        'skipped': skipped,
        'undefined': undefined,
        'min_pixels': min_pixels,
        'seed': seed,
        'features': f'{extractor.source}, {size} x {size} pixels',
        'versions': result_file.versions(),
        'device': result_file.device(),
    }


def table(record: dict[str, Any]) -> str:
    """Format our row, then the papers' row."""
    splits = ', '.join(f'split-{one["fold"] + 1}' for one in record['folds'])
    text = f'Mispredicted regions of {record["method"]}, {splits}, {record["folds"][0]["data"]}; {record["features"]}\n'
    ratio, found = record['ratio'], record['cosine']
    std = '-' if ratio['std'] is None else f'{ratio["std"]:.2f}'
    ours = [record['method'], f'{ratio["mean"]:.2f}', std, str(ratio['pairs'])]
    papers = [
        PAPER['method'],
        f'{PAPER["mean"]:.2f}',
        f'{PAPER["std"]:.2f}',
        str(PAPER['pairs']),
        '-',
        '-',
    ]
    cosines = [f'{found["error"]:.2f}', f'{found["truth"]:.2f}']
    text += aligned(
        ['similarity of errors / of objects', 'mean', 'std', 'pairs', 'cos errors', 'cos objects'],
        [[*ours, *cosines], papers],
    )
    text += (
        f'{record["drawn"]} pairs drawn; {record["skipped"]} skipped, in which an image has fewer than '
        f'{record["min_pixels"]} mispredicted pixels'
    )
    return text + (f'; {record["undefined"]} undefined.\n' if record['undefined'] else '.\n')
