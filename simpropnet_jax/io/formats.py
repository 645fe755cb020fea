"""The formats of pictures that are opened, by Pillow's names; others may start programs (EPS: Ghostscript)."""

import contextlib
import functools

PICTURES = ('AVIF', 'BMP', 'GIF', 'HEIF', 'JPEG', 'JPEG2000', 'PNG', 'PPM', 'TIFF', 'WEBP')
"""Of images and masks that a user gives: the formats of `io.images.ENDINGS`."""

STORED = ('JPEG', 'PNG')
"""Of prepared data sets, and of what this package writes."""


@functools.cache
def pictures() -> tuple[str, ...]:
    """Return the formats of `PICTURES` that are read here: AVIF came with Pillow 11.3, HEIF needs pillow-heif."""
    from PIL import Image

    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in PICTURES if name in Image.OPEN)
