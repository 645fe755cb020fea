"""Any Python callable on our episodes: PyTorch's numbers, several classes, batches, kills, and strange answers."""

import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from simpropnet_jax import evaluate
from simpropnet_jax.config import common
from simpropnet_jax.datasets.source import Source
from simpropnet_jax.episodes.episode_files import episode_name
from simpropnet_jax.episodes.protocols import PRESETS, episodes, protocol_hash
from simpropnet_jax.evaluation import trivial
from simpropnet_jax.evaluation.external import callables, scoring
from simpropnet_jax.evaluation.external.maps import as_map
from simpropnet_jax.evaluation.external.predictions import score_predictions
from simpropnet_jax.evaluation.results import bootstrap, tables
from simpropnet_jax.evaluation.results.result_file import read_result
from simpropnet_jax.setup import data
from tests.fakes import fake_source, records_of

SIDE = 33


@pytest.fixture(scope='module')
def source():
    fake = fake_source(n=120, name='fake')
    return Source('fake', fake.index, records_of(fake))


@pytest.fixture
def measure(source, monkeypatch, tmp_path):
    """measure(callable, ...): an evaluation of few episodes in a folder of its own."""
    monkeypatch.setattr(data, 'open_source', lambda *given: source)
    monkeypatch.chdir(tmp_path)
    for name in ('hsnet', 'pfenet', 'panet_2way'):
        few = replace(PRESETS[name], episodes=25, seeds=(3, 4))
        square = few.resolution if few.resolution == 'own' else SIDE
        monkeypatch.setitem(PRESETS, name, replace(few, resolution=square))

    def run(predictor, protocol='hsnet', **options):
        return evaluate(predictor, protocol, **{'fold': 0, 'shots': (1,)} | options)

    return run


