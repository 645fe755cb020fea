"""Trains recipes, evaluates them on the same episodes, and says which are better than which.

    python study.py --workdir runs/study --fold 1 --recipe cpu --set data.name=pascal5i/subset
    python study.py --workdir runs/study --fold 1 --rows canet,crc         (some of the rows)
    python study.py --workdir runs/methods --fold 1 --recipe cpu --rows methods --shots 1,5 --set data.name=...

The rows `propagation` (the default) are those of Improved Similarity Propagation: CANet, with cyclic reinforcement
(crc), with transformed-pair conditioning (tpc), with both, the paper's two controls; SimPropNet, with the cycle, with
both; and CANet with five supports, averaged, or weighed by its paper's attention. `methods` are all that both papers
compare, one row each, and the training-free prototype; `cycles` are the second paper's additions to PANet and AMP;
`readings` are nine of SimPropNet's Eq. 3 (where a ReLU stands, how far attention maps are spread; docs/CHOICES.md),
which want --recipe cpu and --set select.on=base_val. Each row is evaluated on episodes, on identical inputs and with
empty support masks, and compared by a paired bootstrap with the row that it changes. With --seeds 3 each row is trained
three times: the table has the mean and the deviation over trainings, and the interval of a difference covers both query
images and trainings. Re-run the same command to resume an interrupted study; with more rows it adds them, if they fit
the existing ones.

With --recipe cpu, or --set train.steps=N, all rows have as many steps, conditioning included. Without, each method has
its paper's recipe: CANet 200 epochs in batches of 4, SimPropNet 180 in batches of 8, conditioning on top: 30 epochs, or
10 after the training. The second paper's batch and rate are CANet's, whose rate_factor is 10; SimPropNet's is 1:

    --rows canet,crc,tpc,crc_tpc,tpc_mixed,tpc_after --set train.batch=24 --set train.learning_rate=2.5e-5
    --rows simpropnet,simpropnet_crc,simpropnet_crc_tpc --set train.batch=24 --set train.learning_rate=2.5e-4
"""

import argparse
import re
import sys
from pathlib import Path

from configs import amp, canet, cofcn, oslsm, panet, prototype, sgone, simpropnet
from simpropnet_jax.config import command_line, common
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.runtime import errors

# Readings of SimPropNet's Eq. 3: where a ReLU stands, times how far the attention maps are spread.
READINGS = {
    f'{activation}_{gain}': (activation, gain)
    for gain in (5000, 1000, 1)
    for activation in ('none', 'relu', 'block')
}


def reading(activation, gain):
    return lambda config: config.model.update(
        fbaf_activation=activation, attention_gain=float(gain)
    )


WORDS = {
    **common.SHARED,
    **{name: reading(*one) for name, one in READINGS.items()},
    'five': lambda config: config.train.update(shot=5),
    'attention': lambda config: config.model.update(shots='attention'),
}
# row -> config file, words, the row that it is compared with
ROWS = {
    'canet': (canet, [], None),
    'crc': (canet, ['crc'], 'canet'),
    'tpc': (canet, ['tpc'], 'canet'),
    'crc_tpc': (canet, ['crc', 'tpc'], 'canet'),
    'tpc_mixed': (canet, ['tpc_mixed'], 'canet'),
    'tpc_after': (canet, ['tpc_after'], 'canet'),
    'simpropnet': (simpropnet, [], 'canet'),
    'simpropnet_crc': (simpropnet, ['crc'], 'simpropnet'),
    'simpropnet_crc_tpc': (simpropnet, ['crc', 'tpc'], 'simpropnet'),
    'canet_5': (canet, ['five'], None),
    'canet_5_attention': (canet, ['five', 'attention'], 'canet_5'),
    'panet': (panet, [], None),
    'panet_crc': (panet, ['crc'], 'panet'),
    'panet_tpc': (panet, ['tpc'], 'panet'),
    'panet_crc_tpc': (panet, ['crc', 'tpc'], 'panet'),
    'amp': (amp, [], None),
    'amp_crc': (amp, ['crc'], 'amp'),
    'amp_tpc': (amp, ['tpc'], 'amp'),
    'amp_crc_tpc': (amp, ['crc', 'tpc'], 'amp'),
    'sgone': (sgone, [], None),
    'cofcn': (cofcn, [], None),
    'oslsm': (oslsm, [], None),
    'prototype': (prototype, [], None),
    **{name: (simpropnet, [name], 'none_1' if name != 'none_1' else None) for name in READINGS},
}
PROPAGATION = list(ROWS)[:11]
# Words of --rows for several of them.
GROUPS = {
    'propagation': PROPAGATION,
    'methods': ['simpropnet', 'canet', 'panet', 'sgone', 'cofcn', 'amp', 'oslsm', 'prototype'],
    'readings': list(READINGS),
    'cycles': ['panet_crc', 'panet_tpc', 'panet_crc_tpc', 'amp_crc', 'amp_tpc', 'amp_crc_tpc'],
}
# What --recipe and --set may not have, as it would make rows what they are not -> what there is for it.
INSTEAD = {
    'fold': '--fold N',
    'train.crc': '--rows',
    'train.alignment': '--rows',
    'tpc.when': '--rows',
    'model.shots': '--rows',
    **dict.fromkeys(common.SHARED, '--rows'),
}


