"""What a config may hold: one rule a field, checked before anything is compiled or written."""

import ast
import difflib
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from simpropnet_jax.backbones.conventions import CONVENTIONS
from simpropnet_jax.datasets.folds import novel_classes
from simpropnet_jax.datasets.options import TINY_RULES
from simpropnet_jax.episodes.options import BACKENDS, ORDERS, RESIDENCY
from simpropnet_jax.episodes.presets import PRESETS
from simpropnet_jax.runtime.paths import AnyPath


class Rule(NamedTuple):
    """What a field may be, as a test and in words."""

    holds: Callable[[Any], bool]
    allowed: str


def one_of(*values) -> Rule:
    return Rule(
        lambda value: value in values,
        ', '.join(repr(value) for value in values[:-1]) + f' or {values[-1]!r}',
    )


def number(low, high=float('inf'), whole=True) -> Rule:
    limits = f'{low} or more' if high == float('inf') else f'from {low} to {high}'
    kinds = int if whole else (int, float)
    return Rule(
        lambda value: (
            isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
        ),
        f'a {"whole " if whole else ""}number, {limits}',
    )


def each(rule: Rule, least: int = 1) -> Rule:
    many = 'one or more' if least else 'any number'
    return Rule(
        lambda value: len(value) >= least and all(rule.holds(one) for one in value),
        f'{many} of: {rule.allowed}',
    )


FLAG = one_of(True, False)
ANY = Rule(lambda value: True, 'anything')
SIZE = number(33, 4097)
REFINEMENT = Rule(
    lambda value: value in ('fixed', 'until_drop') or value.isdigit(),
    "'fixed', 'until_drop' or a number as text, '2'",
)
DEPTHS = Rule(
    lambda value: len(value) in (3, 4) and each(number(1)).holds(value),
    'three or four whole numbers, 1 or more',
)

RULES = {
    'seed': number(0),
    'fold': ANY,  # folds.novel_classes says more about it than a rule can
    'data.name': ANY,
    'data.dir': ANY,
    'data.train_list': one_of('trainaug', 'noval'),
    'data.tiny_rule': one_of(*TINY_RULES),
    'data.drop_novel_images': FLAG,
    'data.void': one_of('ignore', 'background'),
    'data.loader': one_of(*BACKENDS),
    'data.workers': number(1, 256),
    'data.resident': one_of(*RESIDENCY),
    'model.name': one_of(
        'simpropnet',
        'canet',
        'panet',
        'sgone',
        'cofcn',
        'amp',
        'oslsm',
        'prototype',
        'classifier',
        'deeplab',
    ),
    'model.weights': ANY,
    'model.trained': ANY,
    'model.convention': one_of('auto', *CONVENTIONS),
    'model.encoder': one_of('resnet50', 'vgg16'),
    'model.width': number(1),
    'model.features': number(1),
    'model.depths': DEPTHS,
    'model.dropout': number(0, 0.99, whole=False),
    'model.fbaf': FLAG,
    'model.fbaf_activation': one_of('none', 'relu', 'block'),
    'model.attention_gain': number(0, whole=False),
    'model.shots': one_of('average', 'attention', 'union'),
    'model.refinements': number(0),
    'model.alpha': number(0, 1, whole=False),
    'model.dtype': one_of('float32', 'bfloat16'),
    'train.start': ANY,
    'train.epochs': number(1),
    'train.steps': number(0),
    'train.batch': number(1),
    'train.shot': number(1),
    'train.size': SIZE,
    'train.classes': one_of('base', 'all'),
    'train.sampling': one_of(*ORDERS),
    'train.support_scale': number(1, 4, whole=False),
    'train.support_flip': FLAG,
    'train.turn': FLAG,
    'train.dual_prediction': FLAG,
    'train.crc': FLAG,
    'train.alignment': FLAG,
    'train.history_drop': number(0, 1, whole=False),
    'train.ica': number(0, 1, whole=False),
    'train.ica_decay': number(0, 1, whole=False),
    'train.foreground_weight': number(0, whole=False),
    'train.optimizer': one_of('sgd', 'adamw', 'rmsprop'),
    'train.learning_rate': number(0, whole=False),
    'train.rate_factor': number(0, whole=False),
    'train.poly_power': number(0, whole=False),
    'train.warmup_steps': number(0),
    'train.momentum': number(0, 1, whole=False),
    'train.weight_decay': number(0, whole=False),
    'train.clip': number(0, whole=False),
    'train.initial_gain': number(0, whole=False),
    'train.frozen': ANY,
    'train.log_every': number(1),
    'train.steps_per_dispatch': number(1, 10_000),
    'tpc.when': one_of('never', 'before', 'mixed', 'after'),
    'tpc.epochs': number(1),
    'tpc.steps': number(0),
    'tpc.mix': number(0, 1, whole=False),
    'tpc.probability': number(0, 1, whole=False),
    'tpc.distortion': number(0, 0.5, whole=False),
    'tpc.rotation': number(0, 180, whole=False),
    'tpc.zoom': number(1, 8, whole=False),
    'tpc.flip': number(0, 1, whole=False),
    'tpc.noise': number(0, 1, whole=False),
    'tpc.pepper': number(0, 1, whole=False),
    'select.on': one_of('novel_val', 'base_val', 'val', 'last'),
    'select.every': number(0),
    'select.episodes': number(1),
    'eval.protocol': one_of(*PRESETS),
    'eval.episodes_file': ANY,
    'eval.shots': each(number(1)),
    'eval.episodes': number(0),
    'eval.seeds': each(number(0), least=0),
    'eval.size': SIZE,
    'eval.label_size': number(0, 4097),
    'eval.own_size': FLAG,
    'eval.scales': each(number(0.1, 4, whole=False)),
    'eval.refinement': REFINEMENT,
    'eval.self_support': number(0, 100),
    'eval.random_support': FLAG,
    'eval.batch': number(1),
    'eval.memory': number(0, whole=False),
}

