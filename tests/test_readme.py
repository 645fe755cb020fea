"""Test the documents: every command is parsed by its own parser; the commands of the main paths run on small data.

A shell runs every block of commands, with functions in place of the programs. So variables and loops are expanded as a
user's shell expands them, and what is checked is what a program would be given.
"""

import contextlib
import functools
import glob
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from PIL import Image

from simpropnet_jax.cli import main as cli
from simpropnet_jax.cli import prepare_pascal5i, run_folder, sweep
from simpropnet_jax.config import command_line, recipes
from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.datasets.pascal5i.prepare import prepare
from simpropnet_jax.datasets.source import open_source
from simpropnet_jax.evaluation.results import tables
from simpropnet_jax.models import registry
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import store_config
from simpropnet_jax.sweeps import demo
from tests.app import screenshot
from tests.fakes import SMALL, fake_source

ROOT = Path(__file__).parent.parent
NOTEBOOK = 'docs/segment_your_pictures.ipynb'
PROGRAMS = ('simpropnet', 'make', 'source', 'pip', 'tensorboard', 'python')


def read_pages() -> dict[str, str]:
    """The text of every page by its path, the site's pages in its order."""
    listed = re.findall(r'[\w/]+\.md', (ROOT / 'mkdocs.yml').read_text().partition('\nnav:')[2])
    names = ['README.md', 'CONTRIBUTING.md', 'docs/HOWTO.md', *(f'docs/{name}' for name in listed)]
    return {name: (ROOT / name).read_text() for name in names if (ROOT / name).exists()}


def read_documents() -> dict[str, str]:
    """The pages of each part of the site as one text: a page's commands may use what an earlier page trained."""
    documents = {}
    for name, text in PAGES.items():
        part = Path(name).parent.name
        documents.setdefault(name if part in ('', 'docs') else part, []).append(text)
    del documents['reference']  # it comes from the code
    return {name: '\n'.join(texts) for name, texts in documents.items()}


PAGES = read_pages()
TEXTS = read_documents()
README, HOWTO, CONTRIBUTING = TEXTS['README.md'], TEXTS['how_to'], TEXTS['contributing']
# What a user's shell does, but that programs only print what they are given.
SHELL = (
    'set -eu; cd() { :; }; srun() { "$@"; }\n'
    'gcloud() { for word; do case $word in --command=*) eval "${word#*=}";; esac; done; }\n'
    'given() { printf "%s\\0" "$@"; printf "\\n\\0"; }\n'
    + '\n'.join(f'{program}() {{ given {program} "$@"; }}' for program in PROGRAMS)
)


class Command(NamedTuple):
    """A command of a document: its words, and whether it stands in a block, to be typed as it is."""

    document: str
    words: tuple[str, ...]
    in_block: bool


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf'```{language}\n(.*?)```', text, re.S)


def spans(text: str) -> list[str]:
    return re.findall(r'`([^`\n]+)`', re.sub(r'```.*?```', '', text, flags=re.S))


