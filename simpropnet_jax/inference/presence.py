"""Is the object in the picture at all? Scores from the maps that every method has.

Certainty is the mean probability inside the mask, 0 for an empty mask. In the cycle, the query becomes the support,
with the mask that was found in it, and predicts the supports (PANet's alignment and cyclic reinforcement train this).
Supports differ in how well any query predicts them, so the relative cycle divides by the IoU at which they predict
themselves.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.models.layers import resize_mask

ABSENT = -1e4  # log odds of a class that is not there; finite, so that they can be resized
SCORE = 'certainty'  # what `Segmenter` uses; docs/results/views.md compares
TOP = 0.01  # share of a picture's positions whose mean is 'top'


def check(absent_below: float | None) -> float | None:
    """Return itself.

    Raises:
      ValueError: it is not a presence score.
    """
    if absent_below is not None and not 0 < absent_below < 1:
        raise ValueError(f'--absent_below must be between 0 and 1, got {absent_below}')
    return absent_below


def scores(
    module,
    variables,
    query: Any,
    probe: Any,
    log_odds: Float[Array, 'h w'],
    supports: Any,
    masks: Float[Array, 'k S S'],
    valid: Float[Array, 'k S S'],
) -> dict[str, Float[Array, '']]:
    """Return scores of presence, each larger where the object is more likely there.

    Args:
      module: a few-shot method; variables: its {'params': ...}.
      query: features of the query, as a batch of one.
      probe: of the supports.
      log_odds: what was found in the query.
      supports: features of the supports.
      masks, valid: of the supports; valid is 0 at void pixels.
    """

    def run(method, *args):
        return module.apply(variables, *args, method=method)

    def foreground(difference):
        return jax.nn.sigmoid(module.logit_scale * difference.astype(jnp.float32))

    def cycle(found):
        return agreement(run('own_probe', query, found[None], jnp.ones_like(found)[None]))

    def agreement(one):
        one = jax.tree.map(lambda x: jnp.broadcast_to(x, (len(masks), *x.shape[1:])), one)
        logits = run('decode', supports, one)
        predicted = foreground(logits[..., 1] - logits[..., 0])
        truth, counted = (
            resize_mask(x, predicted.shape[1:], module.grid.half_pixel) for x in (masks, valid)
        )
        shared = (jnp.minimum(predicted, truth) * counted).sum((1, 2))
        either = (jnp.maximum(predicted, truth) * counted).sum((1, 2))
        return (shared / jnp.maximum(either, 1e-6)).mean()

    probability = foreground(log_odds)
    hard = (log_odds > 0).astype(jnp.float32)
    around = cycle(probability)
    shown = next(iter(run('maps', query, probe).values()))
    return {
        'attention': highest_mean(shown.ravel()),
        'cycle': around,
        'relative cycle': jnp.minimum(around / jnp.maximum(agreement(probe), 1e-6), 1),
        'hard cycle': cycle(hard) * hard.any(),
        'top': highest_mean(log_odds.ravel()),
        'certainty': (probability * hard).sum() / jnp.maximum(hard.sum(), 1),
        'area': hard.mean(),
    }


def highest_mean(values: Float[Array, ' n']) -> Float[Array, '']:
    """Return the mean of the highest values, `TOP` of all."""
    return jax.lax.top_k(values, max(int(TOP * values.size), 1))[0].mean()
