"""Runs the benchmarks, which lie in benchmarks/ of a checkout.

    simpropnet bench                          (lists them)
    simpropnet bench training --help
    simpropnet bench training --config simpropnet:fold=2

The installed package has no benchmarks: get a checkout, and install it with `pip install -e '.[bench]'`.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

from simpropnet_jax.config import command_line, field_help, recipes

PASSES_ON = True  # what follows the name of a benchmark is that benchmark's


def add_arguments(parser: command_line.Parser) -> None:
    """Add the command's flags."""
    parser.add_argument('name', nargs='?', metavar='NAME', help='benchmark to run; none: list them')


def main(args) -> None:
    """List the benchmarks, or run one in a separate process."""
    folder = recipes.PACKAGE.parent / 'benchmarks'
    if not folder.is_dir():
        raise FileNotFoundError(
            'there are no benchmarks here: they lie in benchmarks/ of a checkout of the repository, in which '
            "`pip install -e '.[bench]'` installs what they need"
        )
    found = benchmarks(folder)
    if not args.words:
        print(f'Benchmarks of {folder}; `simpropnet bench NAME --help` explains one:\n')
        print(field_help.columns(found.items()), end='')
        return
    name, *words = args.words
    if name not in found:
        raise ValueError(f'there is no benchmark {name!r}; there are {", ".join(found)}')
    places = [str(folder.parent), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(places)}
    done = subprocess.run(
        [sys.executable, '-m', f'benchmarks.{name}', *words], check=False, env=environment
    )
    sys.exit(done.returncode)


def benchmarks(folder: Path) -> dict[str, str]:
    """Return the benchmarks of a folder by name, with the first line of what each says of itself."""
    found = {}
    for path in sorted(folder.glob('*.py')):
        source = path.read_text()
        if "if __name__ == '__main__':" in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or '').partition('\n')[0]
    return found
