"""Every config field, declared once: default, rule, help, and the value that older runs were trained with.

The fields that all methods share are in `FIELDS`. A method's own fields are declared in its recipe: the value there is
the default, and the comment on its line is the help. `METHOD_RULES` restricts some of them; the others keep the type
that they have in the recipe. So a new method needs no entry here.
"""

from typing import Any, NamedTuple

from simpropnet_jax.backbones.conventions import CONVENTIONS
from simpropnet_jax.backbones.registry import ENCODERS
from simpropnet_jax.config.allowed import (
    AMOUNT,
    ANY,
    COUNT,
    FLAG,
    PLAIN,
    POSITIVE,
    SHARE,
    SIDE,
    Rule,
    each,
    number,
    one_of,
)
from simpropnet_jax.datasets.options import FOLDS, TINY_RULES, TRAINING_LISTS
from simpropnet_jax.episodes.options import BACKENDS, DECODED, ORDERS, RESIDENCY
from simpropnet_jax.episodes.presets import PRESETS


class Field(NamedTuple):
    """A config field.

    Attributes:
      default: the value of CANet's and SimPropNet's papers, if they state one.
      rule: what it may hold.
      help: what it is, in one line.
      before: the value that runs older than the field were trained with. It stays when the default changes. None: the
        field is as old as the config.
    """

    default: Any
    rule: Rule
    help: str
    before: Any = None


TOP = {
    'seed': Field(0, COUNT, 'seed of initial weights, episodes, augmentation and dropout'),
    'fold': Field(  # novel_classes() checks it
        0,
        ANY,
        "which classes are novel: 0..3, the papers' split-1 to split-4; own data: folds.json",
    ),
}

DATA = {
    'name': Field(
        'pascal5i/sbd',
        ANY,
        'pascal5i/sbd, /aug or /subset, coco20i/complete, fss1000/complete, shapes5i, folder',
    ),
    'folds': Field(
        'own',
        one_of(*FOLDS),
        "'own'; COCO-20i: 'blocks' of 20 classes (PANet); PASCAL-5i: 'coco', unseen in COCO-20i",
        before='own',
    ),
    'dir': Field(
        '~/tensorflow_datasets',
        ANY,
        'folder or gs:// URL of the prepared data; shapes5i is drawn there',
    ),
    'train_list': Field(
        'trainaug',
        one_of(*TRAINING_LISTS),
        "'trainaug' (10,582 images, as CANet) or 'noval' (5,953 images, as PFENet)",
    ),
    'tiny_rule': Field(
        'oslsm',
        one_of(*TINY_RULES),
        "which objects are too small to train on: 'oslsm' (CANet), 'px2048' (PFENet), 'none'",
    ),
    'drop_novel_images': Field(
        False, FLAG, "leave out training images of a novel class (BAM's rule, about 3 mIoU)"
    ),
    'void': Field(
        'ignore',
        one_of('ignore', 'background'),
        "pixels labelled 255, in the loss and our protocols: 'ignore' or 'background' (papers)",
    ),
    'loader': Field(
        'auto',
        one_of(*BACKENDS),
        "'tfdata', 'threads' (no TensorFlow), 'auto': tf.data if TensorFlow is installed",
    ),
    'workers': Field(2, number(1, 256), 'threads per host that decode and resize images'),
    'resident': Field(
        'auto',
        one_of(*RESIDENCY),
        "keep training images in device memory: 'always', 'never', 'auto' (up to 40% of a GPU)",
        before='auto',
    ),
    'decoded': Field(
        'auto',
        one_of(*DECODED),
        "stream from files of decoded images: 'always', 'never', 'auto' (accelerators, 1/4 of the disk)",
        before='auto',
    ),
}

