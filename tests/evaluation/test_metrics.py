"""The metric against loops over single pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from simpropnet_jax.evaluation.engine import metrics


def random_episodes(n=24, size=9, seed=0):
    rng = np.random.default_rng(seed)
    prediction = rng.random((n, size, size)) < 0.4
    label = rng.choice([0, 1, 255], (n, size, size), p=[0.5, 0.3, 0.2]).astype(np.uint8)
    return prediction, label, np.array([3, 7, 11])[rng.integers(0, 3, n)]


def brute_force(prediction, label):
    """[E, 4]: foreground intersection and union, background intersection and union, pixel by pixel."""
    result = np.zeros((len(label), 4), int)
    for e, (p, t) in enumerate(zip(prediction, label, strict=True)):
        for fg, truth in zip(p.reshape(-1), t.reshape(-1), strict=True):
            if truth == 255:
                continue
            result[e] += [
                fg and truth == 1,
                fg or truth == 1,
                not fg and truth == 0,
                not fg or truth == 0,
            ]
    return result


@pytest.mark.parametrize('array', [np.asarray, jnp.asarray])
def test_counts_equal_a_loop_over_pixels(array):
    prediction, label, _ = random_episodes()
    found = metrics.counts(array(prediction), array(label))
    np.testing.assert_array_equal(np.stack(found, -1), brute_force(prediction, label))


def test_miou_and_fb_iou_equal_sums_over_all_episodes():
    prediction, label, class_ids = random_episodes()
    pixels = brute_force(prediction, label)
    totals = metrics.accumulate(metrics.counts(prediction, label), class_ids, (3, 7, 11))
    per_class = []
    for c in (3, 7, 11):
        intersection, union = pixels[class_ids == c, :2].sum(0)
        per_class.append(intersection / union)
    np.testing.assert_allclose(metrics.class_iou(totals), per_class, rtol=1e-12)
    assert metrics.miou(totals) == pytest.approx(sum(per_class) / 3, rel=1e-12)
    all_pixels = pixels.sum(0)
    expected = (all_pixels[0] / all_pixels[1] + all_pixels[2] / all_pixels[3]) / 2
    assert metrics.fb_iou(totals) == pytest.approx(expected, rel=1e-12)


def test_miou_is_not_the_mean_over_images():
    label = np.zeros((2, 10, 10), np.uint8)
    label[0, :, :] = 1
    label[1, 0, 0] = 1
    prediction = np.zeros((2, 10, 10), bool)
    prediction[0] = True
    totals = metrics.accumulate(metrics.counts(prediction, label), [4, 4], (4,))
    assert metrics.miou(totals) == pytest.approx(100 / 101)


def test_void_counts_nowhere():
    label = np.full((1, 4, 4), 255, np.uint8)
    assert all(int(x[0]) == 0 for x in metrics.counts(np.ones((1, 4, 4), bool), label))


def test_sums_do_not_overflow_32_bits():
    pixels = np.full(1000, 4000 * 4000, np.int32)
    totals = metrics.accumulate(
        metrics.Counts(pixels, pixels, pixels, pixels), np.full(1000, 1), (1,)
    )
    assert totals.union[0] == 16_000_000_000


def test_summary_has_the_sample_deviation_over_seeds():
    def totals(intersection):
        one = np.array([100])
        return metrics.Totals((1,), np.array([intersection]), one, one, one)

    summary = metrics.summarise(
        {0: totals(40), 5: totals(50), 9: totals(60)}, ('background', 'aeroplane')
    )
    assert summary['miou'] == pytest.approx(0.5) and summary['miou_std'] == pytest.approx(0.1)
    assert summary['seeds']['9'] == {'miou': 0.6, 'fb_iou': 0.8, 'per_class': {'aeroplane': 0.6}}
    assert summary['per_class'] == {'aeroplane': 0.5}
    assert metrics.summarise({0: totals(40)}, ('background', 'aeroplane'))['miou_std'] is None


def test_a_class_without_episodes_is_refused():
    prediction, label, class_ids = random_episodes()
    counts = metrics.counts(prediction, label)
    with pytest.raises(ValueError, match=r'classes \[12\] have no episode'):
        metrics.accumulate(counts, class_ids, (3, 7, 11, 12))
    with pytest.raises(ValueError, match=r'classes \[11\], not among'):
        metrics.accumulate(counts, class_ids, (3, 7))
