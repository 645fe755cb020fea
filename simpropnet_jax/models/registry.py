"""Registry of methods by name. A method registers itself in the module that defines it.

    @register_method('simpropnet', title='SimPropNet')
    class SimPropNet(FewShotMethod): ...

What a method can do is declared on its class (see `FewShotMethod` and `SupervisedNetwork`): `supervised`, `few_shot`,
`imprinting`, `iterative`. Every module of this package is searched, and every installed package with an entry point in
the group `simpropnet_jax.methods`.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

if TYPE_CHECKING:
    from simpropnet_jax.models.method import FewShotMethod, SupervisedNetwork

ENTRY_POINTS = 'simpropnet_jax.methods'
# Fields of config.model for the source of the weights and how they are read; modules do not have them.
NOT_OF_MODULE = ('name', 'weights', 'trained', 'convention', 'dtype')
# Fields of config.model that every method has, with the value that a module without the field has, too.
OF_ENCODERS = {'encoder': 'resnet50', 'levels': ()}
# Fields of a module that do not come from config.model.
NOT_OF_CONFIG = ('stride_on', 'dtype', 'novel', 'classes', 'parent', 'name')


class Registered(NamedTuple):
    """A method's class, its name in tables, and its recipe."""

    module: 'type[FewShotMethod] | type[SupervisedNetwork]'
    title: str
    recipe: str


_methods: dict[str, Registered] = {}


def register_method(name: str, *, title: str, recipe: str = '') -> Callable[[type], type]:
    """Register a class as the method `config.model.name`.

    Args:
      name: the value of `config.model.name`.
      title: what tables call the method.
      recipe: name of its recipe in configs/, if it is not `name`.
    Returns:
      A decorator that returns the class.
    Raises:
      ValueError: another class has the name.

    Examples:
      >>> from simpropnet_jax import register_method
      >>> from simpropnet_jax.models.method import FewShotMethod
      >>> @register_method('mine', title='My method')
      ... class Mine(FewShotMethod):
      ...     width: int = 8
      >>> title('mine')
      'My method'
    """

    def register(module: type) -> type:
        known = _methods.get(name)
        if known and known.module.__qualname__ != module.__qualname__:
            raise ValueError(f'the method {name!r} is already {known.module.__qualname__}')
        _methods[name] = Registered(module, title, recipe or name)
        return module

    return register


def registered() -> dict[str, Registered]:
    """Return every method by name, sorted."""
    _import_methods()
    return dict(sorted(_methods.items()))


@functools.cache
def _import_methods() -> None:
    """Import the package's methods and those of installed packages; reading every package's metadata takes long."""
    package = importlib.import_module('simpropnet_jax.models')
    for found in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):
        importlib.import_module(found.name)
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        entry_point.load()


def find(name: str) -> Registered:
    """Return the method of that name.

    Raises:
      ValueError: no method has this name.
    """
    known = registered()
    if name not in known:
        raise ValueError(f'config.model.name must be one of {", ".join(known)}, got {name!r}')
    return known[name]


def title(name: str) -> str:
    """Return a method's title in tables; a method that is not installed keeps its name."""
    known = registered()
    return known[name].title if name in known else name


def build(model, stride_on: str, novel: tuple[int, ...] = ()) -> nn.Module:
    """Build the module that `config.model` describes.

    Args:
      model: `config.model`.
      stride_on: convolution of the backbone's blocks that strides, '1x1' or '3x3', as in its weights.
      novel: class ids that the fold holds out. Only an imprinting method gets them, because its classifier must not
        know these classes.
    Raises:
      ValueError: no method has this name, or the method lacks one of the fields.
    """
    module = find(model.name).module
    given = {name: value for name, value in model.items() if name not in NOT_OF_MODULE}
    known = {field.name for field in dataclasses.fields(module)}
    for name, value in OF_ENCODERS.items():
        if name not in known and given.get(name) == value:
            del given[name]
    unknown = sorted(given.keys() - (known - set(NOT_OF_CONFIG)))
    if unknown:
        fields = ', '.join(sorted(known - set(NOT_OF_CONFIG)))
        raise ValueError(
            f'config.model.{unknown[0]} is no field of {model.name}; its fields are {fields}'
        )
    if module.imprinting:
        given['novel'] = novel
    given |= {'stride_on': stride_on, 'dtype': jnp.dtype(model.dtype)}
    return module(**given)


def backbones(name: str) -> dict[str, int]:
    """Return the parts of a method that start from ImageNet's weights; see `FewShotMethod.backbones`."""
    return find(name).module.backbones