# How the methods that have model.shots fuse several supports.
SHOTS = {'canet': ('average', 'attention'), 'sgone': ('average', 'union')}

# Fields that came later: a work directory that is older than they was trained as with these values.
LATER = {
    'data': {'resident': 'auto'},
    'train': {
        'classes': 'base',
        'turn': False,
        'crc': False,
        'alignment': False,
        'history_drop': 0.7,
        'foreground_weight': 1.0,
        'optimizer': 'sgd',
        'rate_factor': 1.0,
        'poly_power': 0.0,
        'warmup_steps': 0,
        'clip': 0.0,
        'initial_gain': 0.0,
        'steps_per_dispatch': 1,
        'start': '',
    },
    'tpc': {
        'when': 'never',
        'epochs': 30,
        'steps': 0,
        'mix': 0.5,
        'probability': 0.5,
        'distortion': 0.04,
        'rotation': 30.0,
        'zoom': 1.5,
        'flip': 0.5,
        'noise': 0.05,
        'pepper': 0.04,
    },
    'eval': {
        'episodes_file': '',
        'scales': (1.0,),
        'refinement': 'fixed',
        'self_support': 0,
        'random_support': False,
        'memory': 3.0,
    },
}

# Fields that may differ from those that a work directory was started with: they do not change what is trained.
FREE = (
    'data.dir',
    'data.loader',
    'data.workers',
    'data.resident',
    'model.weights',
    'model.trained',
    'train.log_every',
    'train.steps_per_dispatch',
    'eval.',
)


