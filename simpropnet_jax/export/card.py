"""The model card of a published model: what it is, what it was trained on, how good it is, and its limits."""

from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax import models
from simpropnet_jax.datasets import declared, shapes5i
from simpropnet_jax.datasets.folds import base_classes
from simpropnet_jax.evaluation.results.naming import method_name, method_words
from simpropnet_jax.setup import data

VOC_TERMS = """\
The training images are from PASCAL VOC 2012, the masks from VOC and SBD. VOC's images come from Flickr: their use must
respect Flickr's terms of use, and the rights of each image stay with its owner. VOC and SBD are published for research.
The backbone was trained on ImageNet, whose images are for non-commercial research and education. The weights contain no
image. Whether weights trained on such images may be used commercially is not settled everywhere: ask a lawyer if that
is your plan."""
COCO_TERMS = """\
The training images are from COCO 2014. They come from Flickr: their use must respect Flickr's terms of use, and the
rights of each image stay with its owner. COCO's annotations are licensed under CC BY 4.0. The backbone was trained on
ImageNet, whose images are for non-commercial research and education. The weights contain no image. Whether weights
trained on such images may be used commercially is not settled everywhere: ask a lawyer if that is your plan."""
FSS_TERMS = """\
The training images are from FSS-1000, which its authors collected from the internet for research: the rights of each
image stay with its owner. The backbone was trained on ImageNet, whose images are for non-commercial research and
education. The weights contain no image. Whether weights trained on such images may be used commercially is not settled
everywhere: ask a lawyer if that is your plan."""
DRAWN_TERMS = 'The training images are drawn by this package (Apache-2.0).'
OWN_TERMS = (
    "The training images are a user's own. Ask the publisher of this model for their licence."
)
# Data set -> what a summary calls it, and its terms.
DATA = {
    'pascal5i/sbd': ('PASCAL VOC 2012 with the masks of SBD', VOC_TERMS),
    'pascal5i/aug': ('PASCAL VOC 2012 with the masks of SBD', VOC_TERMS),
    'pascal5i/subset': ('a part of PASCAL VOC 2012 with the masks of SBD', VOC_TERMS),
    'coco20i/complete': ('COCO 2014', COCO_TERMS),
    'coco20i/subset': ('a part of COCO 2014', COCO_TERMS),
    'fss1000/complete': ('FSS-1000', FSS_TERMS),
    'fss1000/subset': ('a part of FSS-1000', FSS_TERMS),
    'shapes5i': ('drawn shapes, not photographs', DRAWN_TERMS),
    'folder': ("a user's own images", OWN_TERMS),
}
LIMITS = """\
- The network sees every picture as a square of {size} x {size} pixels. Thin structures (bicycle frames, chair legs,
  wires) and tiny objects are lost: a cell of the network's features covers 8 x 8 pixels of that square.
- In cluttered pictures, expect parts of other objects that look alike.
- Pictures that are far from the training images (drawings, medical or satellite images, microscopy) were not tested.
- The network marks something in most pictures, even if the object is not there.
- Do not use the masks where a mistake can harm somebody."""
COLUMNS = [
    'method',
    'fold',
    'step',
    'data',
    'shots',
    'mIoU',
    '95 % interval',
    'protocol',
    'hash',
]
RESULTS = """\
mIoU in percent, ± standard deviation over the sets of episodes. The interval is for other images of the same classes.
"Classes trained on" means that the training had seen the classes of that fold; other rows are of trainings that had
not."""
NOT_STORED = """
All were measured with float32 weights. `simpropnet bench quantisation` measures what {weights} loses."""
CITATION = """\
@inproceedings{simpropnet2020,
  title     = {SimPropNet: Improved Similarity Propagation for Few-shot Image Segmentation},
  author    = {Gairola, Siddhartha and Hemani, Mayur and Chopra, Ayush and Krishnamurthy, Balaji},
  booktitle = {Proceedings of the Twenty-Ninth International Joint Conference on Artificial Intelligence (IJCAI)},
  year      = {2020}
}"""
CARD = """\
---
library_name: simpropnet_jax
license: other
tags: [image-segmentation, few-shot]
---

# {name}

{method}, {trained_on}. Give it one or a few images with masks; it segments the same kind of object in other images.

```sh
simpropnet segment --checkpoint {name} --support cat.jpg cat.png --query photos --out masks
```

Here `{name}` is the folder of this card, or `hf://OWNER/{name}@REVISION`.

## Training

| | |
|---|---|
{facts}

Classes seen in the training: {classes}.

## Data and licence

{terms}

The code is Apache-2.0.

## Results

{results}

## Limits

{limits}

## Citation

```bibtex
{citation}
```
"""


