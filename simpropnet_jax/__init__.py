"""Few-shot image segmentation in JAX: SimPropNet and the PASCAL-5i benchmark.

Segment with a trained method:

    from simpropnet_jax import Segmenter

    segmenter = Segmenter.from_checkpoint('runs/fold2')
    mask, probability = segmenter.segment('query.jpg', supports=[('cat.jpg', 'cat.png')])

`evaluate` measures a trained method on its held-out classes. `register_method` adds a method. Everything is imported at
first use, so `import simpropnet_jax` alone loads no library.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simpropnet_jax.evaluation.evaluate import evaluate
    from simpropnet_jax.inference import Segmenter
    from simpropnet_jax.models import register_method

    __version__: str

__all__ = ['Segmenter', '__version__', 'evaluate', 'register_method']

# Public name -> where it is: module and name.
_PLACES = {
    'Segmenter': ('simpropnet_jax.inference', 'Segmenter'),
    'evaluate': ('simpropnet_jax.evaluation.evaluate', 'evaluate'),
    'register_method': ('simpropnet_jax.models', 'register_method'),
}


def __getattr__(name: str) -> Any:
    if name == '__version__':
        value = importlib.metadata.version('simpropnet-jax')
    elif name in _PLACES:
        module, attribute = _PLACES[name]
        value = getattr(importlib.import_module(module), attribute)
    else:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
