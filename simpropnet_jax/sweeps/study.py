"""Several trainings that may be compared, evaluated on the same episodes and compared in pairs."""

import contextlib
import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.evaluation.results import bootstrap, result_file
from simpropnet_jax.evaluation.results.naming import INPUTS, method_name, result_name
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.report.study_table import table
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup import experiment
from simpropnet_jax.training.loop import train_and_evaluate
from simpropnet_jax.training.state import split

logger = logging.getLogger(__name__)

# What rows that are compared must have in common, besides the budget: names of config fields, or their beginnings.
COMMON = ('seed', 'fold', 'data.', 'train.shot', 'train.size', 'train.classes', 'select.', 'eval.')
# Rows of one method these, too; another method has its own recipe.
OF_ONE_METHOD = ('model.', 'train.')
# Of all these they may differ in what rows are there to compare, in the budget's parts, and in what changes no number.
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
# The papers' epochs are compared as they are, though they are not the same.
PAPERS = {'canet': '200 epochs', 'simpropnet': '180 epochs'}


def run_study(
    rows: Mapping[str, tuple[ConfigDict, str | None]],
    workdir: Path,
    inputs: Sequence[str] = INPUTS,
    shots: Sequence[int] = (),
    seeds: int = 1,
) -> dict[str, dict]:
    """Trains and evaluates every row, at the shot it is trained with; what is done already is not done again.

    A training is done if its results are there, even where its checkpoints are not: a study whose study.json, config
    and result files were kept resumes on another machine.

    Args:
      rows: name -> config, and the name of the row that it is compared with.
      workdir: each row's is the folder of its name in it. All rows so far go to study.json.
      inputs: what they are evaluated on, of `naming.INPUTS`.
      shots: of episodes on which they are evaluated, too.
      seeds: trainings of each row, with `config.seed`, `config.seed` + 1, ...; the later ones in folders NAME_seed1,
        NAME_seed2, ... A row that has more already keeps them.
    Returns:
      What study.json holds, rows of earlier calls too: name -> method, parameters, minutes of a training, mIoU by
      inputs (and, where it is not the training's, by shot), episodes a second, comparison on episodes, and on others.
      `trainings` has one entry a seed. Of several trainings the mIoU is the mean, `std` their standard deviation.
    Raises:
      ValueError, OSError: what a user can mend, for every row before the first is trained.
    """
    unknown = set(inputs) - set(INPUTS)
    if unknown:
        raise ValueError(f'inputs must be of {", ".join(INPUTS)}, got {min(unknown)!r}')
    stored = workdir / 'study.json'
    found = json.loads(stored.read_text()) if stored.exists() else {}
    check_one_budget(rows, found, workdir)
    sizes = {}
    for name, (config, _) in rows.items():
        sizes[name] = parameters(experiment.prepare_method(config, workdir / name))
        experiment.prepare_sampler(config, experiment.open_data(config))
    for number, (name, (config, _)) in enumerate(rows.items(), 1):
        logger.info('row %d of %d: %s', number, len(rows), name)
        trained, earlier = sizes[name]['trained'] > 0, trainings(found.get(name, {}))
        made = []
        for place in range(max(seeds, len(earlier)) if trained else 1):
            known = earlier[place] if place < len(earlier) else None
            made.append(_training(config, name, place, workdir, inputs, shots, trained, known))
        found[name] = {
            'method': method_name(config),
            'shot': config.train.shot,
            'against': rows[name][1],
            'parameters': sizes[name],
            **_summary(made),
            'trainings': made,
        }
        for one, row in found.items():
            if name in (one, row['against']) and row['against'] in found:
                row |= _comparisons(workdir, found, one)
        checkpoint.write_json(stored, found)
        print('\n' + table(found))
    return found


def trainings(row: Mapping) -> list[dict]:
    """Return the trainings of a row of study.json; rows of earlier versions are their only training themselves."""
    if not row:
        return []
    facts = ('minutes', 'miou', 'episodes_per_second', 'results')
    return row.get('trainings') or [
        {'seed': 0} | {name: row[name] for name in facts if name in row}
    ]