# `common.base` gives these to every method; `name` is checked against the registry when the method is built.
MODEL = {
    'name': Field('', ANY, 'method; the other fields of model are its own'),
    'encoder': Field(
        'resnet50',
        Rule(lambda value: value in ENCODERS, f'an encoder: {", ".join(ENCODERS)}'),
        'backbone, see backbones/registry.py; the word encoder=NAME also sets what depends on it',
        before='resnet50',
    ),
    'levels': Field(
        (),
        Rule(
            lambda value: all(isinstance(item, str) for item in value),
            "names of levels, such as ('block9', 'block12')",
        ),
        "levels of the encoder that are concatenated; (): layer2 and layer3, or a ViT's blocks 9 and 12",
        before=(),
    ),
    'weights': Field(
        'keras',
        ANY,
        "backbone: 'keras', 'download' (ImageNet), .h5, .pth, .safetensors; a run; '': random",
    ),
    'convention': Field(
        'auto',
        one_of('auto', *CONVENTIONS),
        "input and strides of the backbone; 'auto': as its weights; 'canet': as CANet's code",
    ),
    'width': Field(64, POSITIVE, "filters of the backbone's first layer; of a ViT: of a head"),
    'dtype': Field(
        'float32',
        one_of('auto', 'float32', 'bfloat16'),
        "type of the computation; 'auto': the faster one on this machine; parameters: float32",
    ),
}

# Rules of fields that a method's recipe declares. A field without a rule here keeps its type.
METHOD_RULES = {
    'trained': ANY,
    'depths': Rule(
        lambda value: len(value) in (3, 4) and each(POSITIVE).holds(value),
        'three or four whole numbers, 1 or more',
    ),
    'deep_stem': FLAG,
    'features': POSITIVE,
    'dropout': number(0, 0.99, whole=False),
    'fbaf': FLAG,
    'fbaf_activation': one_of('none', 'relu', 'block'),
    'attention_gain': AMOUNT,
    'refinements': COUNT,
    'alpha': SHARE,
}

# How a method may combine several supports.
SHOTS = {'canet': ('average', 'attention'), 'sgone': ('average', 'union')}

TRAIN = {
    'start': Field(
        '', ANY, "run to fine-tune from (its best checkpoint); '': from model.weights", before=''
    ),
    'epochs': Field(180, POSITIVE, 'epochs of (listed pairs // batch) steps; SimPropNet, 3.6'),
    'steps': Field(0, COUNT, 'number of steps, instead of epochs; 0: train for the epochs'),
    'batch': Field(8, POSITIVE, 'pairs per step, over all devices and hosts'),
    'shot': Field(1, POSITIVE, 'supports per training episode'),
    'size': Field(
        321, SIDE, 'side of the square that images are stretched to; 8n+1 fits stride-8 features'
    ),
    'classes': Field(
        'base',
        one_of('base', 'all'),
        "classes to train on: 'base' (of the fold), 'all' (for use, or a supervised oracle)",
        before='base',
    ),
    'sampling': Field(
        'listed_pairs',
        one_of(*ORDERS),
        "'listed_pairs': each (image, class) once an epoch (the papers); 'classes': evenly",
    ),
    'support_scale': Field(
        1.5,
        number(1, 4, whole=False),
        'supports are scaled by U(1, this) and cropped back to train.size (CANet); 1: off',
    ),
    'support_flip': Field(True, FLAG, 'mirror each support with probability 1/2 (CANet)'),
    'turn': Field(
        False,
        FLAG,
        'show images in all eight orientations of a square, where up and down mean nothing',
        before=False,
    ),
    'dual_prediction': Field(
        False, FLAG, 'predict the support mask too, and add its loss (SimPropNet, 3.3)'
    ),
    'crc': Field(
        False,
        FLAG,
        'predict the support mask back from the predicted query mask (cyclic reinforcement)',
        before=False,
    ),
    'alignment': Field(
        False,
        FLAG,
        "the same cycle from the hard predicted mask, without its gradient (PANet's alignment)",
        before=False,
    ),
    'history_drop': Field(
        0.7,
        SHARE,
        'share of episodes that CANet sees without its earlier prediction; 1: never keeps one',
        before=0.7,
    ),
    'ica': Field(
        0.0, SHARE, 'probability, at the start, that a query loses its colour (SimPropNet, 3.6)'
    ),
    'ica_decay': Field(
        0.01,
        SHARE,
        'factor on train.ica over the whole training, exponential (the paper: 0.25 to 0.0025)',
    ),
    'foreground_weight': Field(
        1.0,
        AMOUNT,
        'weight of foreground pixels in the loss; above 1, fewer novel objects are missed',
        before=1.0,
    ),
    'optimizer': Field(
        'sgd',
        one_of('sgd', 'adamw', 'rmsprop'),
        "'sgd' with momentum (the papers), 'adamw' (backbones from scratch), 'rmsprop' (AMP)",
        before='sgd',
    ),
    'learning_rate': Field(2.5e-3, AMOUNT, 'learning rate; SimPropNet, 3.6'),
    'rate_factor': Field(
        1.0,
        AMOUNT,
        "factor on the learning rate; a field of its own because CANet's code has both",
        before=1.0,
    ),
    'poly_power': Field(
        0.0,
        AMOUNT,
        '0: the rate is constant (SimPropNet, 3.6); 0.9: it falls to zero (PFENet)',
        before=0.0,
    ),
    'warmup_steps': Field(
        0,
        COUNT,
        "steps in which the rate rises from zero; with 'adamw' this keeps units alive",
        before=0,
    ),
    'momentum': Field(0.9, SHARE, "momentum of 'sgd' (CANet)"),
    'weight_decay': Field(5e-4, AMOUNT, 'weight decay of every trainable parameter (CANet)'),
    'clip': Field(0.0, AMOUNT, 'largest norm of a gradient; 0: no limit (papers)', before=0.0),
    'initial_gain': Field(
        0.0,
        AMOUNT,
        "scale of the head's first kernels, times He's deviation; 0: N(0, 0.01) (CANet)",
        before=0.0,
    ),
    'frozen': Field(
        ('backbone',),
        ANY,
        "parts that are not trained, by path: 'backbone', 'fusion/conv1'; (): train all",
    ),
    'log_every': Field(20, POSITIVE, 'steps between two lines of metrics'),
    'steps_per_dispatch': Field(
        1,
        number(1, 10_000),
        'steps per call of the accelerator; above 1 needs resident images',
        before=1,
    ),
}

