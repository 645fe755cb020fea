"""Check which rows may be compared: they must differ only in what they compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.config import rules
from simpropnet_jax.evaluation.results import result_file
from simpropnet_jax.sweeps.rows import Row

# Config fields, or their prefixes, that compared rows have in common. The budget is checked separately.
COMMON = (
    'seed',
    'fold',
    'data.',
    'train.shot',
    'train.size',
    'train.classes',
    'select.',
    'eval.',
)
# Rows of one method have these in common too; another method has its own recipe.
OF_ONE_METHOD = ('model.', 'train.')
# Fields that may differ: what rows compare, parts of the budget, and what changes no number.
MAY_DIFFER = (
    'train.crc',
    'train.alignment',
    'model.shots',
    'model.fbaf_activation',
    'model.attention_gain',
    'train.steps',
    'train.epochs',
    'data.dir',
    'data.loader',
    'data.workers',
    'model.weights',
    'model.trained',
    'model.convention',
    'train.log_every',
    'eval.shots',
    'eval.batch',
)
# The papers' epochs are compared as published, though they differ.
PAPERS = {'canet': '200 epochs', 'simpropnet': '180 epochs'}


def check_comparable(rows: Mapping[str, Row], study: Mapping[str, Mapping], workdir: Path) -> None:
    """Refuse rows that differ from earlier rows in more than they compare.

    Args:
      rows: the rows of this call, by name.
      study: the rows of earlier calls, as study.json has them.
      workdir: folder with a folder for each row.
    Raises:
      ValueError: names two rows, the field and both values.
    """
    for row in rows.values():
        if (workdir / row.name / 'config.json').exists():  # even if it was interrupted
            earlier = rules.load(workdir / row.name / 'config.json')
            difference = _difference(row.config, earlier, evaluation=False)
            _refuse(difference, workdir, row.name, 'now it')
        for name, earlier_row in study.items():
            if name not in rows and row.name != name and _compared(row, name, earlier_row):
                earlier = _earlier_config(workdir, name, earlier_row)
                difference = _difference(row.config, earlier, evaluation=True)
                _refuse(difference, workdir, name, f'{row.name}, which is compared with it,')


def budget(config: ConfigDict) -> str:
    """Return how much a config trains: steps with conditioning, or, as the second paper counts, epochs without it."""
    conditioning = config.tpc.steps if config.tpc.when in ('before', 'after') else 0
    if config.train.steps:
        return f'{config.train.steps + conditioning} steps'
    return f'{config.train.epochs} epochs'


def _compared(row: Row, name: str, earlier_row: Mapping) -> bool:
    return name == row.against or row.name == earlier_row['against']


def _refuse(difference: tuple | None, workdir: Path, name: str, who: str) -> None:
    if difference:
        field, now, before = difference
        raise ValueError(
            f'{workdir} holds the row {name} with {field} {before}, but {who} would have {now}. Use a new --workdir '
            'or restore the old value'
        )


def _earlier_config(workdir: Path, name: str, row: Mapping) -> ConfigDict:
    """Return the config of a row's training, with the `eval` of its latest results."""
    config = rules.plain(rules.load(workdir / name / 'config.json'))
    for path in row['results'].values():
        config['eval'] |= result_file.read_result(workdir / path)['eval']
    return ConfigDict(config)


def _difference(
    config: ConfigDict, earlier: ConfigDict, evaluation: bool
) -> tuple[str, str, str] | None:
    """Return the first field that must agree but differs, and both values.

    Args:
      evaluation: whether `eval` must be the same too.
    """
    one_method = config.model.name == earlier.model.name
    common = COMMON + OF_ONE_METHOD if one_method else COMMON
    free = MAY_DIFFER if evaluation else (*MAY_DIFFER, 'eval.')
    now = dict(rules.fields(ConfigDict(rules.plain(config))))
    before = dict(rules.fields(ConfigDict(rules.plain(earlier))))
    for field in [*now, *(before.keys() - now.keys())]:
        same = now.get(field) == before.get(field)
        if field.startswith(common) and not field.startswith(free) and not same:
            return f'config.{field}', repr(now.get(field)), repr(before.get(field))
    budgets = [budget(config), budget(earlier)]
    papers = [PAPERS.get(config.model.name), PAPERS.get(earlier.model.name)]
    if budgets[0] == budgets[1] or (not one_method and budgets == papers):
        return None
    fields = 'config.train.steps and config.tpc.steps, or config.train.epochs'
    return f'a budget ({fields}) of', budgets[0], budgets[1]


def same_evaluation(records: Sequence[Mapping]) -> bool:
    """Return whether results were evaluated in the same way, apart from shots and batch."""
    free = {name.removeprefix('eval.') for name in MAY_DIFFER if name.startswith('eval.')}
    facts = [
        {name: value for name, value in record['eval'].items() if name not in free}
        for record in records
    ]
    return all(one == facts[0] for one in facts)
