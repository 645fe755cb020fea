"""A backbone to train: a linear layer on its features classifies every pixel."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from simpropnet_jax.models.layers import Conv
from simpropnet_jax.models.prototype import Prototype
from simpropnet_jax.models.registry import register_method


@register_method('classifier', title='classifier', recipe='shapes')
class Classifier(Prototype):
    """Train with supervision on base classes; segment novel classes like the prototype.

    Use it to train a backbone if there are no pretrained weights: `config.model.weights` of another method may name
    the run's work directory.
    """

    supervised = True

    classes: int = 21  # background and the 20 classes; classes without labels stay unused

    def setup(self):
        super().setup()
        self.classify = Conv(self.classes, kernel=1, dtype=self.dtype)

    def __call__(self, images, masks):
        """Run one pass over everything to create the parameters."""
        self.logits(images)
        return super().__call__(images, masks)

    def logits(
        self, images: Float[Array, 'n H W 3'], train: bool = False
    ) -> Float[Array, 'n h w k']:
        """Compute logits of every class at 1/8 of the images' size."""
        return self.classify(self.encode(images, train)).astype(jnp.float32)