# Transformed-pair conditioning (CRC + TPC, 3.2): the query is a changed support. The paper's strengths of the
# transforms are not published; those here are ours.
TPC = {
    'when': Field(
        'never',
        one_of('never', 'before', 'mixed', 'after'),
        "train on transformed pairs: 'before' (the paper), 'after' or 'mixed' (6.2), or 'never'",
        before='never',
    ),
    'epochs': Field(
        30, POSITIVE, "epochs of 'before' and 'after'; the paper: 30, and 10 for 'after'", before=30
    ),
    'steps': Field(
        0, COUNT, 'number of steps, instead of epochs; 0: train for the epochs', before=0
    ),
    'mix': Field(
        0.5, SHARE, "share of transformed pairs with 'mixed'; the paper does not say", before=0.5
    ),
    'probability': Field(
        0.5, SHARE, 'probability of each transform except the flip; not in the paper', before=0.5
    ),
    'distortion': Field(
        0.04,
        number(0, 0.5, whole=False),
        'largest elastic displacement, about this share of the side; 0: off',
        before=0.04,
    ),
    'rotation': Field(
        30.0, number(0, 180, whole=False), 'largest rotation, in degrees; 0: off', before=30.0
    ),
    'zoom': Field(
        1.5, number(1, 8, whole=False), 'largest zoom, around any point; 1: off', before=1.5
    ),
    'flip': Field(0.5, SHARE, 'probability of a horizontal flip', before=0.5),
    'noise': Field(
        0.05, SHARE, 'standard deviation of Gaussian noise, as a share of 255; 0: off', before=0.05
    ),
    'pepper': Field(0.04, SHARE, 'share of pixels that turn black; 0: off', before=0.04),
}

SELECT = {
    'on': Field(
        'novel_val',
        one_of('novel_val', 'base_val', 'val', 'last'),
        "best mIoU on 'novel_val' (papers), 'base_val' (clean), 'val' (supervised); or 'last'",
    ),
    'every': Field(
        0, COUNT, 'steps between two selections, each with a checkpoint; 0: once an epoch'
    ),
    'episodes': Field(1000, POSITIVE, '1-shot episodes of a selection, at train.size'),
}

