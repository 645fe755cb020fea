"""Writes the episodes of an evaluation to a JSON file: the same ones for every method, in any language.

    python -m simpropnet_jax.list_episodes --config configs/simpropnet.py:fold=2 --out fold2.json

With --config.eval.protocol=hsnet they are drawn by the rules of that protocol. The file is taken by
--config.eval.episodes_file=fold2.json, and says to others what to segment: their answers are scored by `eval.py
--predictions`.
"""

from absl import flags

from simpropnet_jax import commandline, experiment
from simpropnet_jax import config as config_rules
from simpropnet_jax.episodes.episode_files import write_episodes


def main(config, out: str) -> None:
    """Draws the episodes of `config.eval` and writes them.

    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    config_rules.validate(config, devices=1)
    source = experiment.open_data(config)
    protocol, episodes = experiment.prepare_evaluation(config, source)
    digest = write_episodes(out, protocol, config.fold, episodes, source.index)
    count = sum(len(drawn) for drawn in episodes.values())
    print(f'{out}: {count} episodes of {protocol.name}, fold {config.fold}, hash {digest}')


if __name__ == '__main__':
    CONFIG = commandline.define_config(required=True)
    OUT = flags.DEFINE_string('out', None, 'JSON file to write; its folder is made if it is not there')
    flags.mark_flag_as_required('out')
    commandline.run(lambda: main(CONFIG.value, OUT.value))