def _training(config, name, place, workdir, inputs, shots, trained, known) -> dict:
    """One training of a row with its evaluations; `known` is its entry of an earlier call."""
    config, shot = ConfigDict(config.to_dict()), config.train.shot
    config.seed += place
    folder = workdir / (f'{name}_seed{place}' if place else name)
    also = lambda one: shots if one == 'episodes' else ()
    wanted = {one: _at_shots(config, {shot, *also(one)}) for one in inputs}
    if known and all(
        _is_evaluated(wanted[one], workdir, known['results'].get(one)) for one in inputs
    ):
        return known
    if trained:
        train_and_evaluate(_at_shots(config, (shot,)), folder)
    results = {one: evaluated(evaluation, folder, one) for one, evaluation in wanted.items()}
    jax.clear_caches()  # or the compiled programs of all rows stay in memory
    results = _kept(config, workdir, known) | results
    return {
        'seed': config.seed,
        'minutes': training_minutes(folder, config.train.batch) if trained else 0.0,
        'miou': _scores(results, shot),
        'episodes_per_second': _speed(results, shot),
        'results': {one: str(path.relative_to(workdir)) for one, path in results.items()},
    }


def _kept(config, workdir, known) -> dict[str, Path]:
    """Result files of an earlier call on other inputs, if they were evaluated as the config says but for the shots."""
    plain = lambda evaluation: {
        name: value for name, value in evaluation.items() if name != 'shots'
    }
    now, found = plain(config_rules.plain(config.eval)), {}
    for inputs, result in (known or {}).get('results', {}).items():
        path = workdir / result
        if path.exists() and plain(result_file.read_result(path)['eval']) == now:
            found[inputs] = path
    return found


def _is_evaluated(config, workdir, result) -> bool:
    """Whether a result file is there, of the same evaluation."""
    path = workdir / result if result else None
    return bool(path and path.exists()) and result_file.read_result(path)[
        'eval'
    ] == config_rules.plain(config.eval)


def _summary(made: Sequence[Mapping]) -> dict:
    """Of one training its own facts; of several the mean and the standard deviation over them."""
    first = made[0]
    facts = {name: first[name] for name in ('miou', 'episodes_per_second', 'results')}
    facts['minutes'] = statistics.mean(one['minutes'] for one in made)
    if len(made) == 1:
        return facts
    shared = [name for name in first['miou'] if all(name in one['miou'] for one in made)]
    facts['miou'] = {}
    for name in shared:
        scores = [one['miou'][name] for one in made]
        mious = [score['miou'] for score in scores]
        facts['miou'][name] = {
            'miou': statistics.mean(mious),
            'std': statistics.stdev(mious),
            'fb_iou': statistics.mean(score['fb_iou'] for score in scores),
        }
    return facts


def check_one_budget(
    rows: Mapping[str, tuple[ConfigDict, str | None]], found: Mapping[str, Mapping], workdir: Path
) -> None:
    """Refuses rows that differ from those of earlier calls in more than they are there to compare.

    Args:
      rows, workdir: see `run_study`.
      found: the earlier rows, of study.json.
    Raises:
      ValueError: names two rows, the field and both values.
    """
    for name, (config, against) in rows.items():
        for other, earlier in {name: {}, **found}.items():  # itself, too, even if it was stopped
            compared = other not in rows and (other == against or name == earlier['against'])
            again = other == name and (workdir / name / 'config.json').exists()
            if not compared and not again:
                continue
            results = [workdir / path for path in earlier['results'].values()] if compared else []
            difference = _difference(
                config, _earlier_config(workdir / other, results), evaluation=compared
            )
            if difference:
                field, now, before = difference
                who = f'{name}, which is compared with it,' if compared else 'now it'
                raise ValueError(
                    f'{workdir} holds the row {other} with {field} {before}, but {who} would have {now}: '
                    'use another --workdir, or the value that is there'
                )


def _earlier_config(workdir, results) -> ConfigDict:
    """What a row was trained with; its `eval` is that of its latest results, which need not be the training's."""
    config = config_rules.plain(config_rules.load(workdir / 'config.json'))
    for path in results:
        config['eval'] |= result_file.read_result(path)['eval']
    return ConfigDict(config)


def _difference(config, earlier, evaluation) -> tuple | None:
    """The first field, and both values, that rows must have in common and have not; `evaluation`: in `eval`, too."""
    one_method = config.model.name == earlier.model.name
    common = COMMON + OF_ONE_METHOD * one_method
    free = MAY_DIFFER + ('eval.',) * (not evaluation)
    now, before = (
        dict(config_rules.fields(ConfigDict(config_rules.plain(config)))),
        dict(config_rules.fields(earlier)),
    )
    for field in [*now, *(before.keys() - now.keys())]:
        if (
            field.startswith(common)
            and not field.startswith(free)
            and now.get(field) != before.get(field)
        ):
            return f'config.{field}', repr(now.get(field)), repr(before.get(field))
    now, before = _budget(config), _budget(earlier)
    papers = not one_method and [now, before] == [
        PAPERS.get(one.model.name) for one in (config, earlier)
    ]
    if now != before and not papers:
        return (
            'a budget (config.train.steps and config.tpc.steps, or config.train.epochs) of',
            now,
            before,
        )
    return None