EVAL = {
    'protocol': Field(
        'simpropnet',
        one_of(*PRESETS),
        'lists, episodes, seeds, size and void rule: see episodes/presets.py',
    ),
    'episodes_file': Field(
        '', ANY, "file of episodes to use, with their protocol; '': draw them", before=''
    ),
    'shots': Field((1, 5), each(POSITIVE), 'supports per episode; every number is evaluated'),
    'episodes': Field(0, COUNT, "episodes per seed; 0: the protocol's ('simpropnet': 1000)"),
    'seeds': Field(
        (),
        each(COUNT, least=0),
        "one set of episodes each; (): the protocol's ('simpropnet': 0, 1 and 2, as in its paper)",
    ),
    'size': Field(321, SIDE, 'side of the square that images are stretched to'),
    'label_size': Field(
        0,
        number(0, 4097),
        "side of the square at which masks are compared; 0: the protocol's ('simpropnet': 321)",
    ),
    'own_size': Field(True, FLAG, "also compare masks at each label's own size"),
    'scales': Field(
        (1.0,),
        each(number(0.1, 4, whole=False)),
        "scales of the query whose predictions are averaged; CANet's paper: (0.7, 1.0, 1.3)",
        before=(1.0,),
    ),
    'refinement': Field(
        'fixed',
        Rule(
            lambda value: value in ('fixed', 'until_drop') or value.isdigit(),
            "'fixed', 'until_drop' or a number as text, '2'",
        ),
        "CANet's: 'fixed': model.refinements; a number as text: '2'; 'until_drop' of the mIoU",
        before='fixed',
    ),
    'self_support': Field(
        0,
        number(0, 100),
        "rounds in which the query's confident pixels become an extra support (SSP); 0: none",
        before=0,
    ),
    'random_support': Field(
        False, FLAG, "crop supports at random, as CANet's released test does", before=False
    ),
    'memory': Field(
        3.0,
        AMOUNT,
        'GiB of device memory for features of all images; more are encoded in parts of a third of it',
        before=3.0,
    ),
    'batch': Field(8, POSITIVE, 'images and episodes at a time, over all devices'),
}

SECTIONS = {
    'data': DATA,
    'model': MODEL,
    'train': TRAIN,
    'tpc': TPC,
    'select': SELECT,
    'eval': EVAL,
}


def _flat() -> dict[str, Field]:
    named = dict(TOP)
    for section, section_fields in SECTIONS.items():
        named |= {f'{section}.{name}': field for name, field in section_fields.items()}
    return named


FIELDS: dict[str, Field] = _flat()
"""Every field that all methods share, by its full name, in the order in which --help lists them."""

NAMES = (*FIELDS, *(f'model.{name}' for name in (*METHOD_RULES, 'shots')))
"""All names that are known here, for suggestions."""


def help_of(name: str) -> str:
    """Return what a field is, in one line; '' for a field that a recipe declares."""
    return FIELDS[name].help if name in FIELDS else ''


def rule_of(name: str, method: str = '') -> Rule | None:
    """Return what a field may hold; None if there is no such field.

    Args:
      name: 'train.batch'.
      method: `config.model.name`.
    """
    if name in FIELDS:
        return FIELDS[name].rule
    section, _, last = name.rpartition('.')
    if section != 'model':
        return None
    if last == 'shots' and method in SHOTS:
        rule = one_of(*SHOTS[method])
        return rule._replace(allowed=f'{rule.allowed} for {method}')
    return METHOD_RULES.get(last, PLAIN)


def section_defaults(section: str) -> dict[str, Any]:
    """Return the default of each field of a section."""
    return {name: field.default for name, field in SECTIONS[section].items()}


def values_before(section: str) -> dict[str, Any]:
    """Return what runs older than some fields of a section were trained with."""
    return {
        name: field.before for name, field in SECTIONS[section].items() if field.before is not None
    }
