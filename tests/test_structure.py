"""The package's structure: imports run downwards, without cycles; every name is defined once."""

import ast
from collections import defaultdict
from pathlib import Path

import simpropnet_jax

PACKAGE = Path(simpropnet_jax.__file__).parent
# From the top down; rooms of one line do not import each other.
FLOORS = [
    ['__main__'],
    ['cli'],
    ['sweeps'],
    ['report'],
    ['analysis', 'training', 'export', 'app'],
    ['__init__'],
    ['evaluation', 'inference'],
    ['setup'],
    ['config'],
    ['episodes'],
    ['models', 'datasets'],
    ['backbones', 'io', 'published'],
    ['ops', 'runtime', 'samples'],
]
FLOOR = {room: number for number, rooms in enumerate(reversed(FLOORS)) for room in rooms}
# The modules that a training and an evaluation run through which are given the config, or read its fields.
CONFIG_READERS = {
    'config.rules',
    'setup.run',
    'setup.refusals',
    'setup.data',
    'setup.weights',
    'setup.method',
    'training.loop',
    'training.trainer',
    'evaluation.run',
    'evaluation.oracle',
    'evaluation.results.naming',
}


def modules() -> dict[str, ast.Module]:
    """The package's modules by name, less the package's own: 'training.loop'."""
    found = {}
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        name = '.'.join(parts[:-1] if parts[-1] == '__init__' and len(parts) > 1 else parts)
        if parts[0] != 'configs':
            found[name] = ast.parse(path.read_text())
    return found


MODULES = modules()


def imports(tree: ast.Module) -> set[str]:
    """The modules of the package that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or '').split('.')[0] == 'simpropnet_jax'
        ):
            base = node.module.removeprefix('simpropnet_jax').lstrip('.')
            for alias in node.names:
                name = f'{base}.{alias.name}'.lstrip('.')
                found.add(name if name in MODULES else base or '__init__')
    return found


IMPORTS = {name: imports(tree) for name, tree in MODULES.items()}


def test_imports_run_downwards():
    upward = []
    for name, targets in IMPORTS.items():
        room = name.partition('.')[0]
        for target in targets:
            other = target.partition('.')[0]
            if other != room and FLOOR[other] >= FLOOR[room]:
                upward.append(f'{name} imports {target}')
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    done, path = set(), []

    def visit(name):
        assert name not in path, ' -> '.join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for target in IMPORTS[name] - {name.rpartition('.')[0]}:
                visit(target)
            done.add(path.pop())

    for name in MODULES:
        visit(name)


def test_no_two_classes_share_a_name():
    places = defaultdict(list)
    for name, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
                places[node.name].append(name)
    assert not {name: found for name, found in places.items() if len(found) > 1}


def test_pictures_are_opened_in_named_formats():
    """Pillow starts programs for others: Ghostscript for EPS."""
    calls = [
        (name, node)
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == 'Image.open'
    ]
    bare = [name for name, call in calls if 'formats' not in [one.arg for one in call.keywords]]
    assert len(calls) > 9 and not bare


def test_void_is_defined_once():
    defined = [
        name
        for name, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'VOID'
    ]
    assert defined == ['io.labels']


def test_few_modules_read_the_config():
    """`run.config` and `method.config` count; the configs of JAX and TensorFlow do not."""
    reached, waiting = set(), ['training.loop', 'evaluation.run']
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += IMPORTS[name]
    # A data set's builder has its own config.
    readers = {
        name for name in reached if _reads_config(MODULES[name]) and not name.startswith('datasets')
    }
    assert readers == CONFIG_READERS and len(CONFIG_READERS) < 12


def _reads_config(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.arg) and node.arg == 'config':
            return True
        if isinstance(node, ast.Attribute) and node.attr == 'config':
            if ast.unparse(node.value) not in ('jax', 'tf'):
                return True
    return False
