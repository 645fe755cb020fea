"""Parameters of a network that is applied again: their shapes are compared, their initializers not traced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import errors

from simpropnet_jax.backbones.parameter import parameter


class Scaled(nn.Module):
    initializer: object

    @nn.compact
    def __call__(self, x):
        return x * parameter(self, 'scale', self.initializer, x.shape[-1:])


def test_a_networks_own_parameter_is_used_and_its_initializer_is_not_traced():
    def once(key, shape):
        calls.append(shape)
        return nn.initializers.normal()(key, shape)

    calls = []
    module, x = Scaled(once), jnp.ones((2, 3))
    variables = module.init(jax.random.key(0), x)
    expected = nn.initializers.normal()
    assert calls == [(3,)]
    jax.jit(module.apply)(variables, x)
    assert calls == [(3,)]
    same = Scaled(expected).init(jax.random.key(0), x)
    assert (variables['params']['scale'] == same['params']['scale']).all()


def test_a_parameter_of_another_shape_is_refused():
    module = Scaled(nn.initializers.ones_init())
    variables = module.init(jax.random.key(0), jnp.ones((2, 3)))
    with pytest.raises(errors.ScopeParamShapeError, match='scale'):
        module.apply(variables, jnp.ones((2, 4)))
