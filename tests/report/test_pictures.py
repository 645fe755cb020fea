"""Pictures of what methods segment on the small drawn data: what is ranked, chosen and drawn."""

import numpy as np
import pytest
from PIL import Image

from configs import prototype
from simpropnet_jax.cli.main import main as simpropnet
from simpropnet_jax.episodes.sampler import Episode
from simpropnet_jax.evaluation.engine.image_bank import ImageBank
from simpropnet_jax.evaluation.panels import SegmentedEpisode
from simpropnet_jax.evaluation.run import evaluate_run
from simpropnet_jax.io import overlay
from simpropnet_jax.report import pictures
from simpropnet_jax.report.pictures import iou
from tests.fakes import SMALL
from tests.small_checkpoint import write_checkpoint

SIDE = SMALL['eval.size'] * pictures.SCALE
CLASSES = 5  # rows: the novel classes of a fold


@pytest.fixture
def workdir(tmp_path, prepared_data, monkeypatch):
    """workdir(name): of a random network on the drawn data."""
    monkeypatch.setitem(SMALL, 'data.dir', str(prepared_data))

    def make(name, step=1):
        write_checkpoint(tmp_path / name, steps=(step,))
        return tmp_path / name

    return make


def size(path):
    with Image.open(path) as picture:
        return picture.size


def extent(count, side, gap=overlay.GAP):
    return count * (side + gap) - gap


def test_supports_are_ranked_from_the_least_to_the_most_similar():
    bank = ImageBank(
        np.array([3, 5, 8, 9], np.int32), *[np.zeros((4, 1, 1), np.uint8)] * 2, None, ()
    )
    described = np.array([[0.0, 1.0], [5.0, 1.0], [1.0, 1.0], [0.0, 3.0]])
    episodes = [Episode(3, (s,), 1, -1) for s in (8, 5, 9)]
    assert [e.supports[0] for e in pictures._ranked(bank, described, episodes)] == [5, 9, 8]


def test_iou_of_a_picture_leaves_void_out_or_takes_it_for_background():
    label = np.array([[1, 1, 255, 0]], np.uint8)
    one = SegmentedEpisode(None, None, None, label, np.array([[True, False, True, True]]), {})
    assert iou(one) == 1 / 3 and iou(one, 'background') == 1 / 4
    nothing = one._replace(query_label=label * 0, prediction=np.zeros((1, 4), bool))
    assert iou(nothing) == 1


@pytest.mark.slow
def test_one_query_with_supports_of_growing_similarity(workdir, tmp_path):
    out = tmp_path / 'new' / 'similar.png'
    simpropnet(
        [
            'pictures',
            'similar',
            '--checkpoint',
            str(workdir('a')),
            '--out',
            str(out),
            '--columns',
            '2',
            '--candidates',
            '3',
        ]
    )
    one = SIDE + overlay.CAPTION
    assert size(out) == (extent(1 + 2, SIDE), extent(2 * CLASSES, one))


@pytest.mark.slow
def test_two_methods_side_by_side_on_the_same_episodes(workdir, tmp_path):
    out, a, b = tmp_path / 'ab.png', workdir('a'), workdir('b', step=2)
    simpropnet(
        [
            'pictures',
            'side_by_side',
            '--checkpoint',
            str(a),
            str(b),
            '--out',
            str(out),
            '--episodes',
            '2',
        ]
    )
    assert size(out) == (extent(4, SIDE), extent(CLASSES, SIDE + overlay.CAPTION))
    with Image.open(out) as picture:
        left, right = (np.asarray(picture)[:, n * (SIDE + overlay.GAP) :][:, :SIDE] for n in (2, 3))
    assert (left != right).any()  # of other weights


@pytest.mark.slow
def test_a_method_without_training_is_drawn_where_it_was_evaluated(workdir, tmp_path):
    trained, untrained, out = workdir('a'), tmp_path / 'untrained', tmp_path / 'ab.png'
    config = prototype.get_config('fold=1')
    config.update_from_flattened_dict(
        {name: value for name, value in SMALL.items() if name != 'model.features'}
    )
    evaluate_run(config, untrained, pictures=False)
    simpropnet(
        [
            'pictures',
            'side_by_side',
            '--checkpoint',
            str(trained),
            str(untrained),
            '--out',
            str(out),
            '--episodes',
            '2',
        ]
    )
    assert size(out) == (extent(4, SIDE), extent(CLASSES, SIDE + overlay.CAPTION))


def test_mistakes_end_in_one_sentence(workdir, tmp_path, monkeypatch, refused):
    a, out = str(workdir('a')), str(tmp_path / 'x.png')
    monkeypatch.setitem(SMALL, 'eval.size', 41)
    other = str(workdir('other'))
    for words, sentence in {
        (
            'similar',
            '--checkpoint',
            a,
            '--out',
            'x.gif',
        ): '--out must end in .png or .jpg, got x.gif',
        (
            'similar',
            '--checkpoint',
            a,
            '--out',
            out,
            '--columns',
            '1',
        ): 'columns must be from 2 to .* 50, got 1',
        (
            'similar',
            '--checkpoint',
            'nowhere',
            '--out',
            out,
        ): 'nowhere has no config.json: train there first, or evaluate there what needs no training',
        (
            'side_by_side',
            '--checkpoint',
            a,
            '--out',
            out,
        ): 'two runs are drawn side by side, got 1',
        (
            'side_by_side',
            '--checkpoint',
            a,
            other,
            '--out',
            out,
        ): 'config.eval.size is 33 in .*, but 41 in .*: side by side stand methods of one fold',
    }.items():
        with refused(f'.*{sentence}'):
            simpropnet(['pictures', *words])
    assert not (tmp_path / 'x.png').exists()
