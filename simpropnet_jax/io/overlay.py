"""Pictures of episodes: overlays, heat maps, and panels that put them side by side. NumPy in, uint8 RGB out."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from simpropnet_jax.io.labels import VOID
from simpropnet_jax.runtime.paths import AnyPath

# Blue and orange: colour-blind readers can tell them apart.
TRUTH = (0, 150, 255)
PREDICTION = (255, 140, 0)
VOID_GRAY = (128, 128, 128)
GAP = 4  # pixels between pictures
CAPTION = 18  # pixels of the line above a picture
SMALLEST_TEXT = 7  # pixels


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
      colors: u8 [N, 3]; the label is the index.
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
    scale: int = 1,
) -> dict[str, np.ndarray]:
    """Draw one episode: support, truth, the method's maps, and the prediction with the truth's outline, by heading.

    Args:
      support, query: u8 [S, S, 3].
      support_label, query_label: u8 [S, S], 0, 1 or 255.
      prediction: bool [S, S].
      maps: float [h, w] each, by name.
      scale: factor on the side of every picture.
    """
    size = tuple(scale * side for side in query.shape[:2])
    return {
        'support': tinted(support, support_label == 1, TRUTH, support_label == VOID, scale),
        'truth': tinted(query, query_label == 1, TRUTH, query_label == VOID, scale),
        # foreground before background
        **{name: heat(maps[name], size) for name in sorted(maps, reverse=True)},
        'prediction': predicted(query, prediction, query_label == 1, scale),
    }


def tinted(image, mask, color: Sequence[int], void=None, scale: int = 1) -> np.ndarray:
    """Draw a mask over an enlarged image, with an outline; see `overlay`."""
    void = None if void is None else enlarged_mask(void, scale)
    mask = enlarged_mask(mask, scale)
    return outlined(overlay(enlarged(image, scale), mask, color, void), mask, color)


def predicted(image, prediction, truth, scale: int = 1) -> np.ndarray:
    """Draw a predicted mask over an enlarged image, and the outline of the truth."""
    picture = tinted(image, prediction, PREDICTION, scale=scale)
    return outlined(picture, enlarged_mask(truth, scale), TRUTH)


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge an image by a whole factor, smoothly."""
    size = (scale * image.shape[1], scale * image.shape[0])
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def enlarged_mask(mask: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge a mask by a whole factor, with smooth edges."""
    return enlarged(np.where(mask, np.uint8(255), np.uint8(0)), scale) > 127


def outlined(picture: np.ndarray, mask: np.ndarray, color: Sequence[int]) -> np.ndarray:
    """Draw the outline of a mask, a hundredth of the picture wide."""
    width = max(1, mask.shape[1] // 150)
    solid = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    inside = np.asarray(solid.filter(ImageFilter.MinFilter(2 * width + 1))) > 0
    result = picture.copy()
    result[mask & ~inside] = color
    return result


def headed(rows: Sequence[Mapping[str, np.ndarray]], titles: Sequence[str]) -> np.ndarray:
    """Draw rows of pictures below each other, with their headings at the top and a title above each row."""
    line = text_line(list(rows[0]), [picture.shape[1] for picture in rows[0].values()])
    drawn = [
        captioned(beside(list(row.values())), title)
        for row, title in zip(rows, titles, strict=True)
    ]
    return below([line, *drawn])


def text_line(texts: Sequence[str], widths: Sequence[int]) -> np.ndarray:
    """Draw texts next to each other, each over a picture of that width."""
    blank = [np.full((0, width, 3), 255, np.uint8) for width in widths]
    return beside([captioned(one, text) for one, text in zip(blank, texts, strict=True)])


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row."""
    gap = np.full((pictures[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], 1)


def below(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one width in a column."""
    gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for row in rows for part in (row, gap)][:-1], 0)


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """Draw a line of text above a picture, small enough to fit: u8 [CAPTION + H, W, 3]."""
    line = Image.new('RGB', (picture.shape[1], CAPTION), 'white')
    draw, height = ImageDraw.Draw(line), CAPTION - 5
    while (
        height > SMALLEST_TEXT
        and draw.textlength(text, ImageFont.load_default(height)) > line.width - 4
    ):
        height -= 1
    draw.text((2, CAPTION // 2), text, 'black', ImageFont.load_default(height), 'lm')
    return np.concatenate([np.asarray(line), picture], 0)


def save(picture: np.ndarray, path: AnyPath) -> None:
    """Writes a picture, in the format of the path's ending; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        Image.fromarray(picture).save(file, Image.registered_extensions()[path.suffix], quality=90)
