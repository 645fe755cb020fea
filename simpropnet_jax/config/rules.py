"""Check configs, change their fields, and read the configs of runs. `fields` declares what a field may hold."""

import ast
import difflib
import json
from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from simpropnet_jax.backbones import registry
from simpropnet_jax.config.allowed import ANY, PLAIN, Rule, each, number, one_of
from simpropnet_jax.config.fields import FIELDS, NAMES, SECTIONS, rule_of, values_before
from simpropnet_jax.datasets import declared
from simpropnet_jax.published import header
from simpropnet_jax.runtime import records
from simpropnet_jax.runtime.paths import AnyPath

__all__ = [
    'NAMES',
    'change',
    'check_same_run',
    'each',
    'fields',
    'load',
    'number',
    'one_of',
    'plain',
    'unknown_field',
    'validate',
]

# Fields that may change when a run is resumed, because they do not change what is trained.
FREE = (
    'data.dir',
    'data.loader',
    'data.workers',
    'data.resident',
    'data.decoded',
    'model.weights',
    'model.trained',
    'train.log_every',
    'train.steps_per_dispatch',
    'eval.',
)
# Fields that an evaluation may change, too: they do not change what the weights mean.
FREE_IN_EVALUATION = ('model.dtype',)
LENGTH = ('train.epochs', 'train.steps')

EXAMPLES = {'model.trained': ''}  # of a method's own fields whose rule allows anything
RECREATE = 'Restore the file from a copy, or train again in a new --workdir'

TYPES = {bool: 'True or False', int: 'a whole number', float: 'a number'}


def fields(config: ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield every field with its value: ('train.batch', 8)."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from fields(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def validate(config: ConfigDict, devices: int, hosts: int = 1) -> None:
    """Check every field on its own, then those that depend on each other, and the batch against the devices.

    A field of `config.model` that no rule knows may hold any plain value; the method refuses what it does not have.

    Raises:
      ValueError: names the first field that is wrong, its value, and what is allowed.
    """
    for name, value in fields(config):
        rule = rule_of(name, config.model.get('name', ''))
        if rule is None:
            raise ValueError(unknown_field(name, NAMES))
        if not rule.holds(value):
            raise ValueError(f'config.{name} must be {rule.allowed}, got {value!r}')
    declared.check_fold(config.data.name, config.data.folds, config.fold)
    if config.model.get('shots') == 'attention' and config.train.shot == 1:
        raise ValueError(
            "config.model.shots='attention' learns nothing from one support. Set config.train.shot to 2 or more, or "
            "use 'average'"
        )
    _check_sizes(config)
    if config.train.crc and config.train.alignment:
        raise ValueError(
            'config.train.crc and config.train.alignment are the same cycle, with a soft and with a hard mask. Set one '
            'of them to False'
        )
    _check_batch(config.train.batch, devices, hosts)


def change(config: ConfigDict, name: str, text: str) -> None:
    """Set a field, such as train.size, to a value given as text, such as '161'.

    A tuple is replaced as a whole: '(1, 5)'.

    Raises:
      ValueError: there is no such field, or the text is not a value for it.
    """
    known = dict(fields(config))
    if name not in known:
        raise ValueError(unknown_field(name, known))
    value = _parsed(name, text, known[name])
    try:
        config.update_from_flattened_dict({name: value})
    except TypeError:  # the value has another type than the field
        raise ValueError(
            f'config.{name} must be {_allowed(config, name, known[name])}, got {value!r}'
        ) from None


def unknown_field(name: str, known: Iterable[str]) -> str:
    """Return a sentence about a field that does not exist, with the nearest ones that do."""
    known, last = list(known), name.rpartition('.')[2]
    near = [other for other in known if other.rpartition('.')[2] == last]  # in another section
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    near = near or [other for other in known if _similar(last, other.rpartition('.')[2])][:3]
    if not near:
        return f'unknown config field config.{name}; --help lists the fields'
    suggested = ' or '.join(f'config.{other}' for other in near)
    return f'unknown config field config.{name}; did you mean {suggested}?'


def plain(config: ConfigDict) -> dict:
    """Return the config as JSON data: tuples become lists."""
    return json.loads(json.dumps(config.to_dict()))


def load(path: AnyPath) -> ConfigDict:
    """Read a config that `plain` and `records.write` wrote: lists become tuples.

    Fields that are newer than the file get the values that older runs were trained with (`Field.before`).

    Raises:
      ValueError: the file is not JSON, or a field is missing or has a value that it cannot have; names the field.
    """
    try:
        stored = _with_tuples(_stored(path))
    except RecursionError as error:
        raise ValueError(f'{path} is damaged: it is nested too deeply. {RECREATE}') from error
    told = stored.pop(records.CHECKSUM, None) if isinstance(stored, dict) else None
    if not isinstance(stored, dict):
        raise ValueError(
            f'{path} is damaged: it must be a JSON object of sections, got {_short(stored)}. {RECREATE}'
        )
    written = {**stored, records.CHECKSUM: told}
    for section in SECTIONS:
        added = values_before(section)
        older = {} if section != 'model' else None  # no run is older than its method
        if added and isinstance(stored.get(section, older), dict):
            stored[section] = {**added, **stored.get(section, {})}
    problem = _problem(stored)
    if problem:
        raise ValueError(f'{path} is damaged: {problem}. {RECREATE}')
    records.verify(written, path, RECREATE)
    return ConfigDict(stored | {'model': _named_encoder(stored['model'])})


def _stored(path: AnyPath) -> Any:
    """Return a stored config as JSON data; also of a published model's file."""
    if path.suffix == header.ENDING:
        return header.read_config(path)
    return records.parse(path, RECREATE)


def _problem(stored: dict) -> str:
    """Return what is wrong with a stored config, naming the field; '' if each has a value that it can have."""
    for section in SECTIONS:
        if not isinstance(stored.get(section), dict):
            found = f'got {_short(stored[section])}' if section in stored else 'and is missing'
            return f'{section} must be an object of fields, {found}'
    method = stored['model'].get('name')
    if not isinstance(method, str):
        return f'model.name must be text, got {_short(method)}'
    values = _flat(stored)
    for name in FIELDS:
        if name not in values:
            return f'the field {name} is missing'
    for name, value in values.items():
        rule = rule_of(name, method)
        if rule is None:  # `validate` suggests the right name
            continue
        example = FIELDS[name].default if name in FIELDS else EXAMPLES.get(name)
        if not (_holds(PLAIN, value) and _like(value, example) and _holds(rule, value)):
            return f'{name} must be {_allowed_like(rule, example)}, got {_short(value)}'
    return ''


def _flat(stored: dict) -> dict[str, Any]:
    """Return the fields of a stored config by their full names; what is not a section stays as it is."""
    flat = {}
    for section, value in stored.items():
        if section in SECTIONS:
            flat |= {f'{section}.{name}': item for name, item in value.items()}
        else:
            flat[section] = value
    return flat


def _holds(rule: Rule, value: Any) -> bool:
    """Whether a rule allows a value, which may be of a type that the rule does not expect."""
    try:
        return bool(rule.holds(value))
    except (TypeError, AttributeError, ValueError, OverflowError):
        return False


def _like(value: Any, example: Any) -> bool:
    """Whether a value has the type of an example; a whole number may stand for a number. None: any type."""
    if example is None:
        return True
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, tuple) and isinstance(example, tuple) and example:
        return all(_like(item, example[0]) for item in value)
    return type(value) is type(example)


