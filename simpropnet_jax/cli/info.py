"""Shows what is installed and what is there: versions, devices, prepared data, recipes and caches.

    simpropnet info
    simpropnet info --data_dir /data/prepared

Give its output with a report of an error.
"""

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from simpropnet_jax.config import command_line, field_help, recipes
from simpropnet_jax.published import locate, table
from simpropnet_jax.runtime import paths

LIBRARIES = (
    'simpropnet-jax',
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'numpy',
    'tensorflow',
    'tensorflow-datasets',
    'gradio',
    'onnxruntime',
)
INDEX = 'index.npz'  # in every folder of prepared data
DEPTH = 3  # folders below --data_dir that are looked into


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        '--data_dir',
        type=Path,
        default=Path('~/tensorflow_datasets'),
        metavar='DIR',
        help='folder in which prepared data is looked for',
    )


def main(args) -> None:
    """Print the facts."""
    for title, rows in (
        ('Versions', _versions()),
        ('Devices', _devices()),
        (f'Prepared data in {args.data_dir}', _data(paths.expanded(args.data_dir))),
        ('Models', _models()),
        ('Recipes', [('folder', str(recipes.folder())), ('names', ', '.join(recipes.names()))]),
        ('Caches', _caches()),
    ):
        print(f'{title}:\n{field_help.columns(rows)}')


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files)


def _versions() -> list[tuple[str, str]]:
    rows = [('Python', platform.python_version()), ('system', platform.platform())]
    for library in LIBRARIES:
        rows.append((library, _version(library) or 'not installed'))
    return rows


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return _version('tensorflow-cpu') if library == 'tensorflow' else None


def _devices() -> list[tuple[str, str]]:
    import jax

    rows = [
        (f'{device.platform} {device.id}', device.device_kind) for device in jax.local_devices()
    ]
    said = {
        name: value for name, value in os.environ.items() if name in ('JAX_PLATFORMS', 'XLA_FLAGS')
    }
    return [*rows, ('CPU cores', str(os.cpu_count())), *said.items()]


def _data(folder: Path) -> list[tuple[str, str]]:
    found = [
        path.parent for depth in range(DEPTH + 1) for path in folder.glob('*/' * depth + INDEX)
    ]
    rows = [(str(path.relative_to(folder)), f'{size_of(path) / 2**20:,.0f} MiB') for path in found]
    return rows or [('nothing', '`simpropnet prepare` prepares data')]


def _models() -> Iterator[tuple[str, str]]:
    for name, source in table.MODELS.items():
        try:
            yield name, locate.describe(locate.find(name)) if source == table.BUNDLED else source
        except (OSError, ValueError) as error:
            yield name, str(error)


def _caches() -> Iterator[tuple[str, str]]:
    said = os.environ.get('SIMPROPNET_CACHE')
    folder = paths.cache()
    yield 'folder', f'{folder}{" (SIMPROPNET_CACHE)" if said else ""}'
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for part in parts:
        yield part.name, f'{size_of(part) / 2**20:,.0f} MiB'
    if not parts:
        yield 'nothing', 'downloads and compiled programs will be kept there'
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
        yield 'compiled programs', os.environ['JAX_COMPILATION_CACHE_DIR']