def notebook_texts(kind: str) -> list[str]:
    cells = json.loads((ROOT / NOTEBOOK).read_text())['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == kind]


def expanded(script: str) -> list[tuple[str, ...]]:
    """The words of every command, once a shell has expanded them."""
    done = subprocess.run(
        [shutil.which('bash'), '-c', f'{SHELL}\n{script}'],
        capture_output=True,
        text=True,
        check=False,
        env={'PATH': '', 'HOME': '~'},
        cwd='/',
    )
    assert done.returncode == 0, done.stderr
    return [
        tuple(words.split('\0')[:-1]) for words in done.stdout.split('\n\0') if words.strip('\0')
    ]


def in_text(text: str) -> Iterator[tuple[str, ...]]:
    """Commands in the sentences and tables of a text."""
    for span in spans(text):
        if span.startswith(tuple(f'{program} ' for program in PROGRAMS)):
            yield from expanded(span)


def all_commands() -> list[Command]:
    """Every command of the documents, of the notebook, and of what the demo prints under 'Next'."""
    found = []
    for name, text in TEXTS.items():
        found += [Command(name, words, True) for words in expanded(''.join(blocks('sh', text)))]
        found += [Command(name, words, False) for words in in_text(text)]
    for text in notebook_texts('markdown'):
        found += [Command(NOTEBOOK, words, False) for words in in_text(text)]
    lines = demo.NEXT.format(workdir='runs/demo').splitlines()[2:]
    said = [re.split(r'\s{2,}', line.strip())[0] for line in lines if 'docs/' not in line]
    found += [Command('demo', words, True) for words in expanded('\n'.join(said))]
    return list(dict.fromkeys(found))


COMMANDS = all_commands()


def typed(document: str, *beginning: str) -> list[list[str]]:
    """The commands in the blocks of a document that begin with these words."""
    return [
        list(command.words)
        for command in COMMANDS
        if command.document == document
        and command.in_block
        and command.words[: len(beginning)] == beginning
    ]


def split(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The name of a command of `simpropnet`, and the words that follow it."""
    for length in (2, 1):
        if ' '.join(words[:length]) in cli.COMMANDS:
            return ' '.join(words[:length]), words[length:]
    return '', words


def parsed(words: tuple[str, ...]):
    """The module of a command of `simpropnet`, and its flags as its own parser reads them."""
    name, rest = split(words)
    module = cli.module(name)
    if name == 'bench':
        module, rest = importlib.import_module(f'benchmarks.{rest[0]}'), rest[1:]
    return module, command_line.parse(module, list(rest))


def configs(module, args) -> dict[str, object]:
    """The configs that a command trains or evaluates with, by their run folder; '': none is named."""
    if module is sweep:
        rows = sweep.make_rows(args)
        return {str(args.workdir / name): row.config for name, row in rows.items()}
    run = getattr(args, 'workdir', None) or getattr(args, 'checkpoint', None)
    if isinstance(run, run_folder.Checkpoint):
        run = run.name and Path(run.name)  # its folder would be the package's model
    config = getattr(args, 'config', None)
    if config is None and args.changes and isinstance(run, Path):
        config = command_line.change(run_folder.stored(run), args.changes)
    return {} if config is None else {str(run or ''): config}


@pytest.fixture(scope='module')
def checkouts(tmp_path_factory):
    """For each document a folder with the runs that its commands begin, in order."""
    folders = {}
    for command in COMMANDS:
        if command.document not in folders:
            folders[command.document] = tmp_path_factory.mktemp('reader')
        if command.words[0] == 'simpropnet' and command.in_block:
            with contextlib.chdir(folders[command.document]), contextlib.suppress(SystemExit):
                begin(command.words[1:])
    return folders


def begin(words: tuple[str, ...]) -> None:
    """Keep the config of a training or evaluation in its run folder, as the command does."""
    if split(words)[0] in ('train', 'eval', 'sweep'):
        module, args = parsed(words)
        for run, config in configs(module, args).items():
            if run and not Path(run).is_absolute() and not getattr(args, 'predictions', None):
                Path(run).mkdir(parents=True, exist_ok=True)
                store_config(config, Path(run))


def test_documents_have_no_blocks_but_those_tested_here():
    for text in TEXTS.values():
        assert set(re.findall(r'^ *```(\w+)', text, re.M)) <= {'sh', 'python', 'text'}
        without_blocks = re.sub(r'```.*?```', '', text, flags=re.S)
        assert not re.search(r'^    \S', without_blocks, re.M)  # no block without a language
    assert len(COMMANDS) > 100


@pytest.mark.parametrize(
    'command', COMMANDS, ids=[f'{one.document} {" ".join(one.words)}' for one in COMMANDS]
)
def test_a_command_can_be_typed(command, checkouts, monkeypatch):
    monkeypatch.chdir(checkouts[command.document])
    match command.words:
        case ['simpropnet', 'train', '--config', 'mine:fold=2', *_]:
            pass  # test_the_guide_adds_a_method
        case ['simpropnet', *words]:
            check_command(tuple(words), command.in_block)
        case ['make', target]:
            assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.M)
        case ['source', activate]:
            assert 'VENV := .venv\n' in (ROOT / 'Makefile').read_text()
            assert activate == '.venv/bin/activate'
        case ['pip', 'install', '.']:
            assert (ROOT / 'pyproject.toml').exists()
        case ['pip', 'install', '-e', what] | ['pip', 'install', what]:
            project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
            assert what.partition('[')[2].strip(']') in project['optional-dependencies']
        case ['tensorboard', '--logdir', folder]:
            assert folder.startswith('runs')
            assert '\ntensorboard>' in (ROOT / 'requirements.txt').read_text()
        case ['python', '-m', 'tests.app.screenshot', *flags]:
            screenshot.parser().parse_args(flags)
        case ['python', '-m', 'pytest', file]:
            assert (ROOT / file).exists()
        case ['python', '-m', 'simpropnet_jax.export.onnx']:
            source = (ROOT / 'simpropnet_jax' / 'export' / 'onnx.py').read_text()
            assert "if __name__ == '__main__':" in source
        case _:
            pytest.fail(f'no test knows the command {command.words}')


def check_command(words: tuple[str, ...], in_block: bool) -> None:
    """Check a command of `simpropnet`: name, flags, recipe, fields with their values, and the run that it continues."""
    name, rest = split(words)
    if '--help' in words:
        typed_name = tuple(word for word in words if word != 'COMMAND')
        with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as end:
            cli.main(typed_name)
        assert not end.value.code and 'usage: simpropnet' in printed.getvalue()
        return
    if name == 'bench' and len(rest) == 1 and not in_block:
        assert (ROOT / 'benchmarks' / f'{rest[0]}.py').exists()
        return
    if not in_block and (
        not rest or len(words) == 1
    ):  # the name of a command, or of a group of them
        assert name or any(one.startswith(f'{words[0]} ') for one in cli.COMMANDS), words
        return
    module, args = parsed(words)
    if module is prepare_pascal5i:
        prepare_pascal5i.check(args)
    if name in ('eval', 'hpascal eval'):
        run_folder.given_run(args)
    for field, _ in args.changes:
        assert field in all_fields(), field
    for run, config in configs(module, args).items():
        check_config(config)
        if (Path(run) / 'config.json').exists() and not getattr(args, 'predictions', None):
            config_rules.check_same_run(config, run_folder.stored(Path(run)), Path(run))


def check_config(config) -> None:
    """Check every field, and that the method has those of config.model."""
    if 'model' not in config:  # of `hpascal build` and `diagnose background`, which have no method
        return
    config_rules.validate(config, devices=1)
    resolved = config.copy_and_resolve_references()
    for name, value in {'convention': 'torchvision', 'dtype': 'float32'}.items():
        if resolved.model[name] == 'auto':
            resolved.model[name] = value
    Method.from_config(resolved)


@functools.cache
def all_fields() -> set[str]:
    """The fields of every recipe that needs no run to start from."""
    loaded = [recipes.get(name) for name in recipes.names() if name != 'finetune']
    return {field for config in loaded for field, _ in config_rules.fields(config)}


def test_recipes_fields_and_links_that_are_named_exist():
    texts = {**PAGES, NOTEBOOK: '\n'.join(notebook_texts('markdown'))}
    known = '|'.join(recipes.names())
    for text in texts.values():
        for argument in re.findall(rf'(?<![\w/.])(?:{known}):[\w,=]+', ' '.join(spans(text))):
            recipes.load(argument)
    for name, text in texts.items():
        links = re.findall(r'\[[^]]*\]\((?!http|#)([^)#]+)', text)
        links = [link for link in links if not re.search('reference/(?!python)', link)]  # generated
        missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
        assert not missing, (name, missing)
    assert 'docs/tutorial/train_a_fold.md' in demo.NEXT


@pytest.mark.parametrize(
    'words', [span for span in spans(''.join(TEXTS.values())) if span.startswith('--config.')]
)
def test_a_field_can_be_set_as_the_text_says(words):
    changes = [
        (field.removeprefix('--config.'), value)
        for field, _, value in (word.partition('=') for word in shlex.split(words))
    ]
    changes = [(field, value) for field, value in changes if not value.isupper()]  # VALUE, N
    loaded = [recipes.get(name) for name in ('canet', 'simpropnet', 'hpascal')]
    if words == '--config.data.folds=blocks':
        loaded = [recipes.get('simpropnet', 'coco')]  # no other data have them
    fitting = [
        config
        for config in loaded
        if {field for field, _ in changes} <= set(dict(config_rules.fields(config)))
    ]
    assert fitting, f'no recipe has the fields of {words}'
    config_rules.validate(command_line.change(fitting[0], changes), devices=1)


def test_fields_and_places_in_the_code_that_are_named_exist():
    named = {
        name
        for text in TEXTS.values()
        for span in spans(text)
        for name in re.findall(r'^config\.([\w.]+)', span)
    }
    field = re.compile(
        r'(?:data|model|train|tpc|select|eval|partitions|features)\.(?!json|txt|safetensors|py\b)\w+'
    )
    named |= {
        field.match(span)[0] for text in TEXTS.values() for span in spans(text) if field.match(span)
    }
    known = all_fields()
    unknown = [name for name in named if not any(field.startswith(name) for field in known)]
    assert len(named) > 40 and unknown == []
    explained = spans(TEXTS['explanation'])
    places = [span.partition(': ') for span in explained if re.match(r'\w+/[\w/]+\.py', span)]
    assert len(places) > 40
    for path, _, name in places:
        candidates = [folder / path for folder in (ROOT, ROOT / 'simpropnet_jax')]
        file = next(candidate for candidate in candidates if candidate.exists())
        assert re.search(rf'^(def|class) {name}', file.read_text(), re.M), (path, name)
    for text in TEXTS.values():
        beginnings = [span.partition(': ')[0] for span in spans(text)]
        paths = {one for one in beginnings if re.match(r'(simpropnet_jax|tests|configs)/', one)}
        missing = {path for path in paths if not (ROOT / path).exists()}
        assert missing <= {'simpropnet_jax/models/mine.py', 'configs/mine.py'}  # a reader's


def test_the_guide_names_every_folder_of_the_code():
    folders = {path.parent.name for path in (ROOT / 'simpropnet_jax').glob('*/__init__.py')}
    assert folders <= set(re.findall(r'`simpropnet_jax/(\w+)/', CONTRIBUTING))


def test_the_guide_adds_a_method(tmp_path, monkeypatch):
    method, recipe = (block for block in blocks('python', CONTRIBUTING) if 'mine' in block)
    (tmp_path / 'the_method_of_the_guide.py').write_text(method)
    (tmp_path / 'mine.py').write_text(recipe)
    monkeypatch.syspath_prepend(tmp_path)
    registry.registered()  # or a method that is imported later would be forgotten with the guide's
    monkeypatch.setattr(registry, '_methods', dict(registry._methods))
    importlib.import_module('the_method_of_the_guide')
    config = recipes.load(f'{tmp_path}/mine.py:fold=2').config
    config.model.width = 8
    check_config(config)
    config.model.convention = 'torchvision'
    module = Method.from_config(config).module
    images, masks = np.zeros((2, 33, 33, 3), np.float32), np.ones((2, 33, 33), np.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images, masks)
    assert jax.eval_shape(module.apply, variables, images, masks).shape == (2, 5, 5, 2)


def test_the_parameters_are_counted_as_the_text_says(capsys):
    text = PAGES['docs/explanation/scaling.md']
    (block,) = blocks('python', text)
    exec(block, {})
    counts = [int(line.strip('[]').split(',')[0]) for line in capsys.readouterr().out.splitlines()]
    assert len(counts) == 2
    assert all(f'{count:,} x 4 B' in text for count in counts)


def run(*words: str, cwd: Path) -> str:
    """Run a command of `simpropnet` in this process, which has imported all that it needs; returns what it prints."""
    name, *rest = words
    assert name == 'simpropnet'
    with contextlib.chdir(cwd), contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            cli.main(rest)
        except SystemExit as ended:
            assert not ended.code, words
    return printed.getvalue()


def flags(changes: dict) -> list[str]:
    return [f'--config.{name}={value}' for name, value in changes.items()]


@pytest.fixture(scope='module')
def newcomer(tmp_path_factory):
    """A folder with the pictures and the downloads that the documents speak of."""
    from tests.datasets.voc_files import write_files

    folder, source = write_files(tmp_path_factory.mktemp('newcomer')).root, fake_source(n=4)
    (folder / 'photos').mkdir()
    for number, name in enumerate(('cat.jpg', 'query.jpg', 'photos/1.jpg', 'photos/2.jpg')):
        (folder / name).write_bytes(source.example(number)[0])
    (folder / 'cat.png').write_bytes(source.example(0)[1])
    for name in 'ab':
        shutil.copy(folder / 'cat.jpg', folder / f'{name}.jpg')
        shutil.copy(folder / 'cat.png', folder / f'{name}.png')
    shutil.copytree(ROOT / 'tests' / 'io' / 'exports' / 'cvat', folder / 'export')
    (folder / 'export' / 'images' / 'street').mkdir(parents=True)
    Image.new('RGB', (64, 48), 'green').save(folder / 'export' / 'images' / 'street' / 'a.png')
    subprocess.run(
        ['tar', '-cf', 'VOCtrainval_11-May-2012.tar', 'VOCdevkit'], cwd=folder, check=True
    )
    return folder


def test_preparing_existing_data(newcomer, tmp_path, monkeypatch):
    monkeypatch.chdir(newcomer)
    commands = typed('how_to', 'simpropnet', 'prepare', 'pascal5i')
    assert len(commands) == 2
    for number, words in enumerate(commands):
        monkeypatch.setenv('HOME', str(tmp_path / str(number)))
        given = [os.path.expanduser(word) for word in words[1:]]
        _, args = parsed((*given, '--subset'))
        prepare(args.data_dir, voc=args.voc, sbd=args.sbd, aug=args.aug, subset=args.subset)
        data = tmp_path / str(number) / 'tensorflow_datasets'
        assert len(open_source('pascal5i/subset', data).ids) == 9


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_the_readme_from_training_to_a_mask(newcomer, prepared_data, capsys, monkeypatch):
    small = flags(SMALL | {'data.dir': prepared_data})
    ours = typed('README.md', 'simpropnet', 'segment')
    guide = typed('how_to', 'simpropnet', 'segment')
    ours += [words for words in guide if words[-1] in ('named', 'cats')]
    ours = [*(typed('README.md', 'simpropnet', name)[0] for name in ('train', 'eval')), *ours]
    assert [words[1] for words in ours] == ['train', 'eval', 'segment', 'segment', 'segment']
    for words in ours:
        # tests/wheel_session.py takes the package's model.
        if words[1] == 'segment' and '--checkpoint' not in words:
            words = [*words, '--checkpoint', 'runs/fold2']
        run(*words, *(small if words[1] == 'train' else ()), cwd=newcomer)
    masks = {path.name for path in (newcomer / 'masks').iterdir()}
    written = {f'{name}_{what}' for name in '12' for what in ('mask.png', 'overlay.jpg')}
    assert masks == written | {'run.json', 'done.jsonl'}
    assert all((newcomer / out / 'classes.json').exists() for out in ('named', 'cats'))
    monkeypatch.chdir(newcomer)
    tables.main(sorted(glob.glob('runs/*/eval/*.json')))
    assert 'split-3' in capsys.readouterr().out
    exporting = typed('how_to', 'simpropnet', 'export')[0]
    assert '--onnx' not in exporting
    run(*exporting, cwd=newcomer)
    texts = README + TEXTS['tutorial'] + HOWTO
    snippets = [block for block in blocks('python', texts) if 'probability' in block]
    assert len(snippets) == 5
    for block in snippets:
        block = block.replace('from_pretrained()', "from_pretrained('runs/fold2')")
        defined = {}
        exec(block.replace("'runs/demo', 'latest'", "'runs/fold2'"), defined)
        assert defined['mask'].dtype == bool and defined['probability'].dtype == np.float32


@pytest.mark.slow
@pytest.mark.usefixtures('one_device')
def test_the_howto_from_canet_to_a_verdict(newcomer, prepared_data):
    changes = SMALL | {'data.dir': prepared_data, 'tpc.steps': 2, 'eval.episodes': 40}
    runs = ('runs/canet2', 'runs/crc_tpc2')
    trained, evaluated = (
        [words for words in typed('how_to', 'simpropnet', name) if words[-1] in runs]
        for name in ('train', 'eval')
    )
    figure = typed('how_to', 'simpropnet', 'pictures', 'pairs')
    compared = [
        words
        for name in ('compare', 'curves')
        for words in typed('how_to', 'simpropnet', name)
        if words[2].startswith(runs)
    ]
    assert [len(some) for some in (trained, figure, evaluated, compared)] == [2, 1, 2, 2]
    for words in trained + figure + evaluated + compared:
        names = [name for word in words for name in glob.glob(word, root_dir=newcomer) or [word]]
        printed = run(*names, *(flags(changes) if '--config' in words else ()), cwd=newcomer)
        if words in compared:
            assert 'undecided' in printed or '95 % of it' in printed
    assert all((newcomer / name).stat().st_size > 0 for name in ('pairs.png', 'curves.png'))


@pytest.mark.slow
def test_the_howto_for_predictions_of_other_programs(newcomer, prepared_data):
    changes = {
        name: value
        for name, value in (SMALL | {'data.dir': prepared_data}).items()
        if name.startswith(('data', 'eval'))
    }
    listed = typed('how_to', 'simpropnet', 'episodes')[0]
    scored = next(
        words
        for words in typed('how_to', 'simpropnet', 'eval')
        if words[-2:] == ['--predictions', 'masks']
    )
    run(*listed, *flags(changes), cwd=newcomer)
    shutil.rmtree(newcomer / 'masks', ignore_errors=True)  # of `simpropnet segment`
    (newcomer / 'masks').mkdir()
    episodes = json.loads((newcomer / 'fold2.json').read_text())
    for episode in episodes['episodes']:
        Image.new('L', (33, 33), 255).save(newcomer / 'masks' / f'{episode["name"]}.png')
    run(*scored, *flags(changes), cwd=newcomer)
    (result,) = (newcomer / 'runs' / 'theirs' / 'eval').glob('*.json')
    assert f'runs/theirs/eval/{result.name}' in HOWTO
    assert json.loads(result.read_text())['protocol']['hash'] == episodes['hash']