def _allowed_like(rule: Rule, example: Any) -> str:
    words = TYPES | {str: 'text', tuple: 'a list of texts'}
    return words.get(type(example), PLAIN.allowed) if rule in (ANY, PLAIN) else rule.allowed


def _short(value: Any) -> str:
    """Return a value as JSON, cut off."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def check_same_run(
    config: ConfigDict, stored: ConfigDict, workdir: AnyPath, evaluates: bool = False
) -> None:
    """Refuse to resume or evaluate a run with a config that trains something else.

    Args:
      config: the config now.
      stored: the config that the run was started with.
      workdir: the run's folder.
      evaluates: nothing is trained.
    Raises:
      ValueError: names each field that differs, with both values, and says what to do.
    """
    now, before = dict(fields(config)), dict(fields(stored))
    for name in ('model.convention', 'model.dtype'):
        if now.get(name) == 'auto':
            now[name] = before.get(name)
    fixed = _why_length_is_fixed(now)
    free = FREE if fixed else (*FREE, *LENGTH)
    if evaluates:
        free = (*free, *FREE_IN_EVALUATION)
        free = (*free, *_free_of_published(stored, workdir))
    if now.get('train.shot') == 1:  # one support is combined with nothing
        free = (*free, 'model.shots')
    if evaluates:
        _check_unseen(now, before)
    differing = [
        name
        for name in sorted(now.keys() | before.keys())
        if now.get(name) != before.get(name) and not name.startswith(free)
    ]
    if not differing:
        return
    changes = ', '.join(
        f'{name}: was {before.get(name)!r}, now {now.get(name)!r}' for name in differing
    )
    message = f'{workdir} was started with a different config ({changes})'
    if set(differing) & set(LENGTH):
        raise ValueError(
            f'{message}, and {fixed}. Restore the old values, or use a new --workdir and continue from these weights '
            f'with --config.train.start={workdir}'
        )
    raise ValueError(f'{message}. Use a new --workdir or restore the old values')


def _check_unseen(now: dict[str, Any], before: dict[str, Any]) -> None:
    """Refuse to evaluate a training on COCO-20i on classes of PASCAL-5i that it has seen."""
    sets = now['data.name'].partition('/')[0], before['data.name'].partition('/')[0]
    unseen = now['data.folds'] == 'coco' and before['data.folds'] == declared.OWN
    if sets == ('pascal5i', 'coco20i') and not unseen and before['train.classes'] == 'base':
        raise ValueError(
            f"config.data.folds must be 'coco' to evaluate a training on COCO-20i on {now['data.name']}, and 'own' in "
            'the training: else the training has seen classes of the fold'
        )


def _free_of_published(stored: ConfigDict, workdir: AnyPath) -> tuple[str, ...]:
    """Return what may differ where a published model is evaluated, which is not trained there.

    Its classes are known as those of another fold only if it was trained on all of them.
    """
    if not header.of(workdir):
        return ()
    free = ('data.name', 'data.folds')
    return (*free, 'fold') if stored.train.classes == 'all' else free


def _why_length_is_fixed(now: dict[str, Any]) -> str:
    """Why a run cannot train for more or fewer steps than it was started for; '' if it can."""
    if now.get('train.poly_power'):
        return 'its learning rate falls to zero over just these steps'
    if now.get('train.ica') and now.get('train.ica_decay') != 1:
        return 'its train.ica decays over just these steps'
    if now.get('tpc.when') == 'after':
        return 'its transformed pairs follow after just these steps'
    return ''


def _check_sizes(config: ConfigDict) -> None:
    """Refuse images of which an encoder's patches do not cover all."""
    encoder = config.model.get('encoder', 'resnet50')
    grid = registry.find(encoder).grid
    for section in ('train', 'eval'):
        size = config[section].size
        if grid.half_pixel and not grid.fits(size):
            raise ValueError(
                f'config.{section}.size must be {grid.sizes} for {encoder}, got {size}. Take '
                f'{grid.nearest(size)}'
            )


