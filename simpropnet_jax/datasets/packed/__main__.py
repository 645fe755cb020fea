"""Packs a prepared data set into a few files that travel to a machine without TensorFlow.

    python -m simpropnet_jax.datasets.packed --name pascal5i/subset --data_dir ~/tensorflow_datasets --out packed

The folder takes the place of the prepared data set: give it as `config.data.dir`, with the name left as it was. Bytes
are the very ones that were stored, so every number is the same.
"""

from collections.abc import Sequence
from pathlib import Path

from simpropnet_jax.datasets.packed import store
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.runtime import errors, paths


def parser() -> errors.Parser:
    result = errors.Parser(__doc__, prog='python -m simpropnet_jax.datasets.packed')
    result.add_argument(
        '--name', required=True, help='of the prepared data set, such as pascal5i/subset'
    )
    result.add_argument('--data_dir', required=True, help='where it was prepared')
    result.add_argument('--out', required=True, type=Path, help='a new folder')
    result.add_argument(
        '--part', type=int, default=48, help='size of a file in MiB, at most (default: %(default)s)'
    )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Packs a prepared data set."""
    given = parser().parse_args(arguments)
    with errors.plain_errors():
        source = open_source(given.name, paths.given(given.data_dir))
        facts = store.write(source, given.out, given.part * store.MEBIBYTE)
        print(
            f'{given.name}: {len(facts["parts"])} parts in {given.out}; set config.data.dir to it'
        )


if __name__ == '__main__':
    main()
