"""The notebook's cells run, and what it segments is the object."""

import os
from pathlib import Path

import pytest

from tests.compiling import QUICKLY

NOTEBOOK = Path(__file__).parent.parent / 'docs' / 'segment_your_pictures.ipynb'
LESS = {'pictures': 150, 'backbone_steps': 100, 'steps': 50, 'side': 65}
# The lines with `!` run in the kernel, which has imported what they need; tests/test_wheel.py starts the program.
HERE = """
import shlex

from simpropnet_jax.cli.main import main


def system(line):
    program, *words = shlex.split(get_ipython().var_expand(line))
    assert program == 'simpropnet'
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, line


get_ipython().system = system
"""


def test_it_changes_no_folder():
    text = NOTEBOOK.read_text()
    assert not any(word in text for word in ('chdir', 'sys.path', '%cd', '!cd', '../'))


@pytest.mark.slow
def test_from_zero_to_a_mask(tmp_path):
    for library in ('nbclient', 'ipykernel'):
        pytest.importorskip(library, reason=f"{library} is missing: pip install -e '.[dev]'")
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, 4)
    assert NOTEBOOK.stat().st_size < 300_000
    (parameters,) = (cell for cell in notebook.cells if cell.source.startswith('folder = '))
    parameters.source = '\n'.join(f'{name} = {value!r}' for name, value in LESS.items())
    parameters.source += f'\nfolder = Path({str(tmp_path / "notebook")!r})'
    # TensorFlow takes seconds to import, and a deep network to compile.
    faster = 'episodes=10 --config.data.loader=threads --config.model.encoder=resnet14'
    for cell in notebook.cells:
        cell.source = cell.source.replace('episodes=10', faster)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(HERE))
    notebook.cells.append(nbformat.v4.new_code_cell('print(score, everything, len(written))'))
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={'metadata': {'path': str(tmp_path)}}
    )
    # One device, as the virtual ones of other tests are slower.
    client.execute(env=os.environ | {'XLA_FLAGS': QUICKLY})
    said = ''.join(one.text for one in notebook.cells[-1].outputs if one.name == 'stdout')
    score, everything, written = map(float, said.split())
    assert score > 1.3 * everything
    assert written == 6  # a mask and an overlay of three pictures
    pictures = [
        output for cell in notebook.cells for output in cell.get('outputs', ()) if 'data' in output
    ]
    assert len(pictures) == 3
