"""Prepare FSS-1000 from the released folder, and describe the result."""

from pathlib import Path

from simpropnet_jax.datasets.fss1000.builder import Fss1000, load_classes
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.tfds_splits import INDEX_FILE
from simpropnet_jax.runtime import disk


def prepare(data_dir: str, *, folder: str | Path, lists: str | Path, subset: bool = False) -> None:
    """Prepare FSS-1000 and print its counts; an existing prepared data set is not changed.

    Args:
      data_dir: folder for the prepared data.
      folder, lists: the input, see `inputs.find_inputs`.
      subset: accept a part of the classes and images.
    Raises:
      ValueError, OSError: in one sentence, what is wrong.
    """
    config = 'subset' if subset else 'complete'
    builder = Fss1000(config=config, data_dir=data_dir, folder=folder, lists=lists)
    prepared = Path(builder.data_dir)
    if (prepared / INDEX_FILE).is_file():
        print(
            f'{prepared} is already prepared and is left as it is. Delete it to prepare it again.'
        )
    else:
        builder.download_and_prepare()
    again = f'Remove {prepared} and run `{command(config, data_dir)}`'
    names, held_out, validation = load_classes(prepared, again)
    index = Index.load(prepared / INDEX_FILE, again, len(names))
    trained = len(names) - 1 - len(held_out[0]) - len(validation)
    print(f'fss1000/{config} in {prepared}, {disk.used(prepared) / disk.GB:.2f} GB')
    print(
        f'{trained} classes to train on, {len(validation)} to select a checkpoint, {len(held_out[0])} to evaluate on; '
        f'{len(index.ids):,} images'
    )
    if subset:
        print('A declared subset: results on it are not FSS-1000 results.')


def command(config: str, data_dir: str | Path) -> str:
    """Return the command that prepares a builder config, for messages."""
    subset = ' --subset' if config == 'subset' else ''
    return f'simpropnet prepare fss1000 --folder fewshot_data --lists LISTS{subset} --data_dir {data_dir}'
