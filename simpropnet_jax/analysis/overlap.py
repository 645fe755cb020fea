"""Error overlap of a few-shot method with a supervised network, the oracle, and their gap: Table 1 of both papers.

`simpropnet diagnose overlap --help` defines the quantities.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from simpropnet_jax.evaluation import oracle as supervised
from simpropnet_jax.evaluation.external.predictors import Predictor
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.evaluation.results.text_table import aligned

PAPERS = {'CANet': (18.32, 9.11, 23.28), 'AMP': (10.99, 19.06, 39.41)}
"""Table 1 of both papers: FN overlap, FP overlap, gap, in percent."""
QUANTITIES = ('fn_overlap', 'fp_overlap', 'miou_gap', 'tp_gap')
TITLES = ('FN overlap', 'FP overlap', 'mIoU gap', 'TP gap')


class Areas(NamedTuple):
    """Pixel counts of a pair, of several pairs ([N] each), or summed over them."""

    both_miss: Any  # of the object
    either_misses: Any
    both_add: Any  # of the background, predicted as the object
    either_adds: Any
    object: Any
    method_finds: Any  # of the object
    oracle_finds: Any
    method_union: Any  # of prediction and object
    oracle_union: Any


def areas(
    prediction: Bool[np.ndarray, 'H W'],
    oracle: Bool[np.ndarray, 'H W'],
    label: UInt8[np.ndarray, 'H W'],
) -> Areas:
    """Count the pixels of one pair.

    Args:
      label: 1 object, 0 background, 255 void (not counted).
    """
    truth, background = label == 1, label == 0
    regions = Areas(
        truth & ~prediction & ~oracle,
        truth & ~(prediction & oracle),
        background & prediction & oracle,
        background & (prediction | oracle),
        truth,
        truth & prediction,
        truth & oracle,
        truth | background & prediction,
        truth | background & oracle,
    )
    return Areas(*(int(region.sum()) for region in regions))


def quantities(counted: Areas) -> dict[str, Float[np.ndarray, ' n']]:
    """Compute each of `QUANTITIES` as a fraction of one; nan if undefined.

    Args:
      counted: int [N] each.
    """

    def ratio(part, whole):
        return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

    return {
        'fn_overlap': ratio(counted.both_miss, counted.either_misses),
        'fp_overlap': ratio(counted.both_add, counted.either_adds),
        'miou_gap': ratio(counted.oracle_finds, counted.oracle_union)
        - ratio(counted.method_finds, counted.method_union),
        'tp_gap': ratio(counted.oracle_finds - counted.method_finds, counted.object),
    }


def summarise(
    per_pair: Sequence[Areas], class_ids: Sequence[int], class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Summarise the quantities by class and by image.

    Args:
      per_pair: areas of each pair; `class_ids`: class of each pair.
      class_names: name of each class id.
    Returns:
      `by_class` and `by_image`: the mean of each of `QUANTITIES`, None if it is never defined; `undefined`, each
      quantity's number of classes or pairs left out of the mean; and in `by_class` `per_class`.
    """
    ids = np.array(class_ids)
    rows = Areas(*np.array(per_pair, np.int64).T)
    classes = np.unique(ids)
    by_class = quantities(Areas(*(np.array([x[ids == c].sum() for c in classes]) for x in rows)))
    per_class = {
        class_names[c]: {name: _plain(values[i]) for name, values in by_class.items()}
        for i, c in enumerate(classes)
    }
    return {
        'by_class': _means(by_class) | {'per_class': per_class},
        'by_image': _means(quantities(rows)),
    }


def _means(found):
    there = {name: values[~np.isnan(values)] for name, values in found.items()}
    undefined = {name: int(np.isnan(values).sum()) for name, values in found.items()}
    return {name: float(x.mean()) if x.size else None for name, x in there.items()} | {
        'undefined': undefined
    }


def _plain(value):
    return None if np.isnan(value) else float(value)


def measure(predictors: Sequence[Predictor], oracle: Path) -> dict[str, Any]:
    """Compare the predictors' errors with the oracle's errors.

    Args:
      predictors: predictors of one method, one per fold.
      oracle: folder of label maps, ID.png at each label's original size.
    Returns:
      A record: `method`, `folds` (what each was measured on), `oracle`, `pairs`, and the result of `summarise`.
    Raises:
      FileNotFoundError, ValueError: names a label map that is missing or invalid, before anything is segmented.
    """
    source = predictors[0].source
    _check_there(oracle, {source.ids[e.query] for one in predictors for e in one.episodes})
    quality = supervised.oracle_quality(oracle, source)
    found: list[Areas] = []
    for one in predictors:
        for episode, label, prediction in one:
            path = oracle / f'{source.ids[episode.query]}.png'
            supervised_label = supervised.read_label(
                path, label.shape, len(source.index.class_names)
            )
            found.append(areas(prediction, supervised_label == episode.class_id, label))
    class_ids = [e.class_id for one in predictors for e in one.episodes]
    return {
        'method': predictors[0].name,
        'folds': [one.facts() for one in predictors],
        'pairs': len(found),
        'oracle': quality,
        **summarise(found, class_ids, source.class_names),
        'versions': result_file.versions(),
        'device': result_file.device(),
    }


def _check_there(folder: Path, ids: Iterable[str]) -> None:
    missing = sorted(name for name in ids if not (folder / f'{name}.png').is_file())
    if missing:
        raise FileNotFoundError(
            f'{folder} has no {missing[0]}.png ({len(missing)} are missing): write a label map of every val image '
            'there, with `simpropnet oracle --out`'
        )


def table(record: dict[str, Any]) -> str:
    """Format our rows by class and by image, then the papers' rows, in percent; note a weak oracle."""

    def percent(value):
        return '-' if value is None else f'{100 * value:.2f}'

    oracle = record['oracle']
    splits = ', '.join(f'split-{one["fold"] + 1}' for one in record['folds'])
    text = (
        f'Errors of {record["method"]} and of the oracle on {record["pairs"]} pairs of {splits}, '
        f'{record["folds"][0]["data"]}; the oracle has a val mIoU of {percent(oracle["miou"])} % '
        f'({oracle["images"]} of {oracle["listed"]} images)\n'
    )
    rows = [
        [
            f'{record["method"]}, by {how}',
            *(percent(record[f'by_{how}'][name]) for name in QUANTITIES),
        ]
        for how in ('class', 'image')
    ]
    rows += [
        [f'{name}, the papers', f'{fn:.2f}', f'{fp:.2f}', f'{gap:.2f}', f'{gap:.2f}']
        for name, (fn, fp, gap) in PAPERS.items()
    ]
    text += aligned(['overlap and gap, %', *TITLES], rows)
    left_out = [
        f'{title} {record[f"by_{how}"]["undefined"][name]} {unit}'
        for how, unit in (('class', 'classes'), ('image', 'pairs'))
        for name, title in zip(QUANTITIES, TITLES, strict=True)
        if record[f'by_{how}']['undefined'][name]
    ]
    text += f'Left out, where undefined: {", ".join(left_out)}.\n' if left_out else ''
    if oracle['weak']:
        text += (
            f'A weak oracle: its val mIoU is below {100 * supervised.WEAK:g} %, it misses much for reasons of its own, '
            "and these numbers do not compare with the papers'.\n"
        )
    return text