def write_card(
    name: str,
    config: ConfigDict,
    step: int,
    weights: str,
    records: Sequence[dict[str, Any]],
) -> str:
    """Return the card of a model, in Markdown.

    Args:
      name: of the model.
      config: of its training.
      step: of its checkpoint.
      weights: kind of the stored weights.
      records: result files of this checkpoint, and of other trainings with the same recipe.
    """
    return CARD.format(
        name=name,
        method=method_name(config),
        trained_on=trained_on(config),
        facts='\n'.join(f'| {title} | {value} |' for title, value in _facts(config, step, weights)),
        classes=', '.join(classes(config)) or 'not known',
        terms=DATA[config.data.name][1],
        results=_results(records, weights),
        limits=LIMITS.format(size=config.eval.size),
        citation=CITATION,
    )


def trained_on(config: ConfigDict) -> str:
    """Return what a model was trained on, in a few words."""
    seen = len(classes(config))
    return f'trained on {seen} classes of {DATA[config.data.name][0]}'


def classes(config: ConfigDict) -> list[str]:
    """Return the names of the classes that a config trains on; empty if its own data is not here."""
    held_out = declared.held_out(config.data.name, config.data.folds)
    if held_out is None:
        try:
            index = data.open_data(config).index
        except (OSError, ValueError):
            return []
        return [index.class_names[number] for number in data.trained_classes(config, index)]
    known = declared.find(config.data.name).classes
    names = shapes5i.CLASS_NAMES if config.data.name == 'shapes5i' else known
    everything = config.train.classes == 'all'
    base = range(1, len(names)) if everything else base_classes(config.fold, held_out, names)
    return [names[number] for number in base]


def _facts(config: ConfigDict, step: int, weights: str) -> Iterator[tuple[str, Any]]:
    train = config.train
    yield 'method', models.title(config.model.name)
    yield 'data', f'`{config.data.name}`, list `{config.data.train_list}`'
    if train.classes != 'all':
        yield 'held out', f'the classes of fold {config.fold}'
    yield 'pairs', f'{step:,} steps of {train.batch}'
    yield (
        'input',
        f'{train.size} x {train.size} in the training, {config.eval.size} x {config.eval.size} now',
    )
    yield 'optimizer', f'{train.optimizer}, learning rate {train.learning_rate}'
    yield 'checkpoint', f'step {step}, selected by `{config.select.on}`'
    yield (
        'backbone',
        f'`{config.model.weights or "random"}`, convention `{config.model.convention}`',
    )
    yield 'computes in', f'{config.model.dtype}'
    yield 'stored in', weights
    yield 'config', 'config.json has every field'


def _results(records: Sequence[dict[str, Any]], weights: str) -> str:
    if not records:
        return 'None was measured. `simpropnet eval` measures.'
    rows = [COLUMNS, ['---'] * len(COLUMNS), *(row for record in records for row in _rows(record))]
    text = '\n'.join(f'| {" | ".join(row)} |' for row in rows) + f'\n\n{RESULTS}'
    return text if weights == 'float32' else text + NOT_STORED.format(weights=weights)


def _rows(record: dict[str, Any]) -> Iterator[list[str]]:
    for shots, scored in record['shots'].items():
        scores = scored['own' if record.get('resolution') == 'own' else 'square']
        deviation = scores['miou_std']
        interval = scores.get('miou_interval')
        yield [
            method_words(record),
            str(record['fold']),
            str(record['checkpoint'].get('step')),
            record['data'],
            shots,
            f'{100 * scores["miou"]:.1f}'
            + ('' if deviation is None else f' ± {100 * deviation:.1f}'),
            f'{100 * interval[0]:.1f} to {100 * interval[1]:.1f}' if interval else '',
            record['protocol']['name'],
            f'`{record["protocol"]["hash"]}`',
        ]