def truth_of(source):
    """A callable that finds the label of the query, and is right but for the rows above the middle."""
    labels = {}
    for number in range(len(source.ids)):
        case = callables.read_case(source, [episode_of(number)], PRESETS['hsnet'])
        labels[case.query.tobytes()] = case.label

    def lower_half(supports, query):
        mask = labels[query.tobytes()] == supports.class_id
        mask[: len(mask) // 3] = False
        return mask

    return lower_half


def episode_of(number):
    return callables.Episode(number, (number,), 1, -1)


def test_a_pytorch_network_scores_as_in_its_own_loop(measure, source):
    torch = pytest.importorskip('torch', reason='PyTorch is what the benchmarks compare with')
    from torch.nn import functional

    from benchmarks import peer, peer_loops
    from configs import simpropnet
    from tests.fakes import SMALL

    config = simpropnet.get_config()
    config.update_from_flattened_dict(SMALL | {'model.convention': 'torchvision'})
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = peer.build(config.model).eval()

    class Theirs:
        batch = 4

        @torch.inference_mode()
        def __call__(self, supports, queries):
            def stack(arrays):
                return torch.from_numpy(np.stack(arrays))

            masks, void = (
                stack([getattr(one, name) for one in supports]) for name in ('masks', 'void')
            )
            images = stack([np.stack(one.images) for one in supports])
            logits = network(stack(queries), images, masks.float(), (~void).float())[0]
            larger = functional.interpolate(
                logits, (SIDE, SIDE), mode='bilinear', align_corners=True
            )
            return larger.softmax(1)[:, 1]

    record = measure(Theirs(), size=SIDE, shots=(2,))
    drawn = episodes(PRESETS['hsnet'], source.index, 0, 2, 3)
    task = peer_loops.Task(source, drawn, SIDE, SIDE, 'ignore', workers=1)
    expected = peer_loops.Loop(network, task, 4, 'cpu')()
    path = f'runs/Theirs/eval/hsnet_fold0_{SIDE}px_Theirs.json'
    assert read_result(path) == record and 0.02 < record['shots']['2']['square']['miou'] < 0.9
    _, counts = bootstrap.load(path, 2)
    found = np.stack(counts.counts['square'], -1)[counts.seed == 3]
    np.testing.assert_array_equal(found[:, :2], expected)
    assert record['program']['torch'] == torch.__version__ and 'hsnet' in tables.class_table(record)


def test_a_stranger_is_compared_with_another(measure, source, capsys):
    """With images at their own sizes; the episodes are our own, and each distinct one is segmented once."""
    calls, protocol = [], 'pfenet'

    def centre(supports, query):
        calls.append(query.shape)
        assert supports.images[0].shape[:2] == supports.masks[0].shape and supports.masks[0].any()
        return jnp.float32(trivial.centre_box(query, query, query))

    good = measure(truth_of(source), protocol, name='good one')
    poor = measure(centre, protocol, workdir='runs/x')
    scores = [one['shots']['1']['own'] for one in (good, poor)]
    assert scores[0]['miou'] > scores[1]['miou'] > 0.1 and scores[0]['miou_std'] is not None
    drawn = [e for s in (3, 4) for e in episodes(PRESETS[protocol], source.index, 0, 1, s)]
    assert good['protocol']['hash'] == protocol_hash(drawn, source.ids)
    assert len(calls) == len(set(drawn)) == good['shots']['1']['distinct_episodes']
    text = bootstrap.comparison_text(
        f'runs/good one/eval/{protocol}_fold0_good_one.json',
        f'runs/x/eval/{protocol}_fold0_centre.json',
        resamples=100,
    )
    pictures = {one.name for one in Path('runs/x/eval').glob('*.pictures/*')}
    assert len(pictures) == 10 and all(one.startswith(f'{protocol}_f0_s3_k1_') for one in pictures)
    assert 'A is better' in text and 'centre' in capsys.readouterr().out


def test_a_killed_evaluation_resumes_and_another_is_not_mixed_in(measure, tmp_path):
    calls, limit = [], 3

    def slow(supports, queries):
        if len(calls) == limit:
            raise KeyboardInterrupt
        calls.append(len(queries))
        return [query[..., 0] > 128 for query in queries]

    path = tmp_path / 'runs/slow/eval/hsnet_fold0_slow.unfinished.jsonl'
    with pytest.raises(KeyboardInterrupt):
        measure(slow, batch=4)
    path.write_text(path.read_text()[:-5])  # a kill in the middle of a line
    with pytest.raises(ValueError, match='with another hash .*, now .*. Give restart=True'):
        measure(slow, batch=4, shots=(2,))
    limit = None
    resumed = measure(slow, batch=4)
    # One episode of the cut line is segmented again.
    assert sum(calls) == resumed['shots']['1']['distinct_episodes'] + 1
    names = {one.name for one in path.parent.iterdir()}
    assert names == {f'hsnet_fold0_slow.{end}' for end in ('json', 'episodes.npz', 'pictures')}
    assert measure(slow, name='at once', batch=9)['shots'] == resumed['shots']


def test_strange_answers_are_refused_in_one_sentence(measure):
    ramp = np.linspace(-3, 4, 35).reshape(5, 7)
    for answer, sentence in {
        'logits': (ramp, 'values from -3 to 4: return probabilities from 0 to 1'),
        'gray': ((ramp > 0) * 7, 'whole numbers from 0 to 7: a mask has 0 and 1, or 0 and 255'),
        'two': (np.stack([ramp, ramp]), r'shape .2, 5, 7.: return one mask or probability map'),
        'turned': (ramp.T, '7 x 5 .height x width., but the query has 5 x 7: return its size'),
        'missing': (ramp * np.nan, 'values from nan to nan'),
    }.values():
        with pytest.raises(ValueError, match=sentence):
            as_map(answer, [(5, 7)])
    assert as_map(jnp.bfloat16(ramp > 0)[None], [(5, 7)]).dtype == np.float32
    with pytest.raises(ValueError, match='few returned 1 maps for 3 queries'):
        measure(lambda supports, queries: queries[:1], batch=3, name='few')
    with pytest.raises(ValueError, match='gray returned whole numbers from .*: a mask has'):
        measure(lambda supports, query: query[..., 0], name='gray')


def reference_two_way(maps, label, class_ids):
    """PANet's util/metric.py in its own words: true and false positives, false negatives of what the query shows."""
    best = np.argmax([np.full(label.shape, 0.5), *maps], 0)
    target = np.where(label == 255, 255, 0)
    for number, class_id in enumerate(class_ids, 1):
        target[label == class_id] = number
    found = {}
    for number, class_id in enumerate([0, *class_ids]):
        predicted, truth = (best == number) & (target != 255), target == number
        if truth.any():
            positives = (
                (predicted & truth).sum(),
                (predicted & ~truth).sum(),
                (truth & ~predicted).sum(),
            )
            found[class_id] = (positives[0], sum(positives))
    return found


def check_masks_in_files(measure, source, shade, protocol):
    """Masks in files, one for each class, score as a callable that returns them."""
    Path('files').mkdir()
    sets = {(1, seed): episodes(protocol, source.index, 0, 1, seed) for seed in (3, 4)}
    for key, drawn in sets.items():
        for number, episode in enumerate(drawn):
            case = callables.read_case(source, [episode], protocol)
            mask = shade(case.supports[0], case.query) > 0.02  # the two overlap
            name = episode_name(protocol.name, 0, *key, number)
            Image.fromarray(mask.astype(np.uint8) * 255).save(f'files/{name}.png')
    scored, _ = score_predictions(Path('files'), source, sets, protocol, 0)
    called = measure(lambda *given: shade(*given) > 0.02, protocol.name, name='hard')
    called['shots']['1']['square'].pop('miou_interval')
    assert scored['shots'] == called['shots']


def test_two_classes_in_a_query_count_as_in_panets_release(measure, source):
    def shade(supports, query):
        colour = supports.images[0][supports.masks[0]].mean(0)
        return np.exp(-np.square((query - colour) / 99).sum(-1))  # of two classes, the nearer one

    record = measure(shade, 'panet_2way')
    protocol = PRESETS['panet_2way']
    scored = record['shots']['1']['square']
    assert record['shots']['1']['episodes'] == {'3': 25, '4': 25}
    for seed in (3, 4):
        sums, drawn = {}, episodes(protocol, source.index, 0, 1, seed)
        for pair in scoring.split_episodes(drawn, 2):
            assert pair[0].query == pair[1].query not in (*pair[0].supports, *pair[1].supports)
            case = callables.read_case(source, pair, protocol)
            square = (SIDE, SIDE)
            maps = [scoring.resized(shade(one, case.query), square) for one in case.supports]
            label, class_ids = scoring.resized(case.label, square), [e.class_id for e in pair]
            for key, value in reference_two_way(maps, label, class_ids).items():
                sums.setdefault(key, []).append(value)
        iou = {key: np.divide(*np.sum(values, 0)) for key, values in sums.items()}
        background = iou.pop(0)
        mine = scored['seeds'][str(seed)]
        assert (
            mine['miou'] == pytest.approx(np.mean(list(iou.values()))) and 0.1 < mine['miou'] < 0.99
        )
        binary = np.divide(*np.sum([np.sum(sums[key], 0) for key in iou], 0))
        assert mine['fb_iou'] == pytest.approx((background + binary) / 2)
    check_masks_in_files(measure, source, shade, protocol)
    one, five = (episodes(protocol, source.index, 0, shot, 3) for shot in (1, 5))
    assert [e.supports for e in one] == [e.supports[:1] for e in five]
    assert len({e.class_id for e in one[::2]}) == 5  # the first class is any, and so the query's
    shown = [source.index.pixels[e.query, e.class_id] > 0 for e in one]
    assert all(a or b for a, b in zip(shown[::2], shown[1::2], strict=True)) and not all(shown[::2])


def test_a_run_takes_a_protocol_and_what_is_not_for_it_is_refused(monkeypatch, tmp_path):
    config, seen = common.base('simpropnet'), []
    config.eval.update(episodes=7, seeds=(5,))
    module = sys.modules['simpropnet_jax.evaluation.evaluate']
    monkeypatch.setattr(module, 'stored_config', lambda run: config)
    monkeypatch.setattr(module, 'evaluate_run', lambda *given: seen.append(given) or {})
    evaluate(tmp_path, 'hsnet', shots=(1,), data_dir=tmp_path)
    evaluate(tmp_path)
    (first, *_), (second, *_) = seen
    assert second is None and first.eval.protocol == 'hsnet' and first.eval.shots == (1,)
    assert first.eval.episodes == 0 and first.eval.seeds == () and config.eval.episodes == 7
    assert first.data.dir == str(tmp_path)
    for sentence, given in {
        'size is not for a trained run, got 9': {'size': 9},
        'fold is 3, but .* was trained for fold 0': {'fold': 3},
    }.items():
        with pytest.raises(ValueError, match=sentence):
            evaluate(tmp_path, **given)
    with pytest.raises(ValueError, match="which is not for a callable, got 'latest'"):
        evaluate(np.mean, which='latest')


def blocks_of_the_guide():
    page = Path(__file__).parents[2] / 'docs' / 'how_to' / 'referee.md'
    return re.findall(r'```python\n(.*?)```', page.read_text(), re.S)


def test_the_ten_lines_of_the_guide(measure, capsys):
    """They stand on the page as they run."""
    first = blocks_of_the_guide()[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 10
    defined = {}
    exec(first, defined)
    record = defined['result']
    assert float(capsys.readouterr().out.splitlines()[-1]) == record['shots']['1']['square']['miou']
    assert read_result('runs/nearest_colour/eval/hsnet_fold2_nearest_colour.json') == record


class StandIn:
    """What SAM 3's processor, INSID3 and GF-SAM are called with; each finds the lower right of the query.

    Signatures, shapes and types are those of facebookresearch/sam3 (Sam3Processor), visinf/INSID3 (INSID3) and
    ANDYZAQ/GF-SAM (GFSAM).
    """

    def __init__(self, torch):
        self.torch, self.references, self.target = torch, [], None

    def found(self, height, width):
        mask = self.torch.zeros(height, width, dtype=bool)
        mask[height // 2 :, width // 2 :] = True
        return mask

    def set_image(self, image):
        assert image.size == (1008, 1008) and np.asarray(image)[:604].any()
        return {}

    def reset_all_prompts(self, state):
        state.clear()

    def add_geometric_prompt(self, box, label, state):
        x, y, width, height = box
        assert label and 0 <= x - width / 2 < x + width / 2 <= 1
        assert 0 <= y - height / 2 < y + height / 2 <= 604 / 1008 + 1e-9  # in the support's part
        canvas = self.torch.zeros(1008, 1008, dtype=bool)
        canvas[604:] = self.found(404, 1008)
        return state | {'masks': canvas[None, None].repeat(2, 1, 1, 1)}


class Insid3StandIn(StandIn):
    def set_reference(self, image, mask):
        assert image.size == mask.size and mask.mode == 'L'
        self.references.append(image)

    def set_target(self, image):
        self.target = image

    def segment(self):
        assert len(self.references) in (1, 5)
        self.references.clear()
        return self.found(self.target.height, self.target.width)


class GfSamStandIn(StandIn):
    def set_reference(self, images, masks):
        assert images.shape[:3] == (*masks.shape[:2], 3) and images.shape[3:] == masks.shape[2:]
        assert images.dtype == masks.dtype == self.torch.float32 and 0 <= images.max() <= 1

    def set_target(self, image):
        assert image.shape[:2] == (1, 3)
        self.target = image

    def predict(self):
        return self.found(*self.target.shape[2:])[None].float(), None

    def clear(self):
        self.target = None


def test_the_recipes_of_the_guide_call_the_three_projects_as_they_want(measure, monkeypatch):
    """Stand-ins take the place of the projects and their weights; the rest runs as it is on the page."""
    torch = pytest.importorskip('torch', reason='the three projects are in PyTorch')

    def put(name, **members):
        module = types.ModuleType(name)
        vars(module).update(members)
        monkeypatch.setitem(sys.modules, name, module)

    for name in ('sam3', 'sam3.model', 'matcher'):
        put(name)
    put('sam3.model_builder', build_sam3_image_model=lambda: torch)
    put('sam3.model.sam3_image_processor', Sam3Processor=StandIn)
    put('models', build_insid3=lambda: Insid3StandIn(torch))
    put('matcher.GFSAM', build_model=lambda args: GfSamStandIn(torch))
    sam, insid3, gf_sam = blocks_of_the_guide()[1:]
    on_cpu = gf_sam.replace('cuda:0', 'cpu').replace('size=1024', f'size={SIDE}')
    for name, code in {'sam3_canvas': sam, 'insid3': insid3, 'gf_sam': on_cpu}.items():
        exec(code, {})
        (path,) = Path(f'runs/{name}/eval').glob('*.json')
        shots = read_result(path)['shots']
        assert all(0 < one['square']['miou'] < 1 for one in shots.values())
        assert list(shots) == (['1'] if name == 'sam3_canvas' else ['1', '5'])
