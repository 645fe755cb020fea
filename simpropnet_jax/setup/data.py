"""The data of a run: the prepared data set, the training episodes, and the episodes of an evaluation."""

from dataclasses import replace
from pathlib import Path

from ml_collections import ConfigDict

from simpropnet_jax.datasets.index import listed_pairs
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes import augment, protocols
from simpropnet_jax.episodes.episode_files import read_episodes
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.runtime import paths

# Episodes that select a checkpoint come from a seed that no evaluation uses.
SELECTION_SEED = 1_000_000


def open_data(config: ConfigDict) -> Source:
    """The prepared data set."""
    return open_source(config.data.name, paths.parse(config.data.dir))


def data_word(config: ConfigDict) -> str:
    """What results call the data set: its name, and where it is one's own, the name of its folder."""
    name = config.data.name
    return f'{name}/{paths.parse(config.data.dir).name}' if name == 'folder' else name


def training_sampler(config: ConfigDict, source: Source) -> TrainSampler:
    """The sampler of training episodes over the classes that are trained.

    Raises:
      ValueError: images with novel classes are to be dropped, though novel classes are to be trained.
    """
    data, train = config.data, config.train
    everything = train.classes == 'all'
    if everything and data.drop_novel_images:
        raise ValueError(
            "config.data.drop_novel_images must be False with config.train.classes 'all', got True: no class is novel"
        )
    index = source.index
    classes = (
        tuple(range(1, len(index.class_names))) if everything else index.base_classes(config.fold)
    )
    if not classes:
        raise ValueError(
            f'fold {config.fold} holds out all classes of {data.dir}, so that none is left to train on: set '
            "config.train.classes to 'all' to train on them, or prepare the data with a folds.json"
        )
    dropped = index.novel_classes(config.fold) if data.drop_novel_images else ()
    pairs = listed_pairs(index, data.train_list, classes, data.tiny_rule, dropped)
    return TrainSampler(
        pairs,
        shot=train.shot,
        seed=config.seed,
        fold=config.fold,
        batch=train.batch,
        order=train.sampling,
    )


def image_sizes(train: ConfigDict, episodic: bool) -> dict[str, int]:
    """Return the sides of the squares in which training images are read, by the loader's argument.

    Args:
      train: `config.train`.
      episodic: whether the method is trained on episodes.
    """
    if episodic:
        support_size = augment.support_size(train.size, train.support_scale)
        return {'query_size': train.size, 'support_size': support_size}
    return {'size': train.size if train.turn else augment.labelled_size(train.size)}


def evaluation_episodes(
    config: ConfigDict, source: Source, identical: bool = False
) -> tuple[Protocol, dict[tuple[int, int], list[Episode]]]:
    """The rules of an evaluation and its episodes, {(shot, seed): episodes}, of the fold's novel classes.

    The rules are those of the protocol that `config.eval` names, or of the file of episodes. Its fields `episodes` and
    `seeds` (of drawn episodes) and `label_size` (of both) override them, where they are not 0 or ().

    Args:
      identical: one set in which every pair is an episode, its query being its support.
    Raises:
      ValueError, FileNotFoundError: a class has too few images, or the file of episodes cannot be taken.
    """
    wanted, fold, sets = config.eval, config.fold, {}
    if wanted.episodes_file:
        file = Path(wanted.episodes_file).expanduser()
        protocol, sets = read_episodes(file, source.index, fold, wanted.shots)
    else:
        protocol = protocols.get_protocol(wanted.protocol)
        count, seeds = wanted.episodes or protocol.episodes, tuple(wanted.seeds) or protocol.seeds
        protocol = replace(protocol, episodes=count, seeds=seeds)
    void = config.data.void if protocol.void == 'as trained' else protocol.void
    protocol = replace(protocol, void=void, resolution=wanted.label_size or protocol.resolution)
    if identical:
        return protocol, {(1, 0): protocols.identical_episodes(protocol, source.index, fold)}
    if sets:
        return protocol, sets
    drawn = {
        (shot, seed): protocols.episodes(protocol, source.index, fold, shot, seed)
        for shot in wanted.shots
        for seed in protocol.seeds
    }
    return protocol, drawn


def selection_episodes(config: ConfigDict, source: Source) -> tuple[tuple[int, ...], list[Episode]]:
    """Classes and 1-shot episodes that choose the best checkpoint.

    Of our own protocol, whatever `config.eval` says: that may change from one call to the next, selection may not.
    """
    index = source.index
    classes = (index.base_classes if config.select.on == 'base_val' else index.novel_classes)(
        config.fold
    )
    name = 'folder' if config.data.name == 'folder' else 'simpropnet'
    protocol = replace(protocols.get_protocol(name), episodes=config.select.episodes)
    return classes, protocols.episodes(
        protocol, source.index, config.fold, 1, SELECTION_SEED, classes
    )