def _named_encoder(model: dict) -> dict:
    """Return a stored `config.model` with its encoder by name, where older runs have fields of a ResNet."""
    model = dict(model)
    if model.get('encoder') != 'resnet50':
        return model
    depths, deep = tuple(model.get('depths', ())), model.get('deep_stem') is True
    if depths[:3] == registry.ENCODERS['resnet101'].fields['depths']:
        model['encoder'] = 'resnet101'
        if len(depths) == 3 and model.get('name') != 'deeplab':  # whose recipe has them
            del model['depths']
    if deep:
        model['encoder'] += '_v2'
        del model['deep_stem']
    return model


def _check_batch(batch: int, devices: int, hosts: int) -> None:
    if batch % devices:
        fewer = max(batch // devices, 1) * devices
        more = (batch // devices + 1) * devices
        where = '1 host' if hosts == 1 else f'{hosts} hosts'
        raise ValueError(
            f'config.train.batch must be a multiple of the {devices} devices (of {where}), got {batch}; the nearest '
            f'that fit are {fewer} and {more}'
        )


def _parsed(name: str, text: str, current: Any) -> Any:
    if isinstance(current, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(
            f'{name}={text}: {text!r} is not a number, True, False or a tuple'
        ) from None
    return tuple(value) if isinstance(value, list) else value


def _allowed(config: ConfigDict, name: str, current: Any) -> str:
    """What a field may hold, in words."""
    if isinstance(current, tuple):
        return f'a tuple such as {current or (0, 1)!r}'
    method = config.model.get('name', '') if 'model' in config else ''
    rule = rule_of(name, method) or PLAIN
    return rule.allowed if rule is not PLAIN else TYPES.get(type(current), PLAIN.allowed)


def _similar(one: str, other: str) -> bool:
    return difflib.SequenceMatcher(None, one, other).ratio() > 0.6


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


def stored_config(workdir: AnyPath) -> ConfigDict:
    """Return the config that a run was started with.

    Raises:
      ValueError: there is none, or it is damaged.
    """
    file = header.config_file(workdir)
    if not file.exists():
        raise ValueError(f'{workdir} has no config.json. Train there first, or give --config')
    return load(file)
