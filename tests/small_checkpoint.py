"""A work directory with a small random network, without a training."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np

from configs import simpropnet
from simpropnet_jax.runtime import checkpoint
from simpropnet_jax.setup.method import Method
from simpropnet_jax.setup.run import store_config
from tests.fakes import SMALL


def write_checkpoint(workdir, steps=(1,), recipe=simpropnet, **model):
    """Checkpoints of other weights at each step, the first the best. Returns the method and {step: weights}.

    Args:
      recipe: of `configs`; model: fields of its `config.model`.
    """
    config = recipe.get_config('fold=1')
    gain = {'attention_gain': 50.0} if recipe is simpropnet else {}
    own = {
        f'model.{name}': value
        for name, value in ({'convention': 'torchvision'} | gain | model).items()
    }
    config.update_from_flattened_dict(SMALL | own)
    method = Method.from_config(config)
    store_config(config, workdir)
    weights = {step: random_weights(method, step) for step in steps}
    with contextlib.closing(checkpoint.Checkpoints(workdir / 'checkpoints')) as checkpoints:
        for step in steps:
            checkpoints.save(step, {'variables': weights[step]}, score=1 / step)
    return method, weights


def random_weights(method, seed):
    """In place of `method.init`, which takes long to compile; scaled so that the signal neither grows nor fades."""
    rng = np.random.default_rng(seed)

    def draw(x):
        fan_in = math.prod(x.shape[:-1]) if len(x.shape) > 1 else 200  # a bias is small
        return jnp.asarray(rng.normal(0, math.sqrt(2 / fan_in), x.shape), x.dtype)

    return jax.tree.map(draw, method.abstract())
