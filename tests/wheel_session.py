"""What a user does with the installed package, in one process outside the checkout; tests/test_wheel.py starts it.

    python -P wheel_session.py SESSION.json

SESSION.json holds `environment`, the folder that the package must come from, `small`, flags that make a run small, and
`snippets`, the README's Python.
"""

import contextlib
import glob
import io
import json
import sys
from pathlib import Path

HEAVY = {'jax', 'flax', 'tensorflow', 'gradio', 'matplotlib', 'scipy'}
SLOW = {'tensorflow', 'gradio', 'orbax', 'scipy', 'matplotlib'}  # no picture needs them
RECIPE = """
from simpropnet_jax.config import recipes


def get_config(words=''):
    config = recipes.get('prototype', words)
    config.eval.batch = 4  # mine
    return config
"""


def main(path: str) -> None:
    session = json.loads(Path(path).read_text())
    importing(Path(session['environment']))
    helping()
    first_masks()
    draw_data()
    demo(session['small'])
    train_evaluate_segment(session['small'])
    for snippet in session['snippets']:
        defined = {}
        exec(snippet, defined)
        assert defined['mask'].dtype == bool
    own_recipes(session['small'])
    results()


def simpropnet(*words: str) -> str:
    """Run a command in this process; what it prints is returned, too."""
    from simpropnet_jax.cli.main import main

    printed = io.StringIO()
    print('$ simpropnet', *words, file=sys.stderr)
    try:
        with contextlib.redirect_stdout(printed):
            main([str(word) for word in words])
    except SystemExit as ended:
        assert not ended.code, ended.code
    print(printed.getvalue())
    return printed.getvalue()


def importing(environment: Path) -> None:
    import simpropnet_jax

    assert Path(simpropnet_jax.__file__).is_relative_to(environment), simpropnet_jax.__file__
    assert not HEAVY & set(sys.modules)
    assert simpropnet_jax.__version__ and 'register_method' in dir(simpropnet_jax)


def helping() -> None:
    from simpropnet_jax.cli.main import COMMANDS

    listed = simpropnet('--help')
    for name in COMMANDS:
        assert name in listed
        text = simpropnet(*name.split(), '--help')
        assert text.startswith('usage: ') or f'simpropnet {name}' in text, text
        assert not HEAVY & set(sys.modules), (name, HEAVY & set(sys.modules))


def first_masks() -> None:
    """Masks of sample photographs by the model that is in the wheel, without a network."""
    import numpy as np
    from PIL import Image

    from simpropnet_jax.samples import samples

    printed = simpropnet('demo', '--photos')
    assert 'runs/photos/sheet_001.jpg' in printed and Path('runs/photos/sheet_001.jpg').exists()
    by_name = {sample.name: sample for sample in samples()}
    for class_id, sample in ((1, by_name['person_2']), (2, by_name['rocket'])):
        found = np.asarray(Image.open(f'runs/photos/{sample.name}_mask.png')) == class_id
        truth = np.asarray(Image.open(sample.mask)) > 0
        assert (found & truth).sum() > 0.45 * (found | truth).sum(), sample.name
    assert not SLOW & set(sys.modules), SLOW & set(sys.modules)


def draw_data() -> None:
    from simpropnet_jax.datasets import shapes5i
    from simpropnet_jax.datasets.source import open_source

    shapes5i.load(Path('runs'), {'trainaug': 60, 'val': 90})
    source = open_source('shapes5i', Path('runs'))
    Path('photos').mkdir()
    for number, name in enumerate(('cat.jpg', 'query.jpg', 'photos/1.jpg', 'photos/2.jpg')):
        Path(name).write_bytes(source.example(number)[0])
    Path('cat.png').write_bytes(source.example(0)[1])


def demo(small: list[str]) -> None:
    # 0: the label size of the protocol.
    printed = simpropnet('demo', *small, '--config.select.every=6', '--config.eval.label_size=0')
    assert 'prototype on the same encoder' in printed
    assert 'simpropnet eval --checkpoint runs/demo@latest' in printed
    assert any(Path('runs/demo/figures/latest').iterdir())


def train_evaluate_segment(small: list[str]) -> None:
    simpropnet('train', '--config', 'simpropnet:fold=2', '--workdir', 'runs/fold2', *small)
    # A name of the checkout means the package's recipe, so that this resumes the same run.
    trained = Path('runs/fold2/metrics.jsonl').read_text()
    config = 'configs/simpropnet.py:fold=2'
    simpropnet('train', '--config', config, '--workdir', 'runs/fold2', *small)
    assert Path('runs/fold2/metrics.jsonl').read_text() == trained
    assert 'split-3' in simpropnet('eval', '--workdir', 'runs/fold2')
    support = ('--support', 'cat.jpg', 'cat.png')
    simpropnet(
        'segment', '--checkpoint', 'runs/fold2', *support, '--query', 'photos', '--out', 'masks'
    )
    assert {'1_mask.png', '2_overlay.jpg'} <= {path.name for path in Path('masks').iterdir()}


def own_recipes(small: list[str]) -> None:
    mine = Path('recipes/mine.py')
    mine.parent.mkdir()
    mine.write_text(RECIPE)
    kinds = ('--config.data', '--config.eval', '--config.model.w')
    fields = [flag for flag in small if flag.startswith(kinds)]
    simpropnet('eval', '--config', f'{mine}:fold=1', '--workdir', 'runs/mine', *fields)
    config = json.loads(Path('runs/mine/config.json').read_text())
    assert (config['fold'], config['eval']['batch']) == (1, 4)
    helped = simpropnet('eval', '--help', '--config', f'{mine.resolve()}:fold=3')
    assert 'eval.batch=4 ' in helped and '# mine' not in helped


def results() -> None:
    printed = simpropnet('tables', *glob.glob('runs/*/eval/*.json'))
    assert 'mean of four folds' in printed and 'prototype' in printed
    simpropnet('report', 'runs', '--out', 'report')
    page = Path('report/report.md').read_text()
    for words in ('DPr + FBAF', 'SimPropNet', 'prototype', '## Training', '## Pictures'):
        assert words in page, words
    assert '## Left out' not in page


if __name__ == '__main__':
    main(sys.argv[1])
