"""Evaluates a trained method on classes it was never trained on.

    python eval.py --workdir runs/fold2
    python eval.py --workdir runs/fold2 --protocols all
    python eval.py --workdir runs/fold2 --inputs identical      (or zero_mask: does it look at its support?)
    python eval.py --config configs/prototype.py:fold=2 --workdir runs/prototype2   (nothing to train)
    python eval.py --config configs/simpropnet.py:fold=2 --workdir runs/theirs --predictions masks   (of any program)
    python eval.py --workdir runs/oracle        (a supervised network: whole images, all classes)

Without --config, the config of the training is used. With it, it must be the training's; fields of eval may differ:
--config.eval.shots='(1,)'. The four folds together: python -m simpropnet_jax.evaluation.results.tables runs/*/eval/*.json
"""

from pathlib import Path

from absl import flags

from simpropnet_jax.config import command_line
from simpropnet_jax.config.rules import FREE
from simpropnet_jax.runtime import hosts, paths

CONFIG = command_line.define_config(
    required=False, only=[name for name in FREE if not name.startswith('train.')]
)
WORKDIR = flags.DEFINE_string(
    'workdir', None, 'folder that train.py wrote; results go to eval/ in it'
)
CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', "which weights: 'best', 'latest' or a step")
INPUTS = flags.DEFINE_enum(
    'inputs',
    'episodes',
    ['episodes', 'identical', 'zero_mask', 'other_class'],
    'what the method is given: episodes; identical: every pair once, the query as its own support; zero_mask: the '
    'episodes with empty support masks; other_class: the episodes with supports of another class. The last three show '
    'how much a method uses its support',
)
PROTOCOLS = flags.DEFINE_list(
    'protocols',
    [],
    "several protocols in one table: 'all', or names with commas between: simpropnet,hsnet,pfenet. "
    'Each is as it is, whatever the training says of eval; with --config, its eval.episodes, eval.seeds and '
    'eval.label_size change them all',
)
PREDICTIONS = flags.DEFINE_string(
    'predictions',
    None,
    'folder of PNG masks to score instead of a checkpoint, named by episode '
    '(simpropnet_f2_s0_k1_0007.png; python -m simpropnet_jax.cli.list_episodes says what each is) or by image '
    '(2007_000033.png, of class ids); '
    "the folder's name is the method's",
)
flags.mark_flag_as_required('workdir')


def main():
    hosts.start()
    from simpropnet_jax.episodes.protocols import OF_PAPERS
    from simpropnet_jax.evaluation import run
    from simpropnet_jax.evaluation.external.predictions import evaluate_predictions
    from simpropnet_jax.setup import experiment

    config, workdir, names = CONFIG.value, paths.given(WORKDIR.value), PROTOCOLS.value
    if PREDICTIONS.value is not None:
        if names or INPUTS.value != 'episodes':
            raise ValueError(
                '--predictions are scored as config.eval says: give neither --protocols nor --inputs'
            )
        config = experiment.stored_config(workdir) if config is None else config
        evaluate_predictions(config, workdir, Path(PREDICTIONS.value), run.ProgressBar())
    elif names:
        names = list(OF_PAPERS) if names == ['all'] else names
        run.evaluate_protocols(config, workdir, names, CHECKPOINT.value, INPUTS.value)
    else:
        run.evaluate_run(config, workdir, CHECKPOINT.value, INPUTS.value)


if __name__ == '__main__':
    command_line.run(main)
