"""Prepare COCO-20i from the official files, and describe the result."""

from pathlib import Path

from simpropnet_jax.datasets.coco20i import check
from simpropnet_jax.datasets.coco20i.builder import Coco20i
from simpropnet_jax.datasets.coco20i.classes import CLASS_NAMES
from simpropnet_jax.datasets.index import Index
from simpropnet_jax.datasets.tfds_splits import INDEX_FILE
from simpropnet_jax.runtime import disk

MOST_LINES = 20  # of differences that are printed


def prepare(
    data_dir: str,
    *,
    images: str | Path,
    annotations: str | Path,
    subset: bool = False,
    lists: Path | None = None,
) -> None:
    """Prepare COCO-20i and print its counts; an existing prepared data set is not changed.

    Args:
      data_dir: folder for the prepared data.
      images, annotations: the input, see `inputs.find_inputs`.
      subset: accept a part of the data, without checking counts.
      lists: folder of HSNet's lists to compare with, pair by pair.
    Raises:
      ValueError, OSError, ImportError: in one sentence, what is wrong.
    """
    config = 'subset' if subset else 'complete'
    builder = Coco20i(config=config, data_dir=data_dir, images=images, annotations=annotations)
    index_path = Path(builder.data_dir) / INDEX_FILE
    if index_path.is_file():
        print(
            f'{builder.data_dir} is already prepared and is left as it is. Delete it to prepare it again.'
        )
    else:
        builder.download_and_prepare()
    index = Index.load(index_path, classes=len(CLASS_NAMES))
    print(
        f'coco20i/{config} in {builder.data_dir}, {disk.used(Path(builder.data_dir)) / disk.GB:.1f} GB'
    )
    found = check.counts(index)
    print(
        ', '.join(
            f'{check.PARTS[name]}: {member.sum():,} images' for name, member in index.lists.items()
        )
    )
    print(check.describe(found))
    if subset:
        print('A declared subset: counts are not checked; results on it are not COCO-20i results.')
    else:
        _print_differences(
            check.check_complete(found, check.reference_counts()),
            "All counts are those of HSNet's lists.",
        )
    if lists is not None:
        _print_differences(
            check.compare_lists(index, lists), "No pair of these images differs from HSNet's lists."
        )


def _print_differences(lines: list[str], none: str) -> None:
    print('\n'.join(lines[:MOST_LINES]) or none)
    if len(lines) > MOST_LINES:
        print(f'and {len(lines) - MOST_LINES} more')


def command(config: str, data_dir: str | Path) -> str:
    """Return the command that prepares a builder config, for messages."""
    subset = ' --subset' if config == 'subset' else ''
    return (
        f'simpropnet prepare coco20i --images COCO --annotations COCO{subset} --data_dir {data_dir}'
    )
