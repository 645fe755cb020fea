"""The sample pictures that the wheel carries."""

import numpy as np
from PIL import Image

from simpropnet_jax.inference import read_support
from simpropnet_jax.samples import samples


def test_samples_are_small_and_have_masks():
    found = samples()
    assert len(found) == 5 and len({one.name for one in found}) == 5
    licences = (found[0].image.parent / 'LICENSES.md').read_text()
    for one in found:
        assert one.image.stat().st_size < 150_000 and one.mask.stat().st_size < 10_000
        assert f'`{one.image.name}`' in licences
        assert np.unique(Image.open(one.mask).convert('L')).tolist() == [0, 255]
        _, label = read_support(one.image, one.mask)
        assert 0.01 < label.mean() < 0.9