def parser() -> argparse.ArgumentParser:
    result = errors.Parser(__doc__)
    result.add_argument(
        '--workdir', required=True, type=Path, help='a folder in it for each row, and study.json'
    )
    result.add_argument(
        '--rows',
        default='propagation',
        help=f'which, in order; {", ".join(GROUPS)} stand for several (default: %(default)s). All: {", ".join(ROWS)}',
    )
    result.add_argument('--fold', type=int, default=1, help='0 to 3 (default: %(default)s)')
    result.add_argument(
        '--recipe', default='', help="words for every row's config: cpu (default: the papers')"
    )
    result.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='FIELD=VALUE',
        help='a config field of every row, e.g. --set train.size=161 --set data.dir=data; again for more',
    )
    result.add_argument(
        '--inputs',
        default='episodes,identical,zero_mask',
        help='what rows are evaluated on; also other_class (default: %(default)s)',
    )
    result.add_argument(
        '--shots',
        default='',
        help='numbers of supports of the episodes, 1,5 (default: as many as in the training)',
    )
    result.add_argument(
        '--seeds',
        type=int,
        default=1,
        metavar='N',
        help='trainings of each row, with seeds 0 to N-1 (default: %(default)s)',
    )
    return result


def parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags of a study, and the rest, for the flags that all commands have."""
    given, rest = parser().parse_known_args(words)
    config = next((word for word in rest if re.match('--?(no)?config\\b', word)), None)
    if config:
        parser().error(
            f'a study takes no {config}: --rows are its configs, --recipe and --set FIELD=VALUE change them'
        )
    return given, rest


def configs(given: argparse.Namespace) -> dict:
    """row -> (config, the row that it is compared with).

    Raises:
      ValueError: a row, word, field or value that is not there, or that would make a row another.
    """
    for word in filter(None, given.recipe.split(',')):
        _check_allowed('--recipe', word, {**INSTEAD, 'seed': '--set seed=N'})
    for change in given.set:
        if '=' not in change:
            raise ValueError(f'--set must be FIELD=VALUE, got {change!r}')
        _check_allowed('--set', change, INSTEAD)
    chosen = {}
    for row in (one for word in given.rows.split(',') for one in GROUPS.get(word, [word])):
        if row not in ROWS:
            raise ValueError(f'--rows has {row!r}; there are {", ".join([*GROUPS, *ROWS])}')
        module, words, against = ROWS[row]
        config = module.get_config(','.join(filter(None, [f'fold={given.fold}', given.recipe])))
        for change in given.set:
            name, _, value = change.partition('=')
            if name not in dict(config_rules.fields(config)):
                raise ValueError(_not_there(name, row, config))
            config_rules.change(config, name, value)
        for word in words:  # after the changes: conditioning shares the steps that these give
            WORDS[word](config)
        chosen[row] = config, against
    return chosen


def _check_allowed(flag, word, instead):
    name = word.partition('=')[0]
    if name in instead:
        raise ValueError(f'{flag} must not have {word!r}: give {instead[name]} instead')


def _not_there(name, row, config) -> str:
    having = [
        one
        for one, (module, *_) in ROWS.items()
        if name in dict(config_rules.fields(module.get_config()))
    ]
    if not having:
        return config_rules.unknown_field(name, dict(config_rules.fields(config)))
    return (
        f'--set {name}: the row {row} is of {config.model.name}, which has no such field; --rows that have it: '
        + (','.join(having))
    )


def main(given: argparse.Namespace):
    from simpropnet_jax.sweeps.study import run_study

    shots = list(filter(None, given.shots.split(',')))
    if not all(shot.isdigit() and int(shot) for shot in shots):
        raise ValueError(f'--shots must be whole numbers above 0, such as 1,5, got {given.shots!r}')
    if given.seeds < 1:
        raise ValueError(f'--seeds must be 1 or more, got {given.seeds}')
    run_study(
        configs(given),
        given.workdir,
        given.inputs.split(','),
        [int(shot) for shot in shots],
        given.seeds,
    )


if __name__ == '__main__':
    arguments, sys.argv[1:] = parse(sys.argv[1:])
    command_line.guarded(lambda: main(arguments))
