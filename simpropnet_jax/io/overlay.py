"""Pictures of episodes: overlays, heat maps, and panels that put them side by side. NumPy in, uint8 RGB out."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime.paths import AnyPath

TRUTH = (40, 200, 80)
PREDICTION = (230, 60, 60)
VOID_GRAY = (128, 128, 128)
GAP = 4  # pixels between pictures
CAPTION = 18  # pixels of the line above a picture


def overlay(
    image: np.ndarray, mask: np.ndarray, color: Sequence[int], void: np.ndarray | None = None
) -> np.ndarray:
    """The image with the mask tinted in a colour, and its outline in full colour.

    Args:
      image: u8 [H, W, 3].
      mask: bool [H, W].
      void: bool [H, W], shown in gray.
    """
    result = image.astype(np.float32)
    result[mask] = 0.45 * result[mask] + 0.55 * np.array(color)
    inside = np.pad(mask, 1, 'edge')
    inside = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    result[mask & ~inside] = color
    if void is not None:
        result[void] = 0.45 * result[void] + 0.55 * np.array(VOID_GRAY)
    return result.astype(np.uint8)


def overlay_classes(image: np.ndarray, label: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """As `overlay` for several classes at once, in whole numbers and so in less time and memory.

    Args:
      image: u8 [H, W, 3].
      label: u8 [H, W], 0 where nothing is tinted.
      colors: u8 [N, 3], of which the label is the index.
    """
    color = colors[label]
    tinted = ((115 * image.astype(np.uint16) + 141 * color.astype(np.uint16)) >> 8).astype(
        np.uint8
    )  # of 256
    result = np.where(label[..., None] > 0, tinted, image)
    near = np.pad(label, 1, 'edge')
    same = [near[:-2, 1:-1], near[2:, 1:-1], near[1:-1, :-2], near[1:-1, 2:]]
    outline = np.logical_or.reduce([label != one for one in same]) & (label > 0)
    result[outline] = color[outline]
    return result


def heat(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map, float [h, w], from its lowest value (dark blue) to its highest (yellow), u8 [H, W, 3]."""
    low, high = float(values.min()), float(values.max())
    unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
    big = np.asarray(Image.fromarray(unit.astype(np.float32)).resize(size[::-1], Image.BILINEAR))
    stops = np.array([[13, 8, 135], [156, 23, 158], [237, 121, 83], [240, 249, 33]], np.float32)
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(big, at, stops[:, channel]) for channel in range(3)], -1).astype(
        np.uint8
    )


def panel(
    support: np.ndarray,
    support_label: np.ndarray,
    query: np.ndarray,
    query_label: np.ndarray,
    prediction: np.ndarray,
    maps: Mapping[str, np.ndarray],
) -> np.ndarray:
    """One episode as a row: support with its mask, query with the truth, the method's maps by name, prediction.

    Args:
      support, query: u8 [S, S, 3].
      support_label, query_label: u8 [S, S], 0, 1 or 255.
      prediction: bool [S, S].
      maps: float [h, w] each; SimPropNet's are background, then foreground attention.
    """
    pictures = [
        overlay(support, support_label == 1, TRUTH, support_label == VOID),
        overlay(query, query_label == 1, TRUTH, query_label == VOID),
        *(heat(values, query.shape[:2]) for _, values in sorted(maps.items())),
        overlay(query, prediction, PREDICTION),
    ]
    return beside(pictures)


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], 1)


def below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one width in a column."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], 0)


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text above it, u8 [CAPTION + H, W, 3]."""
    image = Image.new('RGB', (picture.shape[1], picture.shape[0] + CAPTION), 'white')
    image.paste(Image.fromarray(picture), (0, CAPTION))
    ImageDraw.Draw(image).text(
        (2, CAPTION // 2), text, 'black', ImageFont.load_default(CAPTION - 5), 'lm'
    )
    return np.asarray(image)


def save(picture: np.ndarray, path: AnyPath) -> None:
    """Writes a picture, in the format of the path's ending; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        Image.fromarray(picture).save(file, Image.registered_extensions()[path.suffix], quality=90)
