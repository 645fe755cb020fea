"""Draw the training's supports, each next to its transformed copy (transformed-pair conditioning)."""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from simpropnet_jax.config import rules as config_rules
from simpropnet_jax.episodes.loader import train_batches
from simpropnet_jax.episodes.transform import OFF, transform
from simpropnet_jax.io import overlay
from simpropnet_jax.io.labels import FOREGROUND, VOID
from simpropnet_jax.setup.data import open_data, training_sampler

IN_A_ROW = 2  # pairs


def draw(config: ConfigDict, count: int) -> np.ndarray:
    """Draw `count` pairs, u8 [H, W, 3]; the config's seed decides the pairs and their transforms.

    Raises:
      ValueError, OSError: the config is not valid, or its data set cannot be read.
    """
    config_rules.validate(config, jax.device_count(), jax.process_count())
    source = open_data(config)
    size = config.train.size
    batches = train_batches(
        source,
        training_sampler(config, source),
        batch=count,
        first_step=0,
        support_size=size,
        query_size=size,
        backend=config.data.loader,
        workers=config.data.workers,
    )
    batch = next(batches)
    batches.close()
    images, labels = batch['support_image'][:, 0], batch['support_label'][:, 0]
    keys = jax.random.split(jax.random.key(config.seed), count)
    pairs = []
    for number, (key, image, label) in enumerate(zip(keys, images, labels, strict=True)):
        name, strengths = _shown(config.tpc, number)
        moved = jax.device_get(transform(key, jnp.asarray(image), jnp.asarray(label), strengths))
        pairs.append(
            overlay.captioned(overlay.beside([_overlay(image, label), _overlay(*moved)]), name)
        )
    return _grid(pairs)


def _shown(strengths: ConfigDict, number: int) -> tuple[str, ConfigDict]:
    """Return name and strengths of pair `number`: first each active transform alone, always applied; then all."""
    names = [name for name in OFF if strengths[name] != OFF[name]]
    if number >= len(names):
        return 'together', strengths
    name = names[number]
    certain = 1.0 if name == 'flip' else strengths[name]
    return name, ConfigDict({**OFF, name: certain, 'probability': 1.0})


def _overlay(image, label):
    return overlay.tinted(image.astype(np.uint8), label == FOREGROUND, overlay.TRUTH, label == VOID)


def _grid(pairs):
    """Arrange pairs in rows of `IN_A_ROW`; pad the last row with white."""
    pairs = pairs + [np.full_like(pairs[0], 255)] * (-len(pairs) % min(IN_A_ROW, len(pairs)))
    return overlay.below(
        [overlay.beside(pairs[i : i + IN_A_ROW]) for i in range(0, len(pairs), IN_A_ROW)]
    )
