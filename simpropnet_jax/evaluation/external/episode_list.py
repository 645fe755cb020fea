"""Writes the episodes of an evaluation to a JSON file: the same ones for every method, in any language.

    python -m simpropnet_jax.cli.list_episodes --config configs/simpropnet.py:fold=2 --out fold2.json
    python -m simpropnet_jax.cli.list_episodes --config configs/simpropnet.py:fold=2 --hpascal hpascal.json --out hard2.json

With --config.eval.protocol=hsnet they are drawn by the rules of that protocol. The file is taken by
--config.eval.episodes_file=fold2.json, and says to others what to segment: their answers are scored by `eval.py
--predictions`. With --hpascal they are those of an H-PASCAL-5i file, from L0 to L7, and the answers are scored by
`python -m simpropnet_jax.analysis.hierarchy --predictions`.
"""

from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from simpropnet_jax.config import command_line
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.episode_files import write_episodes
from simpropnet_jax.setup.data import evaluation_episodes, open_data


def main(config: ConfigDict, out: str, hpascal: str | None = None, shot: int | None = None) -> None:
    """Draws the episodes of `config.eval`, or takes those of an H-PASCAL-5i file, and writes them.

    Args:
      hpascal: the file, which `hierarchy_build` wrote.
      shot: supports of its episodes; None: one.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    config_rules.validate(config, devices=1)
    if shot is not None and hpascal is None:
        raise ValueError(
            '--shot is for --hpascal: without it, config.eval.shots says how many supports there are'
        )
    source = open_data(config)
    if hpascal is None:
        protocol, episodes = evaluation_episodes(config, source)
    else:
        file, shot = hpascal_file.read(Path(hpascal)), shot or 1
        partitions = hpascal_file.episodes(file, config.fold, source.ids, shot)
        protocol = hpascal_file.protocol(file, partitions, config.eval.label_size, config.data.void)
        episodes = {(shot, 0): [e for found in partitions.values() for e in found]}
    digest = write_episodes(out, protocol, config.fold, episodes, source.index)
    count = sum(len(drawn) for drawn in episodes.values())
    print(f'{out}: {count} episodes of {protocol.name}, fold {config.fold}, hash {digest}')


if __name__ == '__main__':
    CONFIG = command_line.define_config(required=True)
    OUT = flags.DEFINE_string(
        'out', None, 'JSON file to write; its folder is made if it is not there'
    )
    HPASCAL = flags.DEFINE_string(
        'hpascal', None, 'file of simpropnet_jax.analysis.hierarchy_build: list its episodes'
    )
    SHOT = flags.DEFINE_integer(
        'shot', None, 'supports of its episodes (default: 1)', lower_bound=1
    )
    flags.mark_flag_as_required('out')
    command_line.run(lambda: main(CONFIG.value, OUT.value, HPASCAL.value, SHOT.value))