def fields(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """All fields as ('train.batch', 8)."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def validate(config: ConfigDict, devices: int, hosts: int = 1) -> None:
    """Checks every field on its own, and the batches against the devices.

    Raises:
      ValueError: names the first field that is out of range, its value, and what is allowed.
    """
    for name, value in fields(config):
        if name not in RULES:
            raise ValueError(unknown_field(name, RULES))
        rule = RULES[name]
        if not rule.holds(value):
            raise ValueError(f'config.{name} must be {rule.allowed}, got {value!r}')
    if config.data.name != 'folder':  # whose folds are known when it is opened
        novel_classes(config.fold)
    shots, known = config.model.get('shots'), SHOTS.get(config.model.name)
    if shots and known and not one_of(*known).holds(shots):
        raise ValueError(
            f'config.model.shots must be {one_of(*known).allowed} for {config.model.name}, got {shots!r}'
        )
    if shots == 'attention' and config.train.shot == 1:
        raise ValueError(
            "config.model.shots is 'attention', which one support teaches nothing: train with config.train.shot of 2 "
            "or more, or take 'average'"
        )
    if config.train.crc and config.train.alignment:
        raise ValueError(
            'config.train.crc and config.train.alignment are one cycle, with the soft and with the hard predicted '
            'mask: set one of them to False'
        )
    batch = config.train.batch
    if batch % devices:
        raise ValueError(
            f'config.train.batch must be a multiple of the {devices} devices (of {hosts} host{"s" * (hosts > 1)}), '
            f'got {batch}; the nearest that fit are {max(batch // devices, 1) * devices} and '
            f'{(batch // devices + 1) * devices}'
        )


def change(config: ConfigDict, name: str, text: str) -> None:
    """Sets a field, such as train.size, to a value given as text, such as '161'.

    Raises:
      ValueError: there is no such field, or the text is no value for it.
    """
    known = dict(fields(config))
    if name not in known:
        raise ValueError(unknown_field(name, known))
    try:
        value = text if isinstance(known[name], str) else ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(
            f'{name}={text}: {text!r} is not a number, True, False or a tuple'
        ) from None
    try:
        config.update_from_flattened_dict({name: value})
    except TypeError:  # a value of another type than the field's
        raise ValueError(f'config.{name} must be {RULES[name].allowed}, got {value!r}') from None


def unknown_field(name: str, known) -> str:
    """A sentence about a field that is not there, with the nearest ones."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    last = name.split('.')[-1]
    near = (
        near
        or [
            k for k in known if difflib.SequenceMatcher(None, last, k.split('.')[-1]).ratio() > 0.6
        ][:3]
    )
    hint = (
        f'did you mean {" or ".join(f"config.{one}" for one in near)}?'
        if near
        else 'see the config file'
    )
    return f'unknown config field config.{name}; {hint}'


def plain(config: ConfigDict) -> dict:
    """The config as JSON data: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def load(path: AnyPath) -> ConfigDict:
    """A config that `plain` and `checkpoint.write_json` wrote; lists become tuples, and fields of `LATER` are added.

    Raises:
      ValueError: the file is not JSON.
    """
    try:
        stored = _with_tuples(json.loads(path.read_text()))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is damaged ({error}); use another --workdir') from error
    added = {section: {**added, **stored.get(section, {})} for section, added in LATER.items()}
    return ConfigDict({**stored, **added})


def _with_tuples(value):
    if isinstance(value, dict):
        return {name: _with_tuples(one) for name, one in value.items()}
    return tuple(value) if isinstance(value, list) else value


def check_same_run(config: ConfigDict, stored: ConfigDict, workdir: AnyPath) -> None:
    """Refuses to go on with a work directory that was started with other values of what matters.

    Raises:
      ValueError: names each field that differs, with both values.
    """
    now, before = dict(fields(config)), dict(fields(stored))
    if now.get('model.convention') == 'auto':
        now['model.convention'] = before.get('model.convention')
    # A longer training begins like a shorter one if neither the rate nor ICA's probability follows its length.
    ica_falls = now.get('train.ica') and now.get('train.ica_decay') != 1
    fixed = now.get('train.poly_power') or ica_falls or now.get('tpc.when') == 'after'
    free = FREE if fixed else (*FREE, 'train.epochs', 'train.steps')
    if now.get('model.name') == 'sgone' and now.get('train.shot') == 1:
        free = (*free, 'model.shots')  # one support is fused with none
    differing = [
        f'{name}: {before.get(name)!r} then, {now.get(name)!r} now'
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name) and not name.startswith(free)
    ]
    if differing:
        raise ValueError(
            f'{workdir} was started with another config ({"; ".join(differing)}); '
            'use another --workdir, or the values of then'
        )
