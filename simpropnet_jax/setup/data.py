"""The data of a run: the prepared data set, the training episodes, and the evaluation episodes."""

from dataclasses import replace

from ml_collections import ConfigDict

from simpropnet_jax.datasets import declared
from simpropnet_jax.datasets.index import Index, listed_pairs
from simpropnet_jax.datasets.source import Source, open_source
from simpropnet_jax.episodes import augment, protocols
from simpropnet_jax.episodes.episode_files import read_episodes
from simpropnet_jax.episodes.protocols import Protocol
from simpropnet_jax.episodes.sampler import Episode, TrainSampler
from simpropnet_jax.runtime import paths

# Episodes that select a checkpoint come from a seed that no evaluation uses.
SELECTION_SEED = 1_000_000


def open_data(config: ConfigDict) -> Source:
    """Open the prepared data set."""
    return open_source(config.data.name, paths.parse(config.data.dir), config.data.folds)


def data_word(config: ConfigDict) -> str:
    """Return the data set's name in results, with its folds if they are not its own; of a user's data, the folder's."""
    name, folds = config.data.name, config.data.folds
    if name == 'folder':
        return f'{name}/{paths.parse(config.data.dir).name}'
    return name if folds == declared.OWN else f'{name}:{folds}'


def trained_classes(config: ConfigDict, index: Index) -> tuple[int, ...]:
    """Return the class ids that a config trains on: those that its fold does not hold out, or all."""
    if config.train.classes == 'all':
        return tuple(range(1, len(index.class_names)))
    return index.base_classes(config.fold)


def training_sampler(config: ConfigDict, source: Source) -> TrainSampler:
    """Return the sampler of training episodes over the trained classes.

    Raises:
      ValueError: the config drops images with novel classes but trains novel classes.
    """
    data, train = config.data, config.train
    everything = train.classes == 'all'
    if everything and data.drop_novel_images:
        raise ValueError(
            "config.data.drop_novel_images must be False with config.train.classes 'all', got True: no class is novel"
        )
    index = source.index
    classes = trained_classes(config, index)
    if not classes:
        raise ValueError(
            f'fold {config.fold} holds out all classes of {data.dir}, so no class is left to train on: set '
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
    """Return the protocol of an evaluation and its episodes, {(shot, seed): episodes}, of the fold's novel classes.

    The protocol is the one named in `config.eval`, or the one in the episode file. If they are not 0 or (), the fields
    `episodes` and `seeds` override a named protocol, and `label_size` overrides both kinds.

    Args:
      identical: return one set in which every pair is an episode, with the query as its own support.
    Raises:
      ValueError, FileNotFoundError: a class has too few images, or the episode file does not fit.
    """
    wanted, fold, sets = config.eval, config.fold, {}
    if wanted.episodes_file:
        file = paths.expanded(wanted.episodes_file)
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
    """Return classes and 1-shot episodes that choose the best checkpoint.

    They always follow our own protocol: `config.eval` may change between calls, but selection may not. Base classes are
    the classes trained on: all of them with config.train.classes 'all'; of a data set with validation classes, these.
    Objects are listed by the protocol's rule for PASCAL-5i, and else by the training's.
    """
    index = source.index
    if config.select.on == 'base_val':
        classes = index.validation or trained_classes(config, index)
    else:
        classes = index.novel_classes(config.fold)
    name = 'folder' if config.data.name == 'folder' else 'simpropnet'
    protocol = replace(protocols.get_protocol(name), episodes=config.select.episodes)
    if config.data.name.startswith(('coco20i/', 'fss1000/')):
        protocol = replace(protocol, tiny_rule=config.data.tiny_rule)
    return classes, protocols.episodes(
        protocol, source.index, config.fold, 1, SELECTION_SEED, classes
    )
