"""Evaluates a trained method on classes it was never trained on.

    python eval.py --workdir runs/fold2
    python eval.py --config configs/prototype.py:fold=2 --workdir runs/prototype2   (nothing to train)

Without --config, the config of the training is used. With it, it must be the training's; fields of eval may differ:
--config.eval.shots='(1,)'. The four folds together: python -m simpropnet_jax.evaluation.tables runs/*/eval/*.json
"""

from pathlib import Path

from absl import flags

from simpropnet_jax import commandline, parallel
from simpropnet_jax.config import FREE

CONFIG = commandline.define_config(required=False, only=[name for name in FREE if not name.startswith('train.')])
WORKDIR = flags.DEFINE_string('workdir', None, 'folder that train.py wrote; results go to eval/ in it')
CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', "which weights: 'best', 'latest' or a step")
INPUTS = flags.DEFINE_enum(
    'inputs', 'episodes', ['episodes', 'identical', 'zero_mask'],
    'what the method is given: episodes; identical: every pair once, the query as its own support; zero_mask: the '
    'episodes with empty support masks. The last two show how much a method looks at its support')  # fmt: skip
flags.mark_flag_as_required('workdir')


def main():
    parallel.start_hosts()
    from simpropnet_jax.evaluation.run import evaluate_run

    evaluate_run(CONFIG.value, Path(WORKDIR.value), CHECKPOINT.value, INPUTS.value)


if __name__ == '__main__':
    commandline.run(main)
