"""The formats of pictures that are opened, by Pillow's names; others may start programs (EPS: Ghostscript)."""

import functools

PICTURES = ('AVIF', 'BMP', 'GIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP')
"""Of images and masks that a user gives: the formats of `io.images.ENDINGS`."""

STORED = ('JPEG', 'PNG')
"""Of prepared data sets, and of what this package writes."""


@functools.cache
def pictures() -> tuple[str, ...]:
    """Return those of `PICTURES` that the installed Pillow reads: AVIF came with 11.3."""
    from PIL import Image

    Image.init()
    return tuple(name for name in PICTURES if name in Image.OPEN)