def _budget(config) -> str:
    """Steps, conditioning included; or epochs without it, as the second paper counts them."""
    conditioning = config.tpc.steps if config.tpc.when in ('before', 'after') else 0
    return (
        f'{config.train.steps + conditioning} steps'
        if config.train.steps
        else f'{config.train.epochs} epochs'
    )


def _at_shots(config, shots) -> ConfigDict:
    """The config, evaluated with so many supports; `select` and all else as they are."""
    config = ConfigDict(config.to_dict())
    config.eval.shots = tuple(sorted(shots))
    return config


def parameters(method) -> dict[str, int]:
    """How many there are, and how many of them are trained."""
    params = method.abstract()['params']
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    return {'all': count(params), 'trained': count(split(params, method.config.train.frozen)[0])}


def evaluated(config, workdir, inputs) -> Path:
    """The result file of the best checkpoint, or of a method without training, made if it is not there.

    Where the training ends with transformed pairs it is that of the last: the best may be from before them.
    """
    which, step = 'latest' if config.tpc.when == 'after' else 'best', None
    if checkpoint.exist(workdir):
        with contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints:
            step = checkpoints.best_step() if which == 'best' else checkpoints.steps()[-1]
    path = workdir / 'eval' / result_name(config, 'untrained' if step is None else which, inputs)
    if path.exists():
        record = result_file.read_result(path)
        if record['checkpoint']['step'] == step and record['eval'] == config_rules.plain(
            config.eval
        ):
            return path
    evaluate_run(config, workdir, which, inputs)
    return path


def _scores(results, shot) -> dict[str, dict]:
    """Of each input; of other shots than the row's by names of their own, 'episodes, 5-shot'."""
    found = {}
    for inputs, path in results.items():
        every = result_file.read_result(path)['shots']
        for of, scored in every.items():
            name = inputs if len(every) == 1 or of == str(shot) else f'{inputs}, {of}-shot'
            scores = scored['square']
            found[name] = {
                'miou': scores['miou'],
                'std': scores['miou_std'],
                'fb_iou': scores['fb_iou'],
            }
    return found


def _speed(results, shot) -> float | None:
    if 'episodes' not in results:
        return None
    return (
        result_file.read_result(results['episodes']).get('episodes_per_second', {}).get(str(shot))
    )


def _comparisons(workdir, found, name) -> dict[str, dict]:
    """Does this row beat the one that it changes: on episodes, and on each other input that both have?"""
    against, shot = found[name]['against'], found[name]['shot']
    ours, theirs = (trainings(found[row]) for row in (name, against))
    counts = lambda made, one: [
        _counts(workdir / training['results'][one], shot) for training in made
    ]
    shared = set.intersection(*(set(training['results']) for training in [*ours, *theirs]))
    both = [one for one in found[name]['results'] if one in shared]
    made = {one: _compared(counts(theirs, one), counts(ours, one), against) for one in both}
    on_episodes = {'comparison': made.pop('episodes')} if 'episodes' in made else {}
    return on_episodes | {'other_comparisons': made}


def _compared(theirs, ours, against) -> dict:
    result = bootstrap.compare_trainings(theirs, ours)
    verdict = {'A is better': 'worse', 'B is better': 'better'}.get(result.verdict, result.verdict)
    interval = [result.low, result.high]
    return {
        'against': against,
        'difference': result.b - result.a,
        'interval': interval,
        'verdict': verdict,
        'trainings': [len(theirs), len(ours)],
    }


def _counts(path, shot):
    """The episodes of a result at the row's shot, or at the one that it has: identical inputs are 1-shot."""
    every = result_file.read_result(path)['shots']
    return bootstrap.load(path, shot if str(shot) in every else int(*every))[1]


def training_minutes(workdir, batch) -> float:
    """What the training took, by the speeds it wrote: without selection, start and pauses."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    timed, seconds, before = [line for line in lines if 'pairs_per_second' in line], 0.0, 0
    for line in timed:
        seconds += (line['step'] - before) * batch / line['pairs_per_second']
        before = line['step']
    return seconds / 60
