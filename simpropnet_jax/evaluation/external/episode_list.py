"""Write the episodes of an evaluation to files: the same for every method, in any language."""

from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes import hpascal_file
from simpropnet_jax.episodes.episode_files import write_episodes
from simpropnet_jax.evaluation.external import plain_files
from simpropnet_jax.runtime.progress import ProgressBar
from simpropnet_jax.setup.data import evaluation_episodes, open_data


def list_episodes(
    config: ConfigDict, out: str, hpascal: str | Path | None = None, shot: int | None = None
) -> None:
    """Draw the episodes of `config.eval`, or take them from an H-PASCAL-5i file, and write them.

    Args:
      out: a JSON file, or a folder for plain files.
      hpascal: the file written by `hierarchy_build`.
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
    if Path(out).suffix == '.json':
        digest = write_episodes(out, protocol, config.fold, episodes, source.index)
    else:
        bar = ProgressBar()
        digest = plain_files.write_folder(Path(out), protocol, config.fold, episodes, source, bar)
    count = sum(len(drawn) for drawn in episodes.values()) // protocol.ways
    print(f'{out}: {count} episodes of {protocol.name}, fold {config.fold}, hash {digest}')
