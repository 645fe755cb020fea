"""Where features lie in a square image, and which sides of the square fit them."""

from typing import NamedTuple


class Grid(NamedTuple):
    """A grid of features.

    Attributes:
      stride: pixels between two features.
      half_pixel: False: the first and the last feature lie on the first and the last pixel, so that feature i is pixel
        `stride * i` of 8n+1. True: features are the middles of patches, as in a ViT, so that feature i lies between
        pixels, at `stride * (i + 1/2) - 1/2` of 14n.
    """

    stride: int = 8
    half_pixel: bool = False

    @property
    def sizes(self) -> str:
        """The sides that fit, in words."""
        return f'{self.stride}n' if self.half_pixel else f'{self.stride}n + 1'

    def fits(self, side: int | float) -> bool:
        """Whether a square of this side holds a whole number of features."""
        return side % self.stride == (0 if self.half_pixel else 1)

    def nearest(self, side: int | float) -> int:
        """Return the side that fits and is nearest; at least one stride."""
        more = 0 if self.half_pixel else 1
        return max(round((side - more) / self.stride), 1) * self.stride + more


STRIDE_8 = Grid()
"""The grid of ResNets and VGG-16."""
